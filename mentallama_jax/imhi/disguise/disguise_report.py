"""What was replaced and what is left, in numbers: never a text, never the key."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mentallama_jax.imhi.disguise.identifier_rules import KINDS
from mentallama_jax.imhi.disguise.searchability import RUN_WORDS, RunFigures, run_figures

REPORT_VERSION = 1

LIMITS = (
    "names in running text, unless the post greets, signs or introduces with them",
    "workplaces, schools, towns and events",
    "a rare story, by which those who know the poster know the post",
    "addresses and telephone numbers in the notations of other languages and countries",
    "identifiers with spaces, signs or look-alike letters put in, and those in pictures",
)
"""What the rules cannot find."""


@dataclass(slots=True)
class PartFigures:
    """The figures of some rows.

    Attributes:
        rows: questions, or predictions.
        in_posts: kind -> replacements in posts, each post once.
        in_answers: kind -> replacements in explanations or outputs.
        runs: the longest run left of each post, in words; none for predictions.
        answer_runs: the longest run of the original post in each explanation.
        changed: posts of which something was replaced.
    """

    rows: int = 0
    in_posts: Counter[str] = field(default_factory=Counter)
    in_answers: Counter[str] = field(default_factory=Counter)
    runs: dict[str, int] = field(default_factory=dict)
    answer_runs: list[int] = field(default_factory=list)
    changed: int = 0

    def to_json(self, run_words: int) -> dict[str, Any]:
        """The figures as a JSON object."""
        return {
            "rows": self.rows,
            "posts": len(self.runs),
            "posts_changed": self.changed,
            "replaced_in_posts": {kind: self.in_posts[kind] for kind in KINDS},
            "replaced_in_answers": {kind: self.in_answers[kind] for kind in KINDS},
            "runs_in_posts": run_figures(list(self.runs.values()), run_words).to_json(),
            "runs_in_answers": run_figures(self.answer_runs, run_words).to_json(),
        }


@dataclass(slots=True)
class DisguiseReport:
    """The figures of all rows and of each data set.

    Attributes:
        settings: how it was done.
        parts: data set -> its figures.
        paraphrased: outcome -> posts; None where no model was asked.
        run_words: words of a run that counts as searchable.
    """

    settings: Mapping[str, Any]
    parts: dict[str, PartFigures] = field(default_factory=dict)
    paraphrased: Mapping[str, int] | None = None
    run_words: int = RUN_WORDS

    def part(self, dataset: str) -> PartFigures:
        """The figures of a data set, to add to."""
        return self.parts.setdefault(dataset, PartFigures())

    @property
    def all(self) -> PartFigures:
        """The figures of all data sets together."""
        total = PartFigures()
        for dataset, part in self.parts.items():
            total.rows += part.rows
            total.in_posts += part.in_posts
            total.in_answers += part.in_answers
            total.runs |= {f"{dataset} {post}": run for post, run in part.runs.items()}
            total.answer_runs += part.answer_runs
            total.changed += part.changed
        return total

    def to_json(self) -> dict[str, Any]:
        """The object of `disguise.json`."""
        found: dict[str, Any] = {
            "version": REPORT_VERSION,
            "settings": dict(self.settings),
            "all": self.all.to_json(self.run_words),
            "datasets": {dataset: part.to_json(self.run_words) for dataset, part in self.parts.items()},
            "longest_run_by_post": {row: run for part in self.parts.values() for row, run in part.runs.items()},
            "not_found_by_rules": list(LIMITS),
        }
        if self.paraphrased is not None:
            found["paraphrased"] = dict(self.paraphrased)
        return found


def table_lines(report: DisguiseReport) -> list[str]:
    """The report as lines for a person."""
    total = report.all
    lines = [f"{'replaced':<12}{'in posts':>10}{'in answers':>12}"]
    lines += [f"{kind:<12}{total.in_posts[kind]:>10,}{total.in_answers[kind]:>12,}" for kind in KINDS]
    if total.runs:
        lines += _run_lines("posts", list(total.runs.values()), report.run_words)
    if any(total.answer_runs):
        lines += _run_lines("answers, of their own post", total.answer_runs, report.run_words)
    if report.paraphrased is not None:
        lines.append(
            "paraphrases: " + ", ".join(f"{outcome} {count:,}" for outcome, count in report.paraphrased.items())
        )
    return lines


def _run_lines(name: str, runs: Sequence[int], run_words: int) -> list[str]:
    figures: RunFigures = run_figures(runs, run_words)
    shares = ", ".join(f"{share} {words:,}" for share, words in figures.quantiles.items())
    share = figures.searchable / figures.posts
    return [
        f"longest run of words left in {name}, by share: {shares}",
        f"  with a run of {run_words} words or more: {figures.searchable:,} of {figures.posts:,} ({share:.0%})",
    ]
