"""Agreement of two readers, and consistency of explanations with labels."""

import numpy as np
import pytest

from mentallama_jax.evaluation.beside_classifiers import (
    LabelPairs,
    cohens_kappa,
    consistency,
    differing_rows,
    label_pairs,
    reader_agreement,
)
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.imhi.predictions import Prediction

INTERVALS = IntervalSettings()


def rows(count: int, dataset: str = "DR", posts: int = 0) -> list[Prediction]:
    return [
        Prediction(
            id=f"{dataset}/{n}", dataset=dataset, post_id=f"p{n % (posts or count)}", label="yes", generated_text="Yes."
        )
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("counts", "kappa"),
    [
        ([[20, 5], [10, 15]], 0.4),  # the textbook's example: agreement 0.7, chance 0.5
        ([[45, 15], [25, 15]], 0.1304),
        ([[25, 35], [5, 35]], 0.2593),
        ([[10, 0], [0, 10]], 1.0),
        ([[0, 10], [10, 0]], -1.0),
        ([[30, 0], [0, 0]], 1.0),
        ([[9, 0, 0], [0, 0, 3], [0, 3, 0]], 0.2857),
    ],
)
def test_kappa_of_known_tables(counts: list[list[int]], kappa: float) -> None:
    assert float(cohens_kappa(LabelPairs(np.array(counts, float)))) == pytest.approx(kappa, abs=1e-4)


def test_pairs_are_counted_by_post_and_weighed() -> None:
    pairs = label_pairs(["a", "a", "b"], ["a", "b", "b"], ["p", "p", "q"], ["a", "b"])
    assert pairs.groups == 2
    assert pairs.sizes.tolist() == [2, 1]
    assert pairs.total().counts.tolist() == [[1, 1], [0, 1]]
    assert pairs.weighed(np.array([[2.0, 0.0], [0.0, 3.0]])).counts.tolist() == [[[2, 2], [0, 0]], [[0, 0], [0, 3]]]


def test_readers_are_compared_where_both_read_a_label() -> None:
    outputs = rows(40) + rows(3, "SAD")
    rules = ["yes"] * 20 + ["no"] * 18 + [None, None] + ["work", None, "school"]
    other = ["yes"] * 18 + ["no"] * 20 + ["yes", None] + [None, "work", None]
    found = reader_agreement(outputs, rules, other, INTERVALS)
    assert list(found) == ["DR", "SAD"]
    one = found["DR"]
    assert (one.rows, one.posts, one.unparsed_by_rules, one.unparsed_by_classifier) == (38, 38, 2, 1)
    assert one.agreement == pytest.approx(36 / 38)
    assert one.kappa_interval[0] < one.kappa < one.kappa_interval[1] <= 1
    none = found["SAD"]
    assert (none.rows, none.kappa, none.kappa_interval, none.unparsed_by_rules) == (0, None, None, 1)
    differing = differing_rows(outputs, rules, other)
    assert [row["id"] for row in differing] == [
        *("DR/18", "DR/19", "DR/38"),
        *("SAD/0", "SAD/1", "SAD/2"),
    ]
    assert differing[0] == {"id": "DR/18", "dataset": "DR", "gold": "yes", "rules": "yes", "classifier": "no"}


def test_an_interval_is_over_posts_not_over_rows() -> None:
    """The same rows, ten to a post: the interval is wider."""
    rules = ["yes", "no"] * 50
    other = [label if n % 20 < 16 else "yes" for n, label in enumerate(rules)]
    wide = reader_agreement(rows(100, posts=10), rules, other, INTERVALS)["DR"]
    narrow = reader_agreement(rows(100), rules, other, INTERVALS)["DR"]
    assert wide.kappa == narrow.kappa
    assert wide.warning
    assert not narrow.warning


def test_consistency_counts_what_states_no_label_or_gives_no_explanation() -> None:
    stated = ["yes"] * 24 + ["no"] * 4 + [None, None]
    explained = ["yes"] * 20 + ["no"] * 4 + ["no", "no", None, None] + ["yes", None]
    gold = ["yes"] * 27 + ["no"] * 3
    found = consistency(rows(30), stated, explained, gold, INTERVALS)
    assert list(found) == ["DR", "pooled"]
    assert found["DR"] == found["pooled"]
    one = found["DR"]
    assert (one.rows, one.without_label, one.without_explanation, one.gold_rows) == (26, 2, 2, 30)
    assert one.share == pytest.approx(22 / 26)
    assert one.gold_share == pytest.approx(0.9)
    assert one.interval[0] < one.share < one.interval[1]


def test_perfect_consistency_has_an_exact_interval_and_nothing_to_score_has_none() -> None:
    found = consistency(rows(25), ["yes"] * 25, ["yes"] * 25, [None] * 25, INTERVALS)["DR"]
    assert (found.share, found.method, found.gold_share) == (1.0, "exact", None)
    assert found.interval[0] < 1
    nothing = consistency(rows(2), [None, "yes"], ["yes", None], [None, None], INTERVALS)["DR"]
    assert (nothing.rows, nothing.share, nothing.interval, nothing.warning) == (0, None, None, None)
