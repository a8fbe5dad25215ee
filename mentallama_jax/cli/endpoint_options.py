"""The options of commands that ask an endpoint, and what they mean."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mentallama_jax.errors import UserError
from mentallama_jax.storage import local_path

if TYPE_CHECKING:
    from mentallama_jax.baselines.endpoints.chat_messages import Disguise
    from mentallama_jax.jobs.ask import Remote

KEY_VARIABLE = "OPENAI_API_KEY"
LEFT_OUT = ("temperature", "seed", "logprobs")

DISGUISED = "disguise: identifiers that rules find are replaced; other words stay, and a search may find a post by them"

GUARANTEES = """\
Every answer is on disk before it counts, in the file of kept answers, by endpoint, model, prompt and settings. After
Ctrl-C or kill -9 the same command asks only for what is missing. An answer that arrived is never asked for again. What
was under way when the program was killed or a connection was cut (at most --concurrency requests) is asked again, as
its answer is lost. Each request carries an Idempotency-Key: a server that knows it bills such a request once; OpenAI
does not promise that. --max-cost counts these attempts as paid, so that the limit holds either way, as long as the
endpoint keeps to --max-new-tokens.
"""


def add_endpoint_options(parser: argparse.ArgumentParser, *, required: bool, max_new_tokens: int = 256) -> None:
    """Add the options; `required` where there is no other way than an endpoint."""
    add: Any = parser.add_argument_group("endpoint").add_argument
    add(
        "--endpoint",
        metavar="URL",
        required=required,
        help="the address up to /v1, such as https://api.openai.com/v1 or http://localhost:8000/v1",
    )
    add("--send-posts", action="store_true", help="posts may leave this machine (not needed for localhost)")
    add("--disguise", action="store_true", help="replace identifiers in posts first, as `data disguise` does")
    add("--key-file", type=local_path, metavar="KEY", help="its key, from `mentallama data disguise --new-key`")
    add(
        "--key-variable",
        default=KEY_VARIABLE,
        metavar="NAME",
        help=f"the environment variable that holds the key (default: {KEY_VARIABLE})",
    )
    add("--price-in", type=float, metavar="DOLLARS", help="for a million tokens of questions")
    add("--price-out", type=float, metavar="DOLLARS", help="for a million tokens of answers")
    add(
        "--prices",
        type=local_path,
        metavar="FILE",
        help="a YAML file with the prices of models instead: `gpt-4o-mini: {in: 0.15, out: 0.6}`",
    )
    add("--max-cost", type=float, metavar="DOLLARS", help="stop before this much is spent, earlier runs included")
    add(
        "--token-counts",
        type=local_path,
        metavar="FILE",
        help="a tokenizer.json of the model, for a closer bound of cost (default: a token a byte)",
    )
    add("--concurrency", type=int, default=16, metavar="N", help="requests at once (default: 16)")
    add("--requests-per-minute", type=int, metavar="N", help="at most (default: no limit)")
    add("--tokens-per-minute", type=int, metavar="N", help="at most, questions and longest answers (default: no limit)")
    add("--retries", type=int, default=5, metavar="N", help="of a request that fails for now (default: 5)")
    add("--timeout", type=float, default=120.0, metavar="X", help="seconds to wait for an answer (default: 120)")
    add(
        "--leave-out",
        nargs="+",
        choices=LEFT_OUT,
        default=[],
        help="settings not to send, as some models refuse them",
    )
    add("--kept-answers", type=local_path, metavar="FILE", help="where answers are kept (default: beside --out)")
    add("--max-new-tokens", type=int, default=max_new_tokens, metavar="N", help="longest answer (default: %(default)s)")
    add("--temperature", type=float, default=0.0, metavar="T", help="0 takes the likeliest token (default: 0)")


def remote_of(options: argparse.Namespace, model: str, *, log_probabilities: bool) -> "Remote":
    """The endpoint that the options describe.

    Raises:
        UserError: an address that is none, a price without the other, or a setting out of range.
    """
    from mentallama_jax.baselines.endpoints.asking import Pace
    from mentallama_jax.baselines.endpoints.chat_requests import ChatSettings
    from mentallama_jax.baselines.endpoints.endpoint import parse_endpoint
    from mentallama_jax.baselines.endpoints.spending import find_prices
    from mentallama_jax.jobs.ask import Remote

    if options.max_new_tokens < 1 or not 0 <= options.temperature < float("inf"):
        raise UserError("--max-new-tokens is 1 or more, and --temperature 0 or more")
    return Remote(
        endpoint=parse_endpoint(options.endpoint),
        model=model,
        key_variable=options.key_variable,
        settings=ChatSettings(
            temperature=options.temperature,
            seed=options.seed,
            max_new_tokens=options.max_new_tokens,
            log_probabilities=log_probabilities,
            left_out=tuple(dict.fromkeys(options.leave_out)),
        ),
        pace=Pace(
            concurrency=options.concurrency,
            requests_per_minute=options.requests_per_minute,
            tokens_per_minute=options.tokens_per_minute,
            retries=options.retries,
            timeout=options.timeout,
        ),
        prices=find_prices(model, options.price_in, options.price_out, options.prices),
        limit=options.max_cost,
        tokenizer=options.token_counts,
        send_posts=options.send_posts,
    )


def disguise_of(options: argparse.Namespace) -> "Disguise":
    """What is sent of a record: the record as it is, or with `--disguise` with its identifiers replaced.

    Raises:
        UserError: no key, or one that is none.
    """
    from mentallama_jax.baselines.endpoints.chat_messages import as_it_is

    if not options.disguise:
        if options.key_file is not None:
            raise UserError("--key-file goes with --disguise")
        return as_it_is
    from functools import partial

    from mentallama_jax.imhi.disguise.disguise_key import VARIABLE, key_of_environment, read_key
    from mentallama_jax.imhi.disguise.disguised_records import disguise_record

    key = read_key(options.key_file) if options.key_file is not None else key_of_environment()
    if key is None:
        raise UserError(
            f"--disguise needs a key: --key-file KEY, or the variable {VARIABLE}; `mentallama data disguise --new-key` "
            "makes one"
        )
    return partial(disguise_record, key=key)


def notice_lines(options: argparse.Namespace, lines: Sequence[str]) -> list[str]:
    """The notice, and what a disguise leaves."""
    return [*lines, DISGUISED] if options.disguise else list(lines)
