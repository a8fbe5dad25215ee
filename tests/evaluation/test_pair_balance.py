"""Pairs of labels, each preferred as often as it is rejected."""

from collections import Counter
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from mentallama_jax.evaluation.answer_pairs import faulty_pairs
from mentallama_jax.evaluation.pair_balance import balanced
from mentallama_jax.imhi.predictions import answer_to
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.wording import instruction_response

LABELS = ("work", "school", "family", "health")
PREFERENCES = st.lists(st.sampled_from(list(permutations(LABELS, 2))), max_size=40)


def test_of_two_labels_the_rarer_direction_decides() -> None:
    preferences = [("yes", "no")] * 5 + [("no", "yes")] * 2
    assert balanced(preferences) == [True, True, False, False, False, True, True]
    assert balanced([]) == []


def test_a_ring_of_labels_is_balanced() -> None:
    ring = [("work", "school"), ("school", "family"), ("family", "work")]
    assert balanced([*ring, ("health", "work")]) == [True, True, True, False]


@given(PREFERENCES)
def test_what_is_kept_is_balanced_and_nothing_balanced_is_left(preferences: list[tuple[str, str]]) -> None:
    kept = balanced(preferences)
    chosen = [edge for edge, keep in zip(preferences, kept, strict=True) if keep]
    assert Counter(preferred for preferred, _ in chosen) == Counter(rejected for _, rejected in chosen)
    left = [edge for edge, keep in zip(preferences, kept, strict=True) if not keep]
    assert not any(balanced(left))  # another ring would have been kept too


def test_each_data_set_and_aspect_is_balanced_by_itself() -> None:
    records, rows = {}, []
    for dataset, aspect, labels in (
        ("dreaddit", "", ["yes", "no", "yes"]),
        ("DR", "", ["yes"]),
        ("IRF", "thwarted belongingness", ["no"]),
        ("IRF", "perceived burdensomeness", ["yes"]),
    ):
        for number, label in enumerate(labels):
            record = Record(f"{dataset}/train/{number}{aspect}", dataset, f"Post {number}.", label, "Reasons.", aspect)
            other = Record(record.id, dataset, record.post, "no" if label == "yes" else "yes", "Reasons.", aspect)
            records[record.id] = record
            rows.append(answer_to(record, instruction_response(other)))
    found = faulty_pairs(rows, records)
    assert [pair.id for pair in found.pairs] == ["dreaddit/train/0#0", "dreaddit/train/1#0"]
    assert found.left_out == {"one-sided": 4}
    assert len(faulty_pairs(rows, records, one_sided=True).pairs) == 6
