"""What an analysis of a post says; `jobs.analyse` makes it. Imports nothing that computes."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from mentallama_jax.evaluation.trust.risk_signs import Risk
from mentallama_jax.foreign import printable

NOTICE = (
    "For research only. This is a model's reading of a text: no diagnosis, no advice, and it can be wrong while it "
    "sounds sure. It must not decide anything about a person."
)
IN_A_CRISIS = "In a crisis, call the local emergency number or find a line at https://findahelpline.com"


@dataclass(frozen=True, slots=True)
class QuoteInPost:
    """Words of the post that the explanation quotes.

    Attributes:
        text: as the post has them.
        start: offset in the post, in Unicode code points.
        end: offset behind the last character.
    """

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, repr=False)
class Analysis:
    """What a model says of a post. Printed it shows all, its `repr` holds no word of the explanation.

    Attributes:
        task: name of the data set whose question was asked.
        aspect: what was asked about, of a task with aspects; else "".
        label: the likeliest.
        probabilities: label -> probability, in the order of the task; they add up to 1.
        calibrated: whether a temperature that was fitted on validation posts made them.
        confidence: the probability of `label`.
        abstained: whether `confidence` is below the threshold, so that the label is not to be relied on.
        explanation: the model's reasons for `label`.
        explanation_complete: whether it ended by itself, not at the limit of its length.
        quotes: of the post, as the explanation quotes it, in the order of the post.
        risk: signs of danger for the person who wrote the post.
    """

    task: str
    aspect: str
    label: str
    probabilities: Mapping[str, float]
    calibrated: bool
    confidence: float
    abstained: bool
    explanation: str
    explanation_complete: bool
    quotes: tuple[QuoteInPost, ...]
    risk: Risk

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON values, with the notice that goes with every analysis."""
        return {
            "task": self.task,
            "aspect": self.aspect or None,
            "label": self.label,
            "probabilities": dict(self.probabilities),
            "calibrated": self.calibrated,
            "confidence": self.confidence,
            "abstained": self.abstained,
            "explanation": self.explanation,
            "explanation_complete": self.explanation_complete,
            "quotes": [{"text": quote.text, "start": quote.start, "end": quote.end} for quote in self.quotes],
            "risk": {"high": self.risk.high, "because": list(self.risk.because)},
            "notice": NOTICE,
        }

    def __repr__(self) -> str:
        asked = f"{self.task}, {self.aspect}" if self.aspect else self.task
        notes = [*(["abstained"] if self.abstained else []), *(["high risk"] if self.risk.high else [])]
        said = ", ".join(
            [
                f"{self.label} {self.confidence:.0%}",
                f"{len(self.quotes)} quote{'' if len(self.quotes) == 1 else 's'}",
                *notes,
            ]
        )
        return f"<Analysis {asked}: {said}>"

    def __str__(self) -> str:
        shares = ", ".join(f"{label} {share:.0%}" for label, share in self.probabilities.items())
        lines = [
            f"{self.task}{f', {self.aspect}' if self.aspect else ''}: {self.label}"
            f"{' (abstained: too unsure)' if self.abstained else ''}",
            f"probabilities: {shares}{'' if self.calibrated else ' (not calibrated)'}",
            f"explanation: {self.explanation}{'' if self.explanation_complete else ' ...'}",
            *(f"quote: {quote.text!r} at {quote.start}" for quote in self.quotes),
            *([f"high risk, because of {' and '.join(self.risk.because)}", IN_A_CRISIS] if self.risk.high else []),
        ]
        return printable("\n".join([*lines, NOTICE]))

    def _repr_html_(self) -> str:
        """The analysis in a notebook."""
        return f"<pre style='white-space: pre-wrap'>{escape(str(self))}</pre>"
