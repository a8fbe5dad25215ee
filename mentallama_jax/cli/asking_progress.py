"""A bar for requests that an endpoint answers. Nothing where standard error is no terminal, beside what is said."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mentallama_jax.terminal import Console

if TYPE_CHECKING:
    from mentallama_jax.baselines.endpoints.kept_answers import KeptAnswer


class AskingProgress:
    """Counts answers and shows them. Use as a context manager."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("answers"), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, requests: int) -> None:
        """`requests` are to be answered."""
        self._task = self._bar.add_task("", total=requests)

    def add(self, answer: "KeptAnswer") -> None:
        """An answer is on disk."""
        self._bar.advance(self._task)

    def say(self, message: str) -> None:
        """Show a line on standard error."""
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)

    def say_all(self, lines: Sequence[str]) -> None:
        """Show lines on standard error."""
        for line in lines:
            self.say(line)
