"""Posts that are copies of one another in another spelling: with a link added, a word changed, or the end cut off.

Two posts are compared by the sets of three neighbouring words that they hold, case, punctuation and links aside. They
are near-copies if the sets are alike (Jaccard index of at least `ALIKE`), or if nearly all of the shorter post is in
the longer one (a share of at least `CONTAINED`, for posts of some length). Both are computed exactly. MinHash by way of
rensa, and equal beginnings and ends, only choose which posts are compared, as all pairs are too many.

A post of fewer than about ten words is found only if no word in the midst of it differs: short posts on one topic are
often alike without being copies. In the released files the pairs above these limits are copies, to the eye, and those
that differ by one word of six ("... because of work", "... because of money") are below.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product

ALIKE = 0.8
"""Least Jaccard index of near-copies."""

CONTAINED = 0.9
"""Least share of the shorter post in the longer one, where the shorter has `LEAST_SHINGLES_OF_A_CUT`."""

LEAST_SHINGLES_OF_A_CUT = 20
"""Least shingles of a post that is looked for within longer ones."""
_WORDS_OF_A_SHINGLE = 3
_WORDS_OF_AN_END = 8
_PERMUTATIONS = 128
_ROWS_OF_A_BAND = 4
_SEED = 0
_MOST_OF_A_BUCKET = 200

_LINK = re.compile(r"(?:https?://|www\.)\S+")
_APOSTROPHE = re.compile(r"['’`´]")
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
"""A word; in scripts without blanks between words (Thai, kana, Han) a character stands for one."""

Shingles = frozenset[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class NearCopy:
    """Two posts that are near-copies, by the keys that they were given under.

    Attributes:
        first: key of the one.
        second: key of the other.
        similarity: the Jaccard index or the share of the shorter post, whichever is larger; 1 at most.
    """

    first: str
    second: str
    similarity: float


def are_near_copies(first: Shingles, second: Shingles) -> bool:
    """Whether two posts are near-copies, exactly; posts without a word cannot be told from each other."""
    return _similarity(first, second) >= ALIKE if first or second else True


def near_copies_among(posts: Mapping[str, str], compared: Callable[[str, str], bool]) -> list[NearCopy]:
    """Find the near-copies among posts.

    Of a group of several hundred posts that are all alike, not every pair is looked at.

    Args:
        posts: key -> text.
        compared: whether two keys are of interest as a pair.

    Returns:
        Pairs in the order of `posts`, each once.
    """
    keys = list(posts)
    return _find(keys, [posts[key] for key in keys], lambda one, two: compared(keys[one], keys[two]))


def near_copies_of(originals: Mapping[str, str], posts: Mapping[str, str]) -> list[NearCopy]:
    """Find the posts that are near-copies of one of the originals: `first` is an original, `second` a post.

    A key that both have is one post and no copy.
    """
    keys = [*originals, *(key for key in posts if key not in originals)]
    count = len(originals)
    texts = [originals.get(key) or posts[key] for key in keys]
    return _find(keys, texts, lambda one, two: (one < count) != (two < count))


def _find(keys: Sequence[str], texts: Sequence[str], wanted: Callable[[int, int], bool]) -> list[NearCopy]:
    words = [folded_words(text) for text in texts]
    shingles = [shingles_of(of_post) for of_post in words]
    found: dict[tuple[int, int], float] = {}
    rejected: set[tuple[int, int]] = set()
    for bucket in _buckets(words, shingles):
        # Each post of a large bucket meets some of the others, not all of them.
        for one, two in product(bucket[:_MOST_OF_A_BUCKET], bucket):
            pair = (one, two) if one < two else (two, one)
            if one == two or pair in found or pair in rejected or not wanted(*pair):
                continue
            score = _similarity(shingles[one], shingles[two])
            if score >= ALIKE:
                found[pair] = score
            else:
                rejected.add(pair)
    return [NearCopy(keys[one], keys[two], round(score, 4)) for (one, two), score in sorted(found.items())]


def _similarity(first: Shingles, second: Shingles) -> float:
    shared, shorter = len(first & second), min(len(first), len(second))
    if not shared:
        return 0.0
    alike, contained = shared / (len(first) + len(second) - shared), shared / shorter
    if shorter >= LEAST_SHINGLES_OF_A_CUT and contained >= CONTAINED:
        return max(alike, contained)
    return alike


def folded_words(text: str) -> list[str]:
    """The words of a text, in which case, punctuation, apostrophes and links do not count."""
    folded = _LINK.sub(" ", unicodedata.normalize("NFKC", text).casefold())
    return _WORD.findall(_APOSTROPHE.sub("", folded))


def shingles_of(words: Sequence[str]) -> Shingles:
    """The sets of three neighbouring words that two texts are compared by."""
    if len(words) < _WORDS_OF_A_SHINGLE:
        return frozenset([tuple(words)] if words else [])
    return frozenset(zip(*(islice(words, start, None) for start in range(_WORDS_OF_A_SHINGLE)), strict=False))


def _buckets(words: Sequence[Sequence[str]], shingles: Sequence[Shingles]) -> Iterator[list[int]]:
    """Posts that may be near-copies, in groups of at least two: by MinHash, by their first and by their last words."""
    from rensa import RMinHash

    present = [place for place, of_post in enumerate(shingles) if of_post]
    tokens = [sorted(map(" ".join, shingles[place])) for place in present]
    digests = RMinHash.digest_matrix_from_token_sets(tokens, _PERMUTATIONS, _SEED).to_rows() if tokens else []
    for start in range(0, _PERMUTATIONS, _ROWS_OF_A_BAND):
        keys = (tuple(digest[start : start + _ROWS_OF_A_BAND]) for digest in digests)
        yield from _grouped(zip(keys, present, strict=True))
    long = [place for place in present if len(words[place]) >= _WORDS_OF_AN_END]
    yield from _grouped((tuple(words[place][:_WORDS_OF_AN_END]), place) for place in long)
    yield from _grouped((tuple(words[place][-_WORDS_OF_AN_END:]), place) for place in long)


def _grouped(keyed: Iterable[tuple[Collection[object], int]]) -> Iterator[list[int]]:
    groups: dict[Collection[object], list[int]] = {}
    for key, place in keyed:
        groups.setdefault(key, []).append(place)
    yield from (group for group in groups.values() if len(group) > 1)
