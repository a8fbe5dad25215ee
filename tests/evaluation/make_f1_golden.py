"""Writes f1_golden.json beside this file: figures of scikit-learn on small random labels.

Run in any environment that holds scikit-learn: python tests/evaluation/make_f1_golden.py
"""

import json
import random
from pathlib import Path

import numpy as np
import sklearn
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

LABELS = ["yes", "no", "work", "unparsed"]
TASK = ["yes", "no", "work"]


def case(seed: int) -> dict[str, object]:
    chance = random.Random(seed)
    size = chance.choice([1, 2, 5, 20, 60])
    classes = TASK[: chance.randint(1, 3)]
    gold = [chance.choice(classes) for _ in range(size)]
    predicted = [label if chance.random() < 0.6 else chance.choice(LABELS) for label in gold]
    of_classes = precision_recall_fscore_support(gold, predicted, labels=TASK, zero_division=0)
    precision, recall, f1, support = of_classes
    return {
        "gold": gold,
        "predicted": predicted,
        "accuracy": accuracy_score(gold, predicted),
        "weighted_f1": f1_score(gold, predicted, labels=TASK, average="weighted", zero_division=0),
        "macro_f1": f1_score(gold, predicted, labels=TASK, average="macro", zero_division=np.nan),
        "per_class": {
            label: [float(precision[i]), float(recall[i]), float(f1[i]), int(support[i])]
            for i, label in enumerate(TASK)
        },
    }


if __name__ == "__main__":
    golden = {"scikit-learn": sklearn.__version__, "cases": [case(seed) for seed in range(24)]}
    Path(__file__).with_name("f1_golden.json").write_text(json.dumps(golden) + "\n", encoding="utf-8")
