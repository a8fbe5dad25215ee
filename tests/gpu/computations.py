"""What the tests of a GPU compute twice: in their own process, and here, which is meant for a CPU.

    JAX_PLATFORMS=cpu python tests/gpu/computations.py FOLDER

A part that is finished has the file FOLDER/PART.done.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT), str(ROOT / "tests" / "scorers")]

from small_sequence_model import CONFIG as TINY_BART  # noqa: E402

from mentallama_jax.cli.main import main  # noqa: E402

DRY = os.environ.get("MENTALLAMA_GPU_TESTS") == "dry"
EPOCHS = 0.3 if DRY else 2
"""Of 21 updates."""
ROWS = 1 if DRY else 100
"""Of each data set to answer."""
BARTS = {
    "widths of 4 and 8": TINY_BART,
    "widths of 64": replace(
        TINY_BART, hidden_size=256, decoder_heads=4, encoder_intermediate=512, decoder_intermediate=512
    ),
}
BERTS = ROOT / "tests" / "fixtures" / "bert_score"


@contextmanager
def exact() -> Iterator[None]:
    """Products of fp32 in fp32; by default GPUs round their inputs to the 10 bits of TF32."""
    import jax

    with jax.default_matmul_precision("highest"):
        yield


def tune_toy(run_dir: Path, dtype: str) -> dict[int, float]:
    """Tune the toy; return the loss of each update."""
    command = [
        "train",
        str(ROOT / "configs" / "toy.yaml"),
        f"training.run_dir={run_dir}",
        f"training.epochs={EPOCHS}",
        f"model.compute_dtype={dtype}",
        "evaluation.generate_rows=0",
        "evaluation.metric=validation_loss",
    ]
    if main(command) != 0:
        raise RuntimeError("training failed")
    rows = map(json.loads, (run_dir / "metrics.jsonl").read_text("utf-8").splitlines())
    return {row["step"]: row["loss"] for row in rows if row["kind"] == "train"}


def answer(run_dir: Path, out: Path, *options: str) -> list[dict]:
    """Answer the sample's test rows in fp32; return the predictions."""
    command = ["generate", str(run_dir), "--data", "sample:test", "--out", str(out), "--dtype", "float32"]
    if main([*command, "--max-new-tokens", "48", "--max-rows", str(ROWS), *options]) != 0:
        raise RuntimeError("generation failed")
    return [json.loads(line) for line in out.read_text("utf-8").splitlines()]


def parameters(config, seed: int = 0):
    """Random parameters of a BART, large enough that texts differ in score."""
    import jax

    from mentallama_jax.models.module import init_params

    source = np.random.default_rng(seed)
    first = init_params(config, jax.random.key(seed))
    scale = 0.3 * (16 / config.hidden_size) ** 0.5
    return jax.tree.map(lambda x: np.asarray(x) + scale * source.normal(size=x.shape).astype(np.float32), first)


def beams(name: str) -> dict[str, np.ndarray]:
    """Targets of a BART by beam search."""
    from mentallama_jax.generation.beam_search import BeamSearch, search_beams
    from mentallama_jax.generation.target_rules import TargetRules

    config = BARTS[name]
    lengths = np.array([13, 4, 37, 1])
    tokens = np.random.default_rng(0).integers(5, config.vocab_size, (4, 37))
    tokens = np.where(np.arange(37) < lengths[:, None], tokens, config.pad_id)
    rules = TargetRules(max_length=20, end_ids=(config.end_id,), min_length=4, no_repeat_ngram=3)
    search = BeamSearch(4, 2.0, True)
    found = search_beams(parameters(config), tokens, lengths, config=config, search=search, rules=rules)
    return {"tokens": np.asarray(found.tokens_BJT), "scores": np.asarray(found.scores_BJ)}


def bart_scores(name: str) -> np.ndarray:
    """BARTScore of pairs of several lengths."""
    from mentallama_jax.scorers.bart_score import SequenceScorer

    config = BARTS[name]
    source = np.random.default_rng(1)
    sizes = [(5, 9), (30, 3), (12, 12), (64, 2), (2, 60), (17, 33)]
    texts = [[[0, *source.integers(4, config.vocab_size, n).tolist(), 2][:64] for n in pair] for pair in sizes]
    found: dict[int, float] = {}
    for part in SequenceScorer(config, parameters(config), room=128).scores([(one, two) for one, two in texts]):
        found |= part
    return np.array([found[place] for place in range(len(texts))])


def bert_scores(model: str) -> np.ndarray:
    """BERTScore of the golden pairs."""
    from mentallama_jax.formats.load import load_model
    from mentallama_jax.formats.tokenizers.encoder_tokenizer import EncoderTokenizer
    from mentallama_jax.scorers.bert_score import BertScorer, BertScoreSettings

    golden = json.loads((BERTS / model / "golden.json").read_text("utf-8"))
    config, params = load_model(BERTS / model)
    scorer = BertScorer(config, params, EncoderTokenizer(BERTS / model), BertScoreSettings(3))
    found: dict[int, tuple] = {}
    for part in scorer.scores(list(zip(golden["candidates"], golden["references"], strict=True))):
        found |= part
    return np.array([found[place] for place in range(len(found))])


def finished(folder: Path, part: str, patience: float = 300) -> Path:
    """Wait for a part that another process computes.

    Raises:
        TimeoutError: it did not come, or failed.
    """
    deadline = time.monotonic() + patience
    while not (folder / f"{part}.done").exists():
        if (folder / f"{part}.failed").exists():
            raise TimeoutError(f"{part} failed on the CPU: {(folder / f'{part}.failed').read_text('utf-8')}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{part} did not come from the CPU within {patience:.0f} s")
        time.sleep(0.2)
    return folder


def _scores(folder: Path) -> None:
    found = {f"beams {name} {key}": value for name in BARTS for key, value in beams(name).items()}
    found |= {f"bart {name}": bart_scores(name) for name in BARTS}
    found |= {f"bert {folder.name}": bert_scores(folder.name) for folder in sorted(BERTS.iterdir())}
    np.savez(folder / "scores.npz", **found)


def _toy(folder: Path, dtype: str) -> None:
    losses = tune_toy(folder / f"toy-{dtype}", dtype)
    (folder / f"losses-{dtype}.json").write_text(json.dumps(losses), "utf-8")


def _answers(folder: Path) -> None:
    answer(folder / "toy-float32", folder / "answers.jsonl")
    answer(folder / "toy-float32", folder / "labels.jsonl", "--score-labels")


def compute(folder: Path) -> bool:
    """Compute all parts; one that fails leaves its error in PART.failed."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        "toy-float32": lambda: _toy(folder, "float32"),
        "answers": lambda: _answers(folder),
        "scores": lambda: _scores(folder),
        "toy-bfloat16": lambda: _toy(folder, "bfloat16"),
    }
    good = True
    for part, run in parts.items():
        start = time.perf_counter()
        try:
            run()
            (folder / f"{part}.done").write_text(f"{time.perf_counter() - start:.1f} s\n", "utf-8")
        except Exception as error:
            good = False
            (folder / f"{part}.failed").write_text(f"{type(error).__name__}: {error}", "utf-8")
    return good


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(not compute(Path(sys.argv[1])))
