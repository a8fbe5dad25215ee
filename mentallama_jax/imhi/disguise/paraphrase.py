"""Moderate paraphrases of posts by a model: kept where they say the same in other words, else refused and counted."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from mentallama_jax.imhi.disguise.searchability import RUN_WORDS, longest_run

Rewrite = Callable[[Sequence[str]], Sequence[str]]
"""Texts -> the same texts in other words, in their order."""

Similarity = Callable[[Sequence[tuple[str, str]]], Sequence[float]]
"""Pairs of texts -> how near they are, 1 where they are equal."""

ParaphraseOutcome = Literal["kept", "empty", "too different", "long run left"]
OUTCOMES: tuple[ParaphraseOutcome, ...] = ("kept", "empty", "too different", "long run left")


@dataclass(frozen=True, slots=True)
class Bounds:
    """When a paraphrase is kept.

    Attributes:
        similarity: it is at least as near to the disguised text.
        run_words: its longest run in common with the original has fewer words.
    """

    similarity: float
    run_words: int = RUN_WORDS


@dataclass(frozen=True, slots=True, kw_only=True)
class ParaphraseSettings:
    """How posts are paraphrased.

    Attributes:
        model: any that `generate` opens.
        similarity: `embedding` or `chrf`.
        embedding: the model of `embedding`; None for that of `evaluate`.
        bounds: when a paraphrase is kept.
        max_new_tokens: of a paraphrase.
        batch_size: prompts at once.
    """

    model: str
    similarity: str = "embedding"
    embedding: str | None = None
    bounds: Bounds
    max_new_tokens: int = 512
    batch_size: int = 8


@dataclass(frozen=True, slots=True)
class Paraphrased:
    """What became of texts: the paraphrase, or the disguised text itself where the paraphrase was refused."""

    texts: tuple[str, ...]
    outcomes: tuple[ParaphraseOutcome, ...]

    @property
    def counts(self) -> dict[str, int]:
        """ParaphraseOutcome -> texts."""
        found = Counter(self.outcomes)
        return {outcome: found[outcome] for outcome in OUTCOMES}


def paraphrase(
    originals: Sequence[str], disguised: Sequence[str], rewrite: Rewrite, similarity: Similarity, bounds: Bounds
) -> Paraphrased:
    """Put disguised texts into other words.

    Args:
        originals: what the texts were before anything was replaced: what nobody should be able to search for.
        disguised: the texts to rewrite; the model sees nothing else.
        rewrite: the model.
        similarity: how near two texts are.
        bounds: when a paraphrase is kept.
    """
    written = [text.strip() for text in rewrite(disguised)]
    near = similarity(list(zip(disguised, written, strict=True)))
    outcomes = tuple(
        _outcome(original, new, score, bounds) for original, new, score in zip(originals, written, near, strict=True)
    )
    texts = tuple(
        new if outcome == "kept" else old for old, new, outcome in zip(disguised, written, outcomes, strict=True)
    )
    return Paraphrased(texts, outcomes)


def _outcome(original: str, new: str, score: float, bounds: Bounds) -> ParaphraseOutcome:
    if not new:
        return "empty"
    if not score >= bounds.similarity:
        return "too different"
    return "long run left" if longest_run(original, new) >= bounds.run_words else "kept"
