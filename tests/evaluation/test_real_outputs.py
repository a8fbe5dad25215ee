"""The rule reader against real model outputs; only row numbers and labels are kept here, no text.

The labels of the 35 dreaddit outputs were assigned by a person who read the outputs before any rule was
run on them. `None` marks the one output that commits itself to no answer.
"""

DREADDIT_BY_HAND = {
    **dict.fromkeys((0, 1, 2, 3, 4, 5, 6, 12, 14, 15, 16, 17, 18, 20, 21, 25, 30, 34), "no"),
    **dict.fromkeys((7, 8, 9, 10, 11, 13, 19, 23, 24, 26, 27, 28, 29, 31, 32, 33), "yes"),
    22: None,
}
