"""The labels of the classes of the published classifiers, in the order of those classes.

Their folders name the classes LABEL_0, LABEL_1 ... alone, and number them otherwise than the table of data sets does:
classifiers of yes and no begin with no.
"""

from collections.abc import Mapping

_NO_YES = ("no", "yes")

PUBLISHED_CLASSES: Mapping[str, tuple[str, ...]] = {
    "DR": _NO_YES,
    "CLP": _NO_YES,
    "dreaddit": _NO_YES,
    "loneliness": _NO_YES,
    "SWMH": ("depression", "suicide", "anxiety", "bipolar disorder", "no mental disorders"),
    "T-SID": ("depression", "suicide or self-harm tendency", "ptsd", "no mental disorders"),
    "SAD": (
        "school",
        "financial problem",
        "family issues",
        "social relationships",
        "work",
        "health issues",
        "emotional turmoil",
        "everyday decision making",
        "other causes",
    ),
    "CAMS": ("none", "bias or abuse", "jobs and career", "medication", "relationship", "alienation"),
    "MultiWD": _NO_YES,
    "IRF": _NO_YES,
}
"""Data set -> canonical labels."""
