"""BARTScore of pairs of texts, ours beside the original recipe on transformers and torch, same random weights.

    python tests/benchmarks/bart_score.py                 (needs the extra `parity`; minutes, 6 GB of memory)

Lengths are drawn as those of explanations in the IMHI benchmark are distributed (about 107 and 93 tokens). The peer is
the original's loop: batches of 4 in the order given, padded, `NLLLoss` over the whole vocabulary. Runs alternate; the
figure is the median of the ratios of neighbouring runs. The scores of both are compared.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np


def lengths(pairs: int) -> list[tuple[int, int]]:
    """Tokens of the source and the target of each pair."""
    source = np.random.default_rng(0)
    logs = source.multivariate_normal([4.65, 4.49], [[0.227**2, 0.012], [0.012, 0.267**2]], pairs)
    return [(int(first), int(second)) for first, second in np.exp(logs)]


def texts(pairs: int, vocabulary: int) -> list[tuple[list[int], list[int]]]:
    """Random ids between `<s>` and `</s>`."""
    source = np.random.default_rng(1)
    make = lambda count: [0, *source.integers(4, vocabulary, count - 2).tolist(), 2]  # noqa: E731
    return [(make(first), make(second)) for first, second in lengths(pairs)]


def torch_scores(model, pairs: list[tuple[list[int], list[int]]], batch: int = 4) -> list[float]:
    """The original's `score`, from token ids on."""
    import torch

    loss = torch.nn.NLLLoss(reduction="none", ignore_index=1)
    found: list[float] = []
    with torch.no_grad():
        for start in range(0, len(pairs), batch):
            part = pairs[start : start + batch]
            sources, targets = ([torch.tensor(pair[side]) for pair in part] for side in (0, 1))
            pad = lambda rows: torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=1)  # noqa: E731
            source_ids, target_ids = pad(sources), pad(targets)
            output = model(input_ids=source_ids, attention_mask=(source_ids != 1).long(), labels=target_ids)
            logs = torch.log_softmax(output.logits.view(-1, model.config.vocab_size), dim=1)
            lost = loss(logs, target_ids.view(-1)).view(len(part), -1).sum(dim=1)
            found += (-lost / (target_ids != 1).sum(dim=1)).tolist()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--layers", type=int, default=12, help="of encoder and decoder each (default: bart-large's 12)")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    import jax
    import torch
    from transformers import BartConfig, BartForConditionalGeneration

    from mentallama_jax.formats.load import load_model
    from mentallama_jax.host_memory import keep_freed_memory
    from mentallama_jax.scorers.bart_score import SequenceScorer

    keep_freed_memory()  # for both: they are one process
    torch.manual_seed(0)
    config = BartConfig(vocab_size=50264, encoder_layers=options.layers, decoder_layers=options.layers)
    peer = BartForConditionalGeneration(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        peer.save_pretrained(folder)
        scorer = SequenceScorer(*load_model(Path(folder)))
    pairs = texts(options.pairs, config.vocab_size)

    def ours() -> list[float]:
        found: dict[int, float] = {}
        for part in scorer.scores(pairs):
            found |= part
        return [found[place] for place in range(len(pairs))]

    start = time.perf_counter()
    first = ours()
    compiled = time.perf_counter() - start
    times: dict[str, list[float]] = {"ours": [], "torch": []}
    for _ in range(options.runs):
        for name, run in (("torch", lambda: torch_scores(peer, pairs)), ("ours", ours)):
            start = time.perf_counter()
            scores = run()
            times[name].append(time.perf_counter() - start)
            if name == "torch":
                difference = float(np.abs(np.array(scores) - np.array(first)).max())
    ratios = [peer_time / own for peer_time, own in zip(times["torch"], times["ours"], strict=True)]
    print(
        json.dumps(
            {
                "pairs": options.pairs,
                "layers": options.layers,
                "device": jax.devices()[0].device_kind,
                "threads": torch.get_num_threads(),
                "load": os.getloadavg()[0],
                "first run with compilation, s": round(compiled, 1),
                "ours, pairs/s": round(options.pairs / min(times["ours"]), 2),
                "torch, pairs/s": round(options.pairs / min(times["torch"]), 2),
                "ratio, median": round(statistics.median(ratios), 2),
                "ratios": [round(ratio, 2) for ratio in ratios],
                "largest difference": difference,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
