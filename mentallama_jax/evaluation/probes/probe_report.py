"""What probes found as tables for a terminal of 80 columns."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mentallama_jax.evaluation.probes.counterfactual import CounterfactualScores
from mentallama_jax.evaluation.probes.fairness import AgainstNeutral, FairnessScores, Gap
from mentallama_jax.evaluation.probes.faithfulness import FaithfulnessScores
from mentallama_jax.evaluation.probes.post_figures import MeanFigure
from mentallama_jax.evaluation.probes.robustness import RobustnessScores

if TYPE_CHECKING:
    from rich.table import Table

CLEAR = 0.05
"""Corrected p below this is marked."""

_NAMES = {"flip_rate": "flips", "weighted_f1": "F1", "p_gold": "P(gold)", "p_yes": "P(yes)"}


def faithfulness_table(found: Mapping[str, FaithfulnessScores]) -> "Table":
    """Comprehensiveness and sufficiency of each set of rows beside those of random parts, in points."""
    table = _table(
        "Change of the stated label's probability, in points",
        ("data set", "rows", "", "explained", "random", "difference", "95 %"),
        left=(0, 2),
    )
    for name, scores in found.items():
        figures = (
            ("deleted", scores.comprehensiveness, scores.random_comprehensiveness, scores.comprehensiveness_difference),
            ("alone", scores.sufficiency, scores.random_sufficiency, scores.sufficiency_difference),
        )
        for turn, (what, explained, random, difference) in enumerate(figures):
            first = (name, str(scores.measured)) if turn == 0 else ("", "")
            mark = "*" if scores.warning else ""
            if explained is None or random is None or difference is None:
                table.add_row(*first, what, "", "", "", "")
            else:
                values = (_points(each.value) for each in (explained, random, difference))
                table.add_row(*first, what, *values, _between(difference) + mark)
    return table


def measured_table(found: Mapping[str, FaithfulnessScores]) -> "Table":
    """How many rows were measured, and why others were not."""
    headings = ("data set", "rows", "unparsed", "no expl.", "no parts", "whole", "measured", "quotes", "words %")
    table = _table("What explanations point at", headings)
    for name, scores in found.items():
        share = "" if scores.share_of_words is None else _percent(scores.share_of_words.value)
        counts = (
            scores.rows,
            scores.unparsed,
            scores.without_explanation,
            scores.without_parts,
            scores.whole_post,
            scores.measured,
            scores.by_quotes,
        )
        table.add_row(name, *map(str, counts), share)
    return table


def counterfactual_table(found: Mapping[str, CounterfactualScores]) -> "Table":
    """What explanations behind a forced label state."""
    headings = ("data set", "rows", "follows %", "95 %", "stays", "other", "none", "of stated %", "alike %")
    table = _table("Another label forced: the label that the explanation states", headings)
    for name, scores in found.items():
        mark = "*" if scores.warning else ""
        table.add_row(
            name,
            str(scores.rows),
            _share(scores.follows),
            "" if scores.follows is None else _range(scores.follows) + mark,
            str(scores.states_original),
            str(scores.states_another),
            str(scores.states_none),
            _share(scores.follows_where_stated),
            _share(scores.similarity),
        )
    return table


def fairness_table(scores: FairnessScores) -> "Table":
    """What the sentences of each group change beside neutral ones: flips in %, differences in points."""
    floor = scores.noise_floor
    title = (
        f"Prefixes beside neutral ones, {scores.rows} rows: neutral flips {_percent(floor.value)} % "
        f"({_range(floor)}), less that in points"
    )
    table = _table(title, ("group", "flips %", "above", "95 %", "F1", "P(gold)", "P(yes)"))
    for attribute, groups in scores.groups.items():
        table.add_row(attribute, style="dim")
        for name, group in groups.items():
            flips = group.flip_rate
            mark = "*" if scores.warning else ""
            table.add_row(
                f"- {name}",
                _percent(flips.value),
                _marked(flips),
                _between(flips) + mark,
                _marked(group.weighted_f1),
                _marked(group.p_gold),
                "" if group.p_yes is None else _marked(group.p_yes),
            )
    return table


def gap_table(scores: FairnessScores) -> "Table":
    """The two groups of each attribute that differ most, in points."""
    table = _table(
        "The groups that differ most, in points",
        ("attribute", "of", "highest", "lowest", "gap", "95 %", "p"),
        (0, 1, 2, 3),
    )
    for attribute, gaps in scores.gaps.items():
        for turn, (name, gap) in enumerate(gaps.items()):
            first = attribute if turn == 0 else ""
            values = (
                _NAMES[name],
                gap.highest,
                gap.lowest,
                _points(gap.difference),
                _between(gap),
                f"{gap.p_holm:.3f}",
            )
            table.add_row(first, *values)
    return table


def robustness_table(found: Mapping[str, RobustnessScores]) -> "Table":
    """Flips of labels and changes of weighted F1 by each kind of change."""
    headings = ("change", "rows", "equal", "flips %", "95 %", "F1", "points", "95 %")
    table = _table("Labels of changed posts and questions", headings)
    for name, scores in found.items():
        if len(found) > 1:
            table.add_row(name, str(scores.rows), "", "", "", _percent(scores.weighted_f1), style="dim")
        before = "- " if len(found) > 1 else ""
        for kind, of in scores.variants.items():
            if of.flip_rate is None or of.f1_change is None or of.weighted_f1 is None:
                table.add_row(f"{before}{kind}", "0", str(of.unchanged))
                continue
            mark = "*" if of.warning else ""
            table.add_row(
                f"{before}{kind}",
                str(of.rows),
                str(of.unchanged),
                _percent(of.flip_rate.value),
                _range(of.flip_rate) + mark,
                _percent(of.weighted_f1),
                _points(of.f1_change.value),
                _between(of.f1_change) + mark,
            )
    return table


def fairness_notes(scores: FairnessScores) -> Iterator[str]:
    """How to read the tables."""
    yield f"Marked with !: corrected for all groups (Holm), p is below {CLEAR}."
    if scores.warning:
        yield f"*: {scores.warning}"


def _table(title: str, headings: tuple[str, ...], left: tuple[int, ...] = (0,)) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if place in left else "right", no_wrap=place == 0 or place not in left)
    return table


def _marked(figure: AgainstNeutral) -> str:
    return _points(figure.difference) + ("!" if figure.p_holm < CLEAR else "")


def _share(figure: MeanFigure | None) -> str:
    return "" if figure is None else _percent(figure.value)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _points(value: float) -> str:
    return f"{100 * value:+z.1f}"  # z: no minus in front of 0.0


def _range(figure: MeanFigure) -> str:
    low, high = figure.interval
    return f"{_percent(low)}-{_percent(high)}"


def _between(figure: MeanFigure | AgainstNeutral | Gap) -> str:
    low, high = figure.interval
    return f"{_points(low)} to {_points(high)}"
