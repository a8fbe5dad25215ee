"""Where a post holds what an explanation puts in quotation marks."""

from mentallama_jax.evaluation.trust.quotes import QuotedPost, Span, find_quotes, words_of

_SHORTEST = 3


def quoted_stretches(post: str, explanation: str) -> list[Span]:
    """The stretches [start, stop) of a post that an explanation quotes, wherever they occur; see `trust.quotes`.

    A quotation that does not occur in the post is passed over, and so is one of fewer than three letters or digits.
    """
    quoted = QuotedPost(post)
    quotes = {
        quote.text
        for quote in find_quotes(explanation)
        if sum(len(word.folded) for word in words_of(quote.text)) >= _SHORTEST
    }
    return sorted({span for quote in quotes for span in quoted.locate_all(quote)})
