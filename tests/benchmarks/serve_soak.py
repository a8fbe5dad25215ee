"""The soak of `serve.py`: clients that do all sorts of things to a server, and what came of it."""

import argparse
import asyncio
import json
import random
import statistics
import time
from collections import Counter

import psutil
from serve_client import NEW, Answer, Client, failed, percentile, prompts

BODY_LIMIT = 64 << 20
POSTS = (
    "Three exams in a week, and my hands shake when I open the laptop.",
    "Since the move I sit alone every evening and count the cracks in the ceiling.",
    "Rent went up again, and I have eleven euros until Friday.",
    "My sister stopped answering after the argument about the house.",
)
TASKS = ("SAD", "DR", "SAD", "dreaddit")


def common_length(one: str, other: str) -> int:
    """The length of the beginning that two texts share."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def analysed(answer: Answer) -> str:
    """What an analysis says."""
    said = answer.body or {}
    return f"{said.get('task')}: {said.get('label')}: {said.get('explanation')}"


class Soak:
    """Clients that do all sorts of things for a while, and what came of it."""

    KINDS = (
        ("stream", 40), ("whole", 20), ("analyse", 4), ("leave early", 10), ("leave later", 15),
        ("too large", 3), ("too long", 3), ("cut JSON", 3), ("another form", 3), ("unknown path", 2), ("short body", 1),
    )  # fmt: skip

    def __init__(self, client: Client, process: psutil.Process | None, options: argparse.Namespace) -> None:
        self._client, self._process, self._options = client, process, options
        self._prompts = prompts(options.prompts, 7)
        self._sizes = [random.Random(place).randrange(8, NEW) for place in range(options.prompts)]
        self._alone: list[str] = []
        self._analyses: list[str] = []
        self.seen: Counter[tuple[str, int]] = Counter()
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        self.firsts: list[float] = []
        self.memory: list[tuple[float, int]] = []

    async def run(self, minutes: float) -> dict:
        """The answers alone, then the soak.

        Returns:
            What is printed and written.
        """
        for prompt, new in zip(self._prompts, self._sizes, strict=True):
            answer = await self._client.complete(prompt, new)
            if failed(answer):
                raise SystemExit(f"a prompt alone was not answered: status {answer.status}")
            self._alone.append(answer.text)
        for place in range(len(POSTS)):
            self._analyses.append(analysed(await self._analyse(place)))
        self._start = time.monotonic()
        self._end = self._start + 60 * minutes
        watch = asyncio.create_task(self._watch())
        await asyncio.gather(*(self._behave(number) for number in range(self._options.soak_clients)))
        await watch
        last = await self._client.complete(self._prompts[0], self._sizes[0])
        if last.text != self._alone[0]:
            self.faults.append("the first prompt is answered otherwise at the end")
        return self._report(minutes)

    async def _watch(self) -> None:
        while time.monotonic() < self._end:
            if self._process:
                self.memory.append((time.monotonic() - self._start, self._process.memory_info().rss))
            await asyncio.sleep(1)

    async def _behave(self, number: int) -> None:
        draw = random.Random(1000 + number)
        kinds, weights = zip(*self.KINDS, strict=True)
        while time.monotonic() < self._end:
            kind = draw.choices(kinds, weights)[0]
            try:
                answer = await asyncio.wait_for(self._do(kind, draw), self._options.patience)
            except (TimeoutError, OSError) as error:
                self.faults.append(f"{kind}: {type(error).__name__}")
                continue
            self.seen[kind, answer.status] += 1
            if answer.status == 429:
                if answer.retry_after <= 0:
                    self.faults.append("429 without Retry-After")
                await asyncio.sleep(draw.uniform(0.2, 1) * min(answer.retry_after, 5))

    async def _analyse(self, place: int) -> Answer:
        body = {"post": POSTS[place], "task": TASKS[place % len(TASKS)]}
        return await self._client.send("POST", "/v1/analyse", json.dumps(body).encode())

    async def _do(self, kind: str, draw: random.Random) -> Answer:
        place = draw.randrange(len(self._prompts))
        prompt, new = self._prompts[place], self._sizes[place]
        if kind in ("stream", "whole"):
            answer = await self._client.complete(prompt, new, stream=kind == "stream")
            self._check(kind, place, answer)
            return answer
        if kind == "analyse":
            place = draw.randrange(len(POSTS))
            answer = await self._analyse(place)
            self.counts["analyses"] += answer.status != 429
            if answer.status not in (200, 429):
                self.counts["lost"] += 1
                self.faults.append(f"analyse: lost, status {answer.status}")
            elif answer.status == 200 and analysed(answer) != self._analyses[place]:
                others = analysed(answer) in self._analyses
                self.counts["mixed up" if others else "analyses that differ from the one alone"] += 1
                self.faults += ["analyse: the answer is that of another post"] * others
            return answer
        if kind.startswith("leave"):
            after = 0 if kind == "leave early" else draw.randrange(1, 6)
            answer = await self._client.complete(prompt, new, leave_after=after)
            if answer.status not in (0, 200, 429):
                self.faults.append(f"{kind}: status {answer.status}")
            return answer
        return await self._bad(kind, prompt)

    async def _bad(self, kind: str, prompt: list[int]) -> Answer:
        whole = json.dumps({"prompt": prompt, "max_tokens": 8}).encode()
        if kind == "too large":
            answer = await self._client.send("POST", "/v1/completions", b"", length=BODY_LIMIT)
        elif kind == "too long":
            body = json.dumps({"prompt": prompt * 1000, "max_tokens": 8}).encode()
            answer = await self._client.send("POST", "/v1/completions", body)
        elif kind == "cut JSON":
            answer = await self._client.send("POST", "/v1/completions", whole[: len(whole) // 2])
        elif kind == "another form":
            answer = await self._client.send("POST", "/v1/completions", b'{"prompt": {"a": 1}, "max_tokens": "many"}')
        elif kind == "unknown path":
            answer = await self._client.send("POST", "/v1/nothing", whole)
        else:  # the connection ends before the body does
            return await self._client.send("POST", "/v1/completions", whole[:40], length=len(whole), leave_after=0)
        if not 400 <= answer.status < 500:
            self.faults.append(f"{kind}: status {answer.status} where a 4xx is due")
        return answer

    def _check(self, kind: str, place: int, answer: Answer) -> None:
        if answer.status == 429:
            return
        self.counts["answers"] += 1
        self.counts["tokens"] += answer.tokens
        if failed(answer):
            self.counts["lost"] += 1
            self.faults.append(f"{kind}: lost, status {answer.status}, finish {answer.finish or 'none'}")
            return
        if kind == "stream":
            self.firsts.append(answer.first)
        if answer.text == self._alone[place]:
            return
        near = [common_length(answer.text, text) for text in self._alone]
        other = max(length for where, length in enumerate(near) if where != place)
        if other > max(near[place], len(answer.text) // 2):
            self.counts["mixed up"] += 1
            self.faults.append(f"{kind}: the answer is that of another prompt")
        else:
            self.counts["differ from the answer alone"] += 1

    def _report(self, minutes: float) -> dict:
        after = min(60.0, 60 * minutes / 3)
        at_first = [rss for second, rss in self.memory if abs(second - after) <= max(5.0, after / 6)]
        later = [rss for second, rss in self.memory if second > after]
        growth = max(later) / statistics.median(at_first) - 1 if at_first and later else None
        names = (
            "answers", "tokens", "analyses", "lost", "mixed up", "differ from the answer alone",
            "analyses that differ from the one alone",
        )  # fmt: skip
        return {
            "minutes": minutes,
            "clients": self._options.soak_clients,
            **{name: self.counts[name] for name in names},
            "seconds to the first token": {f"p{n}": round(percentile(self.firsts, n / 100), 2) for n in (50, 95, 99)},
            "statuses": {f"{kind} {status}": count for (kind, status), count in sorted(self.seen.items())},
            "memory after the first minute, MB": round(statistics.median(at_first) / 1e6) if at_first else None,
            "memory growth, largest later": None if growth is None else round(growth, 4),
            "faults": dict(Counter(self.faults)),
        }
