"""What the server needs of the analysis of posts.

The labels of a post are scored between two loops of the engine; its explanation joins the running batch.
"""

from typing import Any, Protocol

from mentallama_jax.generation.requests import Answer, Request


class PostAnalyser(Protocol):
    """What reads posts. `score` is for the engine's thread; the others must not be called on the event loop."""

    def question(self, post: str, task: str, aspect: str | None) -> Any:
        """Return the question about a post; a UserError says what is wrong with it."""

    def score(self, question: Any) -> Any:
        """Return the scores of the labels of a question."""

    def explanation(self, question: Any, scores: Any) -> Request:
        """Return what asks the engine for an explanation of the likeliest label."""

    def analysis(
        self, question: Any, scores: Any, tokens: list[int], answer: Answer | None, abstain_below: float
    ) -> dict[str, Any]:
        """Return the analysis as JSON; `answer` is None where time was up after `tokens`."""
