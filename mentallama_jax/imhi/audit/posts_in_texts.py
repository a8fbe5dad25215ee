"""Whether a text of any length holds one of some posts, or is a near-copy of one.

The rule is that of `near_copies`, computed exactly for every pair by an index of the posts' shingles: the sets of three
neighbouring words are alike, or nearly all of a post of some length stands in the text. A shorter post of at least
`LEAST_WORDS` words is found where it stands in the text word by word. One that is shorter still is found only where the
text is nothing else: such words stand in many texts by chance.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from mentallama_jax.imhi.audit.near_copies import (
    ALIKE,
    CONTAINED,
    LEAST_SHINGLES_OF_A_CUT,
    folded_words,
    shingles_of,
)

LEAST_WORDS = 6
"""Words of the shortest post that is looked for within longer texts."""
_WINDOW = 4000


class PostsInTexts:
    """Looks for posts in texts; a text of many words is looked at in windows that overlap by the longest post."""

    def __init__(self, posts: Mapping[str, str]) -> None:
        """Take posts by their keys; those without a word are never found."""
        self._words = {key: words for key, post in posts.items() if (words := folded_words(post))}
        self._sizes: dict[str, int] = {}
        self._index: dict[tuple[str, ...], list[str]] = {}
        for key, words in self._words.items():
            shingles = shingles_of(words)
            self._sizes[key] = len(shingles)
            for shingle in shingles:
                self._index.setdefault(shingle, []).append(key)
        self._overlap = max((len(words) for words in self._words.values()), default=0)

    def find(self, text: str) -> str | None:
        """The key of a post that the text holds or copies; the first in alphabetical order where there are several."""
        if not self._index:
            return None
        words = folded_words(text)
        windows = list(self._windows(words))
        for window in windows:
            if found := sorted(self._in_window(window, whole=len(windows) == 1)):
                return found[0]
        return None

    def _windows(self, words: Sequence[str]) -> Iterator[Sequence[str]]:
        size = max(_WINDOW, 2 * self._overlap)
        for start in range(0, max(len(words) - self._overlap, 1), size - self._overlap):
            yield words[start : start + size]

    def _in_window(self, words: Sequence[str], *, whole: bool) -> Iterator[str]:
        shingles = shingles_of(words)
        hits: Counter[str] = Counter()
        for shingle in shingles:
            hits.update(self._index.get(shingle, ()))
        joined = f" {' '.join(words)} " if hits else ""
        for key, shared in hits.items():
            size = self._sizes[key]
            if (
                (whole and shared >= ALIKE * (len(shingles) + size - shared))
                or (size >= LEAST_SHINGLES_OF_A_CUT and shared >= CONTAINED * size)
                or (
                    shared == size
                    and len(self._words[key]) >= LEAST_WORDS
                    and f" {' '.join(self._words[key])} " in joined
                )
            ):
                yield key
