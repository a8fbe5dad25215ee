"""How far a study is: a live table on a terminal, plain lines elsewhere."""

import time
from typing import TYPE_CHECKING, Self

from rich.live import Live
from rich.table import Table

from mentallama_jax.study.step_progress import share_done
from mentallama_jax.study.study_runner import FINAL
from mentallama_jax.terminal import Console

if TYPE_CHECKING:
    from mentallama_jax.study.study_graph import StudyGraph
    from mentallama_jax.study.study_runner import StepState
    from mentallama_jax.study.study_steps import StudyStep

_EVERY = 1.0
_LINE_EVERY = 300.0
_STYLES = {"running": "bold", "failed": "red", "blocked": "red", "done": "green", "reused": "dim", "waiting": "dim"}


class StudyProgress:
    """Shows the states of steps, and how long the rest may take. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        """Show on `console`, without a thread of its own: steps are started from a process with one thread."""
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._said: dict[str, str] = {}
        self._shown = self._spoken = 0.0

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        self._spoken = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, line: str) -> None:
        """Print a line."""
        self._console.print(line, highlight=False, soft_wrap=True)

    def show(self, graph: "StudyGraph", states: "dict[str, StepState]") -> None:
        """Show the states, where some time has passed or something changed."""
        changed = {name: each for name, each in states.items() if self._said.get(name, "waiting") != each.state}
        self._said = {name: each.state for name, each in states.items()}
        now = time.monotonic()
        if self._live:
            if changed or now - self._shown > _EVERY:
                self._shown = now
                self._live.update(self._table(graph, states), refresh=True)
            return
        for name, each in changed.items():
            self.say(_line(name, each, states))
        if now - self._spoken > _LINE_EVERY or changed:
            if not changed:
                for name, each in states.items():
                    if each.state == "running":
                        self.say(f"{name}: {_how_far(graph, graph.steps[name], each)}")
                self.say(time_left(graph, states))
            self._spoken = now

    def _table(self, graph: "StudyGraph", states: "dict[str, StepState]") -> Table:
        table = Table(box=None, pad_edge=False, caption=time_left(graph, states), caption_justify="left")
        for head in ("step", "state", "time", ""):
            table.add_column(head, no_wrap=head != "")
        rows = self._console.height - 4
        for name in _shown_names(states, rows):
            each = states[name]
            far = _how_far(graph, graph.steps[name], each) if each.state == "running" else each.why
            spent = duration(each.seconds) if each.seconds else ""
            table.add_row(name, each.state, spent, far, style=_STYLES.get(each.state))
        return table


def _shown_names(states: "dict[str, StepState]", rows: int) -> list[str]:
    """The steps of a table that the screen holds: all, or those around what is running."""
    names = list(states)
    if len(names) <= rows:
        return names
    running = [place for place, each in enumerate(states.values()) if each.state == "running"]
    first = max(0, min((running or [len(names)])[0] - rows // 3, len(names) - rows))
    return names[first : first + rows]


def _line(name: str, state: "StepState", states: "dict[str, StepState]") -> str:
    ended = sum(each.state in FINAL for each in states.values())
    spent = f" in {duration(state.seconds)}" if state.state in ("done", "failed") else ""
    why = f" ({state.why})" if state.why else ""
    return f"[{ended}/{len(states)}] {name}: {state.state}{spent}{why}"


def _how_far(graph: "StudyGraph", step: "StudyStep", state: "StepState") -> str:
    share = share_done(graph, step)
    parts = [] if share is None else [f"{100 * share:.0f} %"]
    left = _left(state, share)
    return ", ".join([*parts, *([f"about {duration(left)} left"] if left is not None else [])])


def _left(state: "StepState", share: float | None) -> float | None:
    """Seconds that a running step may still take; None where nothing says it."""
    if share:
        return state.seconds * (1 - share) / share
    return None if state.expected is None else max(state.expected - state.seconds, 0.0)


def time_left(graph: "StudyGraph", states: "dict[str, StepState]") -> str:
    """How long the rest may take, by what steps took earlier and by how far those are that run."""
    known, unknown = 0.0, 0
    for name, each in states.items():
        if each.state in FINAL:
            continue
        left = each.expected if each.state == "waiting" else _left(each, share_done(graph, graph.steps[name]))
        known, unknown = (known, unknown + 1) if left is None else (known + left, unknown)
    if not known and not unknown:
        return "all steps have ended"
    least = "at least " if unknown else "about "
    rest = f"; of {unknown} steps it is not known" if unknown else ""
    return f"time left: {least}{duration(known)}{rest}"


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
