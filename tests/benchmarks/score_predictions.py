"""Seconds and memory of `mentallama evaluate` with all metrics of explanations, and where the time goes.

    python tests/benchmarks/score_predictions.py                       # 20,000 predictions of ten data sets
    python tests/benchmarks/score_predictions.py --rows 2000 --repeats 3

The predictions are made here, of made-up words with the frequencies and lengths of real text: a label sentence and
about 100 words of reasons, on both sides, half of the words shared. Some outputs are empty or state no label, some
rows have no gold text, and a post of MultiWD or IRF has a row for each aspect. Memory is that of all processes together
(Linux).
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.tasks import TASKS, Task

WORDS = 6000
MEAN_WORDS = 100
SECONDS_BETWEEN_LOOKS = 0.1


def make(path: Path, rows: int) -> None:
    """Write a predictions file."""
    source = random.Random(0)
    letters = "etaoinshrdlucmfwypvbgk"
    sizes = [1, 2, 3, 4, 4, 5, 5, 6, 7, 8, 9, 11]
    vocabulary = ["".join(source.choices(letters, range(22, 0, -1), k=source.choice(sizes))) for _ in range(WORDS)]
    weights = [1 / (rank + 3) for rank in range(WORDS)]
    tasks = list(TASKS.values())
    with path.open("w", encoding="utf-8") as stream:
        for number in range(rows):
            task = tasks[number % len(tasks)]
            within = number // len(tasks)
            words = source.choices(vocabulary, weights, k=max(8, int(source.gauss(MEAN_WORDS, 30))))
            new = iter(source.choices(vocabulary, weights, k=2 * len(words)))
            answer = [word if source.random() < 0.5 else next(new) for word in words]
            gold_label, label = (source.choice(task.labels) for _ in range(2))
            kind = source.random()
            row = Prediction(
                id=f"{task.name}/test/{within}",
                dataset=task.name,
                aspect=task.aspects[within % len(task.aspects)] if task.aspects else "",
                post_id=f"{task.name}/{within // max(1, len(task.aspects))}",
                label=gold_label,
                goldens=_response(task, gold_label, words, source) if kind > 0.01 else "",
                generated_text=_output(task, gold_label if kind > 0.3 else label, answer, source),
            )
            stream.write(row.to_line())


def _output(task: Task, label: str, words: list[str], source: random.Random) -> str:
    kind = source.random()
    if kind < 0.01:
        return ""
    return _sentences(words, source) if kind < 0.05 else _response(task, label, words, source)


def _response(task: Task, label: str, words: list[str], source: random.Random) -> str:
    return f"{task.sentences[label]} Reasoning: {_sentences(words, source)}"


def _sentences(words: list[str], source: random.Random) -> str:
    text = ""
    begins = True
    for word in words:
        text += f" {word.capitalize() if begins else word}"
        mark = source.random()
        begins = mark < 0.06
        text += "." if begins else "," if mark < 0.11 else "'s" if mark < 0.12 else ""
    return f"{text.strip()}."


def score(predictions: Path, out: Path) -> None:
    """Run the command in this process and print, as JSON, the seconds of each stage."""
    from mentallama_jax.cli.main import main
    from mentallama_jax.evaluation import explanations
    from mentallama_jax.jobs import score as job

    stages: dict[str, float] = {}

    def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            try:
                return work(*arguments, **named)
            finally:
                stages[name] = stages.get(name, 0) + time.perf_counter() - begun

        return wrapper

    job.read_predictions = timed("reading", job.read_predictions)
    job.evaluate = timed("labels, and their intervals", job.evaluate)
    job.score_explanations = timed("explanations", job.score_explanations)
    explanations._part_scores = timed("of which intervals and figures of all rows", explanations._part_scores)  # type: ignore[attr-defined]
    job.write_report = timed("scores.json", job.write_report)
    job.make_report = timed("the report", job.make_report)
    command = ["evaluate", str(predictions), "--out", str(out), "--metrics", "rouge,bleu,chrf"]
    begun = time.perf_counter()
    if main(command):
        raise SystemExit("the command failed")
    stages["command, without the start of Python"] = time.perf_counter() - begun
    (out / "stages.json").write_text(json.dumps(stages))


def memory_of(process: int) -> int:
    """Bytes that a process and those that it started hold now, shared pages shared out."""
    total = 0
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
        for thread in Path(f"/proc/{process}/task").iterdir():
            for child in (thread / "children").read_text().split():
                total += memory_of(int(child))
    return total


def measure(predictions: Path, out: Path, options: argparse.Namespace) -> None:
    """Run the command once and print its figures."""
    print(f"load before: {' '.join(f'{load:.2f}' for load in os.getloadavg())}, {os.cpu_count()} cores", flush=True)
    steps = ["--score", str(predictions), str(out)]
    begun = time.perf_counter()
    peak = 0
    with subprocess.Popen([sys.executable, __file__, *steps], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, memory_of(process.pid))
            time.sleep(SECONDS_BETWEEN_LOOKS)
    seconds = time.perf_counter() - begun
    if process.returncode:
        raise SystemExit("the command failed")
    print(f"{seconds:.1f} s, {options.rows / seconds:,.0f} rows/s, peak memory {peak / 1e9:.2f} GB")
    for stage, spent in json.loads((out / "stages.json").read_text()).items():
        print(f"  {spent:6.1f} s  {stage}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--score", nargs=2, type=Path, metavar=("FILE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.score:
        score(*options.score)
    else:
        with tempfile.TemporaryDirectory() as place:
            made = Path(place) / "predictions.jsonl"
            make(made, options.rows)
            print(f"{options.rows:,} predictions, {made.stat().st_size / 1e6:.1f} MB")
            for number in range(options.repeats):
                measure(made, Path(place) / f"scores{number}", options)
