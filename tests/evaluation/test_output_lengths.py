"""Lengths of outputs, and accuracy by length."""

import pytest

from mentallama_jax.evaluation.output_lengths import output_lengths
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.imhi.predictions import Prediction


def row(number: int, text: str, cut: int = 0) -> Prediction:
    place = {"id": f"DR/{number}", "dataset": "DR", "post_id": str(number), "label": "yes"}
    return Prediction(**place, generated_text=text, prompt_truncated=cut)


def test_groups_by_length_hold_all_rows_and_their_accuracy():
    rows = [row(n, "Yes." + " word" * n, cut=n // 6) for n in range(4)]
    rows += [row(n, "No." + " word" * n, cut=n // 6) for n in range(4, 8)]
    found = output_lengths(rows, "templates+words", IntervalSettings())
    assert found.datasets["DR"] == found.pooled
    assert (found.pooled.rows, found.pooled.median, found.pooled.cut_posts) == (8, 4.5, 2)
    assert found.pooled.quartiles == pytest.approx((2.75, 6.25))
    shown = [(each.shortest, each.longest, each.rows, each.accuracy) for each in found.pooled.by_length]
    assert shown == [(1, 2, 2, 1.0), (3, 4, 2, 1.0), (5, 6, 2, 0.0), (7, 8, 2, 0.0)]
    assert all(
        each.warning and each.interval[0] <= each.accuracy <= each.interval[1] for each in found.pooled.by_length
    )


def test_equally_long_outputs_are_one_group():
    found = output_lengths([row(n, "Yes.") for n in range(9)] + [row(9, "")], "templates+words", IntervalSettings())
    assert [(each.shortest, each.longest, each.rows) for each in found.pooled.by_length] == [(0, 1, 10)]
    alone = output_lengths([row(1, "")], "templates+words", IntervalSettings()).pooled
    assert (alone.median, alone.by_length[0].rows, alone.by_length[0].accuracy) == (0, 1, 0)
