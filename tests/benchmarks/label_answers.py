"""Counts how the label reader reads the answers that were written for its tests and labelled by hand.

python tests/benchmarks/label_answers.py
"""

import json
from collections import Counter
from pathlib import Path

from mentallama_jax.imhi.labels import read_label
from mentallama_jax.imhi.tasks import TASKS

ANSWERS = Path(__file__).resolve().parents[1] / "imhi" / "answers.jsonl"


def main() -> None:
    """Print, for each set of answers, how many are read right, unparsed and wrong."""
    counts: dict[str, Counter[str]] = {}
    for line in ANSWERS.read_text("utf-8").splitlines():
        answer = json.loads(line)
        found = read_label(answer["text"], TASKS[answer["task"]], answer["aspect"])
        if answer["label"] is None:
            outcome = "no label stated, none read" if found is None else "no label stated, one read"
        else:
            outcome = "right" if found == answer["label"] else "unparsed" if found is None else "wrong"
        counts.setdefault(answer["set"], Counter())[outcome] += 1
    for name, outcomes in counts.items():
        stated = sum(outcomes[outcome] for outcome in ("right", "unparsed", "wrong"))
        print(f"{name}: {outcomes.total()} answers, {stated} state a label")
        for outcome, count in sorted(outcomes.items()):
            share = f" ({count / stated:.1%})" if outcome in ("right", "unparsed", "wrong") else ""
            print(f"  {outcome}: {count}{share}")


if __name__ == "__main__":
    main()
