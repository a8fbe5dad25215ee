"""A bar for rows that are being answered: rows left, tokens a second. Nothing where standard error is no terminal."""

import time
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.terminal import Console


class GenerationProgress:
    """Counts rows and tokens, and shows them. Use as a context manager.

    Attributes:
        rows: answered so far.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        """Begin with nothing; `quiet` shows nothing."""
        self._console = Console(stderr=True, quiet=quiet)
        columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("rows  {task.fields[speed]}"))
        self._bar = Progress(
            *columns, TimeRemainingColumn(), console=self._console, disable=not self._console.is_terminal
        )
        self.rows = 0
        self._tokens = 0
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @property
    def tokens_per_second(self) -> float:
        """New tokens a second since `begin`, compilation included."""
        return self._tokens / max(time.monotonic() - self._started, 1e-9)

    def begin(self, rows: int) -> None:
        """Start the clock; `rows` are to be answered."""
        self._started = time.monotonic()
        self._task = self._bar.add_task("", total=rows, speed="compiling")

    def add(self, predictions: "list[Prediction]") -> None:
        """Count a batch that is on disk."""
        self.rows += len(predictions)
        self._tokens += sum(row.new_tokens for row in predictions)
        self._bar.update(self._task, completed=self.rows, speed=f"{self.tokens_per_second:,.0f} tokens/s")

    def say(self, message: str) -> None:
        """Show a line on standard error."""
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)
