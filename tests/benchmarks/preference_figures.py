"""DPO and GRPO of a tuned model: rewards that can be checked, label F1, consistency and quotes, before and after.

    python tests/benchmarks/preference_figures.py MODEL --data data/imhi --out runs/preference          (two CPU cores)
    python tests/benchmarks/preference_figures.py MODEL --data data/imhi --out runs/preference --full \\
        --datasets DR dreaddit SAD --rows 300 --pair-rows 600 --train-rows 1920 --dpo-updates 20 --grpo-updates 60 \\
        --grpo-batch 64 --generations 8 --max-length 768 --max-new-tokens 128 --dtype bfloat16 --micro-batch-rows 16 \\
        --dpo-minutes 60 --grpo-minutes 60                                                                (one H200)
    python tests/benchmarks/preference_figures.py MODEL --data data/imhi --out try --rows 4 --train-rows 8 \\
        --pair-rows 8 --dpo-updates 1 --grpo-updates 1 --watch-rows 2 --dpo-batch 2 --grpo-batch 4           (a trial)

MODEL is a tuned model as `mentallama generate` takes it. Posts of the training split make pairs and are asked in GRPO;
the figures are of greedy answers to posts of the test split, the same before and after, with 95 % intervals of the
paired difference over posts. Both runs train an adapter (with `--full` the model), for so many updates or minutes,
whichever comes first. `--runs` makes one of them alone, `--dpo` and `--grpo` change their configs. Every step is a
command that continues where it was stopped, so the same line may be given again: what is there is kept. Prints
a table and writes `figures.json` after each run.
"""

import argparse
import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from mentallama_jax.cli.main import main as mentallama
from mentallama_jax.config import load_config
from mentallama_jax.evaluation.correctness import label_rows, separate_labels, tally_rows
from mentallama_jax.evaluation.label_readers import RULES
from mentallama_jax.evaluation.reading import read_predictions
from mentallama_jax.evaluation.rewards import consistency_reward, open_rewards
from mentallama_jax.evaluation.statistics.f1 import weighted_f1
from mentallama_jax.evaluation.statistics.intervals import (
    IntervalSettings,
    mean_score,
    one_seed_difference,
    row_scores,
)
from mentallama_jax.files import write_json
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.jobs.policy_sampling import classifier_consistency
from mentallama_jax.jobs.posts_by_id import records_by_id
from mentallama_jax.training.run.metrics import read_metrics

_STOPPED = 75
"""Status of a command that was asked to stop and can go on."""
CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def run(*words: object) -> None:
    command = [str(word) for word in words]
    print("$ mentallama", " ".join(command), flush=True)
    if status := mentallama(command):
        raise SystemExit(status)


def generate(model: object, split: str, rows: int, out: Path, options: argparse.Namespace, *more: object) -> None:
    run(
        *("generate", model, "--data", f"{options.data}:{split}", "--datasets", *options.datasets, "--max-rows", rows),
        *("--style", options.style, "--max-new-tokens", options.max_new_tokens, "--max-length", options.max_length),
        *("--batch-size", options.batch_size, "--dtype", options.dtype, "--out", out, *more),
    )


def overrides(options: argparse.Namespace, updates: int, batch: int, name: str) -> list[str]:
    adapter = [f"adapter.rank={options.rank}", f"adapter.alpha={2 * options.rank}", "adapter.base_dtype=float32"]
    rate = "full_learning_rate" if options.full else "learning_rate"
    return [
        *([] if options.full else adapter),
        f"optimizer.learning_rate={getattr(options, rate)}",
        f"training.batch_size={batch}",
        f"model.source={options.model}",
        f"model.compute_dtype={options.dtype}",
        f"data.style={options.style}",
        f"training.micro_batch_rows={options.micro_batch_rows}",
        f"training.run_dir={options.out / name}",
        f"training.steps={updates}",
        "checkpoint.every_steps=2",
        "training.epochs=null",
    ]


def train(options: argparse.Namespace, name: str, *words: object) -> None:
    """Train until the updates or the minutes are over; what was done is noted, and not done again."""
    marker, limit = options.out / f"{name}.done.json", 60 * getattr(options, f"{name}_minutes")
    spent_file = options.out / f"{name}.seconds"
    if marker.exists():
        return
    spent = float(spent_file.read_text()) if spent_file.exists() else 0.0
    started = time.monotonic()
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))  # training then saves and ends
    signal.setitimer(signal.ITIMER_REAL, max(limit - spent, 1))
    command = [str(word) for word in ("train", *words)]
    print("$ mentallama", " ".join(command), flush=True)
    status = mentallama(command)
    over = signal.setitimer(signal.ITIMER_REAL, 0)[0] == 0
    spent += time.monotonic() - started
    spent_file.write_text(str(spent))
    if status and not (status == _STOPPED and over):
        raise SystemExit(status)
    rows = [row for row in read_metrics(options.out / name / "metrics.jsonl") if row["kind"] == "train"]
    marker.write_text(json.dumps({"updates": len(rows), "seconds": round(spent, 1)}))


def tune_pairs(options: argparse.Namespace) -> None:
    sampled, pairs = options.out / "sampled.jsonl", options.out / "pairs.jsonl"
    generate(options.model, "train", options.pair_rows, sampled, options, "--temperature", 1)
    if not pairs.exists():
        run("data", "pairs", sampled, "--data", f"{options.data}:train", "--out", pairs)
    train(
        options,
        "dpo",
        CONFIGS / "dpo-smollm2.yaml",
        *overrides(options, options.dpo_updates, options.dpo_batch, "dpo"),
        f"data.train=[{pairs}]",
        f"data.max_length={2 * options.max_length}",
        *options.dpo,
    )


def tune_rewards(options: argparse.Namespace) -> None:
    train(
        options,
        "grpo",
        CONFIGS / "grpo-smollm2.yaml",
        *overrides(options, options.grpo_updates, options.grpo_batch, "grpo"),
        f"objective.num_generations={options.generations}",
        f"data.train=['{options.data}:train']",
        f"data.validation=['{options.data}:val']",
        f"data.datasets={json.dumps(options.datasets)}",
        f"data.max_rows={options.train_rows}",
        f"data.max_length={options.max_length}",
        f"evaluation.max_rows={options.watch_rows}",
        f"evaluation.generate_rows={options.watch_rows}",
        f"evaluation.max_new_tokens={options.max_new_tokens}",
        f"evaluation.every_steps={max(1, options.grpo_updates // 2)}",
        *options.grpo,
    )


def figures(rows: Sequence[Prediction], options: argparse.Namespace) -> dict[str, list[float]]:
    """Of each answer what the means are of."""
    records = records_by_id([f"{options.data}:test"])
    asked, texts = [records[row.id] for row in rows], [row.generated_text for row in rows]
    weights = load_config(CONFIGS / "grpo-smollm2.yaml").objective.rewards
    rewards = open_rewards(weights)
    values = rewards.of(asked, texts)
    found = {"reward": rewards.totals(values).tolist()}
    found |= {name: values[:, place].tolist() for place, name in enumerate(weights)}
    found["consistency, of any label"] = list(consistency_reward(asked, texts))
    if options.classifiers:
        found["consistency by the classifier"] = list(classifier_consistency(options.classifiers)(asked, texts))
    found["unparsed"] = [float(row.unparsed) for row in label_rows(rows, RULES)]
    found["invented quote"] = [float(value < 1) if value else 0.0 for value in found["quotes"]]
    found["words"] = [float(len(text.split())) for text in texts]
    return found


def table(options: argparse.Namespace, names: Sequence[str]) -> list[dict]:
    settings = IntervalSettings()
    files = {name: options.out / f"{name}.jsonl" for name in ("before", *names)}
    read = {name: sorted(read_predictions(path).rows, key=lambda row: row.id) for name, path in files.items()}
    posts = [row.post_id for row in read["before"]]
    before = figures(read["before"], options)
    lines = []
    for name in names:
        after = figures(read[name], options)
        for figure, values in after.items():
            both = [*values, *before[figure]]
            bounds = (min(both), max(max(both), min(both) + 1e-9))
            ours, theirs = row_scores(values, posts, bounds), row_scores(before[figure], posts, bounds)
            found = one_seed_difference(ours, theirs, mean_score, settings, bounds[1] - bounds[0])
            lines.append(line(name, figure, np.mean(before[figure]), np.mean(values), found))
        ours, theirs = (tally_rows(separate_labels(label_rows(rows, RULES))) for rows in (read[name], read["before"]))
        found = one_seed_difference(ours, theirs, weighted_f1, settings)
        f1s = (float(weighted_f1(tally.total())) for tally in (theirs, ours))
        lines.append(line(name, "label F1", *f1s, found))
    return lines


def line(run_name: str, figure: str, before: float, after: float, difference) -> dict:
    low, high = difference.interval
    print(f"{run_name:5} {figure:32} {before:8.4f} -> {after:8.4f}  {low:+.4f} to {high:+.4f}")
    return {"run": run_name, "figure": figure, "before": float(before), "after": float(after), "interval": [low, high]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model")
    add("--data", required=True)
    add("--out", type=Path, required=True)
    add("--datasets", nargs="+", default=["dreaddit", "SAD"])
    add("--style", default="chatml")
    add("--runs", nargs="+", choices=("dpo", "grpo"), default=["dpo", "grpo"])
    add("--dpo", nargs="+", default=[], metavar="KEY=VALUE", help="further changes to the config of DPO")
    add("--grpo", nargs="+", default=[], metavar="KEY=VALUE", help="and to that of GRPO")
    add("--rows", type=int, default=80, help="test posts of each data set that are answered before and after")
    add("--pair-rows", type=int, default=150, help="training posts of each data set that are answered for pairs")
    add("--train-rows", type=int, default=600, help="training posts that GRPO asks about")
    add("--watch-rows", type=int, default=16, help="held-out posts that GRPO reports on while it runs")
    add("--dpo-updates", type=int, default=16)
    add("--grpo-updates", type=int, default=40)
    add("--dpo-minutes", type=float, default=12)
    add("--grpo-minutes", type=float, default=20)
    add("--dpo-batch", type=int, default=8, help="pairs an update")
    add("--grpo-batch", type=int, default=32, help="answers an update")
    add("--generations", type=int, default=4, help="answers to a prompt")
    add("--full", action="store_true", help="train the whole model, not an adapter")
    add("--rank", type=int, default=16, help="of the adapter")
    add("--learning-rate", type=float, default=2e-4, help="of the adapter")
    add("--full-learning-rate", type=float, default=1e-5, help="of the model")
    add("--max-new-tokens", type=int, default=128)
    add("--max-length", type=int, default=448, help="tokens of prompt and answer; a longer post loses its end")
    add("--batch-size", type=int, default=32)
    add("--micro-batch-rows", type=int, default=1)
    add("--dtype", default="float32")
    add("--classifiers", help="classifiers of explanations, for consistency")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    generate(options.model, "test", options.rows, options.out / "before.jsonl", options)
    for count, name in enumerate(options.runs, start=1):
        names = options.runs[:count]
        {"dpo": tune_pairs, "grpo": tune_rewards}[name](options)
        last = ("--checkpoint", "last")
        generate(options.out / name, "test", options.rows, options.out / f"{name}.jsonl", options, *last)
        found = {
            "figures": table(options, names),
            "training": {name: json.loads((options.out / f"{name}.done.json").read_text()) for name in names},
            "options": yaml.safe_load(json.dumps(vars(options), default=str)),
        }
        write_json(options.out / "figures.json", found)
    print(f"{time.monotonic() - started:.0f} s in this call")


if __name__ == "__main__":
    main()
