"""The released MentaLLaMA rule scorer's way of reading a label, reproduced for comparison with `labels.read_label`."""

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
"""Of the released rule scorer: (substring, label) in the order it tries them, and its default class."""


def upstream_label(text: str, task: Task) -> str:
    """The label that the released MentaLLaMA rule scorer assigns, mistakes included; for comparison only.

    It takes the first substring that occurs in the lower-cased text before `Reasoning:` (so `no` is found in
    "know", and "emotion turmoil" is no `emotional`), and a default class where none occurs.
    """
    substrings, default = _UPSTREAM.get(task.name, _UPSTREAM_YES_NO)
    answer = text.partition("Reasoning:")[0].lower()
    return next((label for substring, label in substrings if substring in answer), default)
