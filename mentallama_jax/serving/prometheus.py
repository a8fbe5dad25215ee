"""Figures of a running server in the text form of Prometheus. They count; nothing of what was asked is in them."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SPEEDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)


class _Histogram:
    def __init__(self, name: str, what: str, bounds: Sequence[float]) -> None:
        self._name, self._what, self._bounds = name, what, bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self) -> list[str]:
        found, total = _head(self._name, self._what, "histogram"), 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            found.append(f'{self._name}_bucket{{le="{bound}"}} {total}')
        return [*found, f"{self._name}_sum {self._sum:.6f}", f"{self._name}_count {total}"]


class ServerFigures:
    """Counters and histograms; all are changed and read on the thread of the event loop."""

    def __init__(self) -> None:
        self._responses: Counter[tuple[str, int]] = Counter()
        self._counts: Counter[str] = Counter()
        self.first_token = _Histogram(
            "mentallama_first_token_seconds", "Seconds from a request to its first token.", _SECONDS
        )
        self.speed = _Histogram(
            "mentallama_answer_tokens_per_second", "Tokens per second of an answer, behind its first one.", _SPEEDS
        )

    def responded(self, route: str, status: int) -> None:
        """Count a response by the route, one of few, and its status."""
        self._responses[route, status] += 1

    def add(self, *, prompt_tokens: int = 0, new_tokens: int = 0, cancelled: int = 0, timed_out: int = 0) -> None:
        """Count tokens read and written, and requests that ended early."""
        self._counts.update(
            prompt_tokens=prompt_tokens, new_tokens=new_tokens, cancelled=cancelled, timed_out=timed_out
        )

    def text(self, gauges: Sequence[tuple[str, str, Callable[[], float]]]) -> str:
        """All figures, with some that are read now: (name, what it is, how it is read)."""
        lines = _head("mentallama_responses_total", "Responses by route and status.", "counter")
        for (route, status), count in sorted(self._responses.items()):
            lines.append(f'mentallama_responses_total{{route="{route}",status="{status}"}} {count}')
        for name, key, what in (
            ("prompt_tokens", "prompt_tokens", "Tokens of prompts that were read."),
            ("generated_tokens", "new_tokens", "Tokens that were written."),
            ("requests_cancelled", "cancelled", "Requests whose client left before the answer was complete."),
            ("requests_timed_out", "timed_out", "Requests that met the limit of time."),
        ):
            full = f"mentallama_{name}_total"
            lines += [*_head(full, what, "counter"), f"{full} {self._counts[key]}"]
        lines += [*self.first_token.lines(), *self.speed.lines()]
        for name, what, read in gauges:
            lines += [*_head(f"mentallama_{name}", what, "gauge"), f"mentallama_{name} {read():g}"]
        return "\n".join(lines) + "\n"


def _head(name: str, what: str, kind: str) -> list[str]:
    return [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]
