"""The rule reader against released gold and real model outputs; only row numbers and labels are kept here, no text.

The labels of the 35 dreaddit outputs were assigned by a person who read the outputs before any rule was
run on them. `None` marks the one output that commits itself to no answer.
"""

import csv
from collections import Counter

from mentallama_jax.evaluation.correctness import evaluate
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.evaluation.system_predictions import Predictions
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.labels import read_label
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.tasks import TASKS

DREADDIT_BY_HAND = {
    **dict.fromkeys((0, 1, 2, 3, 4, 5, 6, 12, 14, 15, 16, 17, 18, 20, 21, 25, 30, 34), "no"),
    **dict.fromkeys((7, 8, 9, 10, 11, 13, 19, 23, 24, 26, 27, 28, 29, 31, 32, 33), "yes"),
    22: None,
}


def rows_of(path):
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def released_files(release):
    return sorted(
        path
        for part in ("train_data", "test_data", "human_evaluation/test_instruction_expert")
        for path in (release / part).rglob("*.csv")
    )


def test_gold_of_every_released_file_scored_as_its_own_prediction(imhi_release):
    files = released_files(imhi_release)
    assert files
    for path in files:
        result = read_records([path])
        assert not result.problems
        responses = [row.get("gpt-3.5-turbo") or row["response"] for row in rows_of(path)]
        rows = tuple(
            Prediction(
                id=record.id,
                dataset=record.dataset,
                aspect=record.aspect,
                post_id=record.post_id,
                label=record.label,
                goldens=response,
                generated_text=response,
            )
            for record, response in zip(result.records, responses, strict=True)
        )
        predictions = Predictions(rows, ({"file": path.name, "sha256": ""},), None, "released", True)
        scores = evaluate(predictions, reader="templates+words", settings=IntervalSettings())
        assert (scores.pooled.accuracy, scores.pooled.unparsed) == (1, 0)


def test_dr_outputs_agree_with_the_released_labels(imhi_release):
    outputs = rows_of(imhi_release / "examples" / "response_generation_examples" / "DR.csv")
    labels = [row["labels"] for row in rows_of(imhi_release / "examples" / "label_data_examples" / "DR.csv")]
    read = [read_label(row["generated_text"], TASKS["DR"]) for row in outputs]
    assert len(read) == len(labels) == 35
    assert sum(label is not None for label in read) >= 11
    assert all(label in (None, given) for label, given in zip(read, labels, strict=True))


def test_dreaddit_outputs_agree_with_labels_assigned_by_hand(imhi_release):
    outputs = rows_of(imhi_release / "examples" / "response_generation_examples" / "dreaddit.csv")
    read = {row: read_label(each["generated_text"], TASKS["dreaddit"]) for row, each in enumerate(outputs)}
    clear = {row: label for row, label in DREADDIT_BY_HAND.items() if label}
    assert sum(read[row] == label for row, label in clear.items()) / len(clear) >= 0.95
    assert read.keys() == DREADDIT_BY_HAND.keys()
    assert read[22] is None


def test_what_is_read_from_explanations_alone_agrees_with_their_gold(imhi_release):
    """Without its label sentence an explanation may still state the label; what is read there must be right."""
    files = [path for path in released_files(imhi_release) if "complete" not in str(path)]
    records = read_records(files).records[::3]
    counts = Counter()
    for record in records:
        label = read_label(f"Reasoning: {record.explanation}", record.task, record.aspect)
        counts["unread" if label is None else "right" if label == record.label else "wrong"] += 1
    # The rest are explanations that argue for another label than their own gold.
    assert counts["right"] / (counts["right"] + counts["wrong"]) >= 0.97
    assert counts["right"] / counts.total() >= 0.5
