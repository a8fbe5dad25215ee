"""Words that rules of names ask: given names, and words that stand where names do but are none."""

from functools import cache
from importlib import resources


@cache
def common_names() -> frozenset[str]:
    """Given names that posts in English use most, in small letters: these are known where written small, too."""
    return _words("names.txt")


@cache
def no_names() -> frozenset[str]:
    """Words that follow a greeting or stand under a text, in small letters, such as `everyone`."""
    return _words("no_names.txt")


@cache
def no_streets() -> frozenset[str]:
    """Words that stand between a number and a word such as `road` where no street is meant: "3 years on the road"."""
    return _words("no_streets.txt")


def _words(file: str) -> frozenset[str]:
    text = (resources.files("mentallama_jax.imhi.disguise") / file).read_text("utf-8")
    return frozenset(text.split())
