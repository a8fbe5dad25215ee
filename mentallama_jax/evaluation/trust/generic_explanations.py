"""Explanations that are near-copies of those of other posts: what would be said of any post says little of one.

Near-copies are those of `imhi.audit.near_copies`, so that explanations are judged as posts are. Equal explanations are
looked at once, and need the same words in the same order.
"""

from collections.abc import Sequence

from mentallama_jax.evaluation.trust.quotes import words_of
from mentallama_jax.imhi.audit.near_copies import near_copies_among


def generic_explanations(explanations: Sequence[str], posts: Sequence[str]) -> list[bool]:
    """Whether each explanation is, nearly, that of another post too. One without words is not.

    Args:
        explanations: texts.
        posts: what each is about; rows of one post may repeat each other.
    """
    keys = [" ".join(word.folded for word in words_of(text)) for text in explanations]
    posts_of: dict[str, set[str]] = {}
    text_of: dict[str, str] = {}
    for key, text, post in zip(keys, explanations, posts, strict=True):
        if key:
            posts_of.setdefault(key, set()).add(post)
            text_of.setdefault(key, text)

    def of_two_posts(one: str, other: str) -> bool:
        return len(posts_of[one] | posts_of[other]) > 1

    generic = {key for key, found in posts_of.items() if len(found) > 1}
    for pair in near_copies_among(text_of, of_two_posts):
        generic |= {pair.first, pair.second}
    return [key in generic for key in keys]
