"""What is compiled before the first request, so that usual requests wait for nothing."""

from collections.abc import Callable, Iterator
from itertools import product

from mentallama_jax.generation.cache_moves import places_for
from mentallama_jax.generation.decoding import Decoding
from mentallama_jax.generation.packs import WIDTHS
from mentallama_jax.generation.requests import Request, Settings
from mentallama_jax.generation.sampling import Sampling

FEW_SLOTS = (1, 4)
"""Numbers of slots for few clients: with 16, a step for a single client takes more than twice the time."""
_FEWEST_PLACES = 128


def few_places(longest: int) -> Callable[[int], int]:
    """Places of the cache in powers of two, so that a program is compiled for few sizes.

    Args:
        longest: tokens of prompt and answer together; no size is larger than they need.
    """
    largest = places_for(longest)

    def places(length: int) -> int:
        need = places_for(length)
        size = _FEWEST_PLACES
        while size < need:
            size *= 2
        return max(need, min(size, largest))

    return places


def warm_up(decoding: Decoding, longest: int, token: int) -> Iterator[None]:
    """Answer prompts of every width in every number of slots, with drafts and without, and forget the answers.

    Args:
        decoding: to compile for.
        longest: prompt to compile for.
        token: that prompts consist of.
    """
    lengths = sorted({min(width, longest) for width in WIDTHS})
    worth = decoding.drafts.worth
    ways = [(Sampling(), False), (Sampling(1.0), False)] + [(Sampling(), True)] * (decoding.drafts.most > 0)
    for (sampling, drafted), length, size in product(ways, lengths, decoding.sizes):
        decoding.drafts.worth = 0.0 if drafted else float("inf")
        decoding.submit(Request([token] * length, "", Settings(2, sampling), samples=size))
        while not decoding.is_idle:
            decoding.step()
            yield
    decoding.drafts.worth = worth
