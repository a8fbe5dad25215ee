"""A progress bar with what is done in a second."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def speed_progress(title: str, count: int, unit: str = "") -> Iterator[Callable[[int], None]]:
    """A bar with `unit`s a second, where standard error is a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from mentallama_jax.terminal import Console

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn(f"{{task.fields[speed]}}{unit}/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as shown:
        task = shown.add_task(title, total=count, speed="")
        start, done = time.monotonic(), 0

        def advance(more: int) -> None:
            nonlocal done
            done += more
            shown.update(task, advance=more, speed=f"{done / max(time.monotonic() - start, 1e-9):.1f}")

        yield advance
