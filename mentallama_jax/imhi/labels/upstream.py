"""The released MentaLLaMA rule scorer, reproduced for comparison with `labels.read_label`, mistakes included.

The released scorer reads gold and output by substrings, an output with a default class where none occurs. It differs
from this package in three ways that a comparison must state:

- It counts outputs without any of its substrings ("OOD count") and scores them as the default class.
- It looks for other substrings in golds. A gold without one is skipped, though its output is kept. Then there are more
  outputs than golds, and the scorer ends with a `ValueError` instead of figures for this data set. In the instruction
  format these are the golds of SAD for emotional turmoil and other causes, and those of CAMS for no cause.
- In SWMH such a row is left out whole, so there the scorer goes on.

It knows the ten data sets of the benchmark only. A task of one's own has no upstream, and asking for it is an error.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.tasks import Task

_UPSTREAM_YES_NO = ((("yes", "yes"), ("no", "no")), "no")
_UPSTREAM = {
    "SWMH": (
        (
            ("no mental", "no mental disorders"),
            ("suicide", "suicide"),
            ("depression", "depression"),
            ("anxiety", "anxiety"),
            ("bipolar", "bipolar disorder"),
        ),
        "no mental disorders",
    ),
    "T-SID": (
        (
            ("depression", "depression"),
            ("suicide", "suicide or self-harm tendency"),
            ("ptsd", "ptsd"),
            ("no mental", "no mental disorders"),
        ),
        "no mental disorders",
    ),
    "SAD": (
        (
            ("school", "school"),
            ("financial", "financial problem"),
            ("family", "family issues"),
            ("social", "social relationships"),
            ("work", "work"),
            ("health", "health issues"),
            ("emotional", "emotional turmoil"),
            ("decision", "everyday decision making"),
            ("other", "other causes"),
        ),
        "other causes",
    ),
    "CAMS": (
        (
            ("none", "none"),
            ("bias", "bias or abuse"),
            ("jobs", "jobs and career"),
            ("medication", "medication"),
            ("relationship", "relationship"),
            ("alienation", "alienation"),
        ),
        "none",
    ),
}
"""What the released rule scorer looks for: (substring, label) in its order, and its default class."""


_UPSTREAM_GOLDS = {
    "T-SID": (
        ("depression", "depression"),
        ("suicide or self-harm", "suicide or self-harm tendency"),
        ("ptsd", "ptsd"),
        ("no mental disorders", "no mental disorders"),
    ),
    "SAD": (
        ("school", "school"),
        ("financial problem", "financial problem"),
        ("family issues", "family issues"),
        ("social relationships", "social relationships"),
        ("work", "work"),
        ("health issues", "health issues"),
        ("emotional turmoil", "emotional turmoil"),
        ("everyday decision making", "everyday decision making"),
        ("other causes", "other causes"),
    ),
    "CAMS": (
        ("none", "none"),
        ("bias or abuse", "bias or abuse"),
        ("jobs and career", "jobs and career"),
        ("medication", "medication"),
        ("relationship", "relationship"),
        ("alienation", "alienation"),
    ),
}
"""What the released rule scorer looks for in golds, where that differs from outputs: (substring, label)."""

_LEAVES_ROWS_OUT = frozenset({"SWMH"})


@dataclass(frozen=True, slots=True)
class UpstreamReading:
    """What the released rule scorer makes of one output.

    Attributes:
        label: the label that it scores.
        out_of_domain: no substring was found; the label is the default class and the scorer counts the output as OOD.
    """

    label: str
    out_of_domain: bool


def read_as_upstream(text: str, task: Task) -> UpstreamReading:
    """Read an output as the released rule scorer does; for comparison only.

    It takes the first substring that occurs in the lower-cased text before `Reasoning:` (so `no` is found in
    "know", and "emotion turmoil" is no `emotional`), and a default class where none occurs.

    Raises:
        UserError: the task is not one of the benchmark's.
    """
    substrings, default = _of_outputs(task)
    found = _first(text, substrings)
    return UpstreamReading(found or default, found is None)


def upstream_label(text: str, task: Task) -> str:
    """The label that the released rule scorer assigns to an output: that of `read_as_upstream`."""
    return read_as_upstream(text, task).label


def upstream_gold(text: str, task: Task) -> str | None:
    """The label that the released rule scorer reads from the text of a gold response, or None where it finds none.

    Where only the canonical label of a row is known, pass `task.sentences[label]`: the gold of the instruction format.
    """
    substrings, _ = _of_outputs(task)
    return _first(text, _UPSTREAM_GOLDS.get(task.name, substrings))


def upstream_crashes_on(text: str, task: Task) -> bool:
    """Whether one row with this gold text makes the released rule scorer fail on its whole data set.

    It fails with "Found input variables with inconsistent numbers of samples", as it skips the gold but not the output.
    False also where it leaves the row out whole (SWMH): see `upstream_leaves_out`.
    """
    return upstream_gold(text, task) is None and task.name not in _LEAVES_ROWS_OUT


def upstream_leaves_out(text: str, task: Task) -> bool:
    """Whether the released rule scorer leaves out a row with this gold text, gold and output alike."""
    return upstream_gold(text, task) is None and task.name in _LEAVES_ROWS_OUT


def _of_outputs(task: Task) -> tuple[tuple[tuple[str, str], ...], str]:
    if not task.is_shipped:
        raise UserError(
            f"{task.name}: the released scorer knows the ten data sets of the benchmark only; read the labels of "
            "your own task without --as-upstream"
        )
    return _UPSTREAM.get(task.name, _UPSTREAM_YES_NO)


def _first(text: str, substrings: Iterable[tuple[str, str]]) -> str | None:
    answer = text.partition("Reasoning:")[0].lower()
    return next((label for substring, label in substrings if substring in answer), None)
