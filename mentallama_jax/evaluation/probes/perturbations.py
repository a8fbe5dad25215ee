"""Changes of a post that should not change its label: typing errors, case, emoji, a lost end, blank lines.

Each is a function of the post and a generator of random numbers alone.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np

from mentallama_jax.evaluation.probes.post_words import words_of

TYPO_SHARE = 0.125
CUT_SHARE = 0.2
_SHORTEST = 4
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_BESIDE = {
    letter: row[max(0, place - 1) : place] + row[place + 1 : place + 2]
    for row in _ROWS
    for place, letter in enumerate(row)
}
_LETTERS = re.compile(r"[^\W\d_]+")
_BREAK = re.compile(r"(?<=[.!?…])[^\S\n]+|[^\S\n]*\n\s*")
_EMOJI = (
    "\U0001f4cc",
    "\U0001f4ce",
    "\U0001f4c5",
    "\U0001f4ac",
    "\U0001f9e9",
    "\U0001f504",
    "\U0001f4dd",
    "\U0001f50e",
)
"""Things, no faces or hearts: they say nothing about how somebody feels."""

Perturbation = Callable[[str, np.random.Generator], str]


def typos(post: str, generator: np.random.Generator) -> str:
    """One typing error in an eighth of the words of four letters and more, at least in one.

    It is a neighbour on the keyboard, two letters swapped, one lost or one doubled. The first letter stays.
    """
    long = [match for match in _LETTERS.finditer(post) if len(match[0]) >= _SHORTEST]
    if not long:
        return post
    count = max(1, round(TYPO_SHARE * len(long)))
    chosen = sorted(generator.choice(len(long), size=count, replace=False).tolist(), reverse=True)
    for place in chosen:
        match = long[place]
        post = post[: match.start()] + _mistyped(match[0], generator) + post[match.end() :]
    return post


def _mistyped(word: str, generator: np.random.Generator) -> str:
    place = int(generator.integers(1, len(word) - 1))
    before, letter, after = word[:place], word[place], word[place + 1 :]
    kind = int(generator.integers(4))
    beside = _BESIDE.get(letter.lower(), "")
    if kind == 0 and beside:
        return before + str(generator.choice(list(beside))) + after
    if kind == 1 and after[0] != letter:
        return before + after[0] + letter + after[1:]
    if kind == 2:
        return before + after
    return before + letter + letter + after


def lower_case(post: str, generator: np.random.Generator) -> str:
    """All letters small."""
    return post.lower()


def upper_case(post: str, generator: np.random.Generator) -> str:
    """All letters capital."""
    return post.upper()


def emoji(post: str, generator: np.random.Generator) -> str:
    """A small picture of a thing behind half of the sentences, and behind the post."""
    breaks = [match for match in _BREAK.finditer(post) if generator.random() < 0.5 and match.end() < len(post)]
    for match in reversed(breaks):
        post = f"{post[: match.start()]} {generator.choice(_EMOJI)}{post[match.start() :]}"
    return f"{post.rstrip()} {generator.choice(_EMOJI)}"


def cut_off(post: str, generator: np.random.Generator) -> str:
    """The last fifth of the words lost, at least one; a single word stays."""
    words = words_of(post)
    return (
        "".join(words[: min(len(words) - 1, round((1 - CUT_SHARE) * len(words)))]).rstrip() if len(words) > 1 else post
    )


def blank_lines(post: str, generator: np.random.Generator) -> str:
    """A blank line behind each sentence and line."""
    return _BREAK.sub("\n\n", post.strip())


PERTURBATIONS: Mapping[str, Perturbation] = {
    "typos": typos,
    "lower_case": lower_case,
    "upper_case": upper_case,
    "emoji": emoji,
    "cut_off": cut_off,
    "blank_lines": blank_lines,
}
