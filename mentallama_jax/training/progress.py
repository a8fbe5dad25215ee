"""What a person sees of a run: a bar on a terminal or in a notebook, elsewhere now and then a line; all in log.txt."""

import time
from collections import deque
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from mentallama_jax.terminal import Console, NotebookLine
from mentallama_jax.training.run.disk import naming

_WINDOW = 50
"""Updates over which speed is averaged."""
_LINE_SECONDS = 30.0
"""Time between lines where there is no bar."""


class Speed:
    """Real tokens a second and seconds an update, over the last updates that did not compile."""

    def __init__(self) -> None:
        self._updates: deque[tuple[float, int]] = deque(maxlen=_WINDOW)

    def add(self, seconds: float, real_tokens: int) -> None:
        """Count one update."""
        self._updates.append((seconds, real_tokens))

    @property
    def known(self) -> bool:
        """Whether an update was counted."""
        return bool(self._updates)

    @property
    def seconds_per_update(self) -> float:
        """Mean seconds; only where `known`."""
        return sum(seconds for seconds, _ in self._updates) / len(self._updates)

    @property
    def tokens_per_second(self) -> float:
        """Padding left out; only where `known`."""
        return sum(tokens for _, tokens in self._updates) / max(sum(seconds for seconds, _ in self._updates), 1e-9)


class TrainingProgress:
    """Shows how a run goes. Use as a context manager."""

    def __init__(self, log: Path, console: Console) -> None:
        """Say things on `console` and in the file `log`; the bar comes with `start_bar`."""
        self._console, self._log = console, log
        self._bar: Progress | None = None
        self._line: NotebookLine | None = None
        self._task = TaskID(0)
        self._total = 0
        self._line_due = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._line is not None:
            self._line.close()
        if error is not None:
            with suppress(OSError):  # the disk may be full: that is what the error says then
                self._keep(f"ended by {type(error).__name__}: {error}")

    def start_bar(self, total_steps: int, start_step: int) -> None:
        """Begin at `start_step` updates of `total_steps`; on a terminal and in a notebook, show a bar."""
        self._total = total_steps
        if self._console.is_jupyter:
            self._line = NotebookLine(total_steps)
            self._line.show(start_step, "starting")
        if self._console.is_terminal:
            columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.fields[figures]}"))
            self._bar = Progress(*columns, console=self._console)
            self._task = self._bar.add_task("", total=total_steps, completed=start_step, figures="starting")
            self._bar.start()

    def say(self, message: str) -> None:
        """Show a line and keep it, with the time, in the log."""
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)
        self._keep(message)

    def update(self, step: int, loss: float, learning_rate: float, pad_share: float, speed: Speed) -> None:
        """Show the figures after `step` updates; `pad_share` is padding as a fraction of what was computed."""
        figures = f"loss {loss:.4f}  lr {learning_rate:.2e}  pad {pad_share:.1%}"
        if speed.known:
            left = duration(speed.seconds_per_update * (self._total - step))
            figures += f"  {speed.tokens_per_second:,.0f} tokens/s  {left} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, figures=figures)
        if self._line is not None:
            self._line.show(step, figures)
        if time.monotonic() >= self._line_due or step == self._total:
            line = f"update {step} of {self._total}  {figures}"
            if self._bar is None and self._line is None:
                self._console.print(line, markup=False, highlight=False, soft_wrap=True)
            self._keep(line)
            self._line_due = time.monotonic() + _LINE_SECONDS

    def _keep(self, message: str) -> None:
        with naming(self._log), self._log.open("a", encoding="utf-8") as stream:
            stream.write(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {message}\n")


def duration(seconds: float) -> str:
    """Such as `42 s`, `7 min`, `3 h 05 min` or `12 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(min(seconds, 1e12) / 60)
    if minutes >= 100 * 60:
        return f"{minutes // (24 * 60):,} days"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
