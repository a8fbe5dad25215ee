"""`mentallama ask`: answer records with a model behind an OpenAI-compatible endpoint."""

import argparse
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from mentallama_jax.cli.endpoint_options import GUARANTEES, add_endpoint_options, disguise_of, notice_lines, remote_of
from mentallama_jax.cli.prompting_options import add_wording_options, lines_on_prompting, prompting_of
from mentallama_jax.cli.task_options import add_tasks, next_evaluation
from mentallama_jax.errors import UserError
from mentallama_jax.foreign import one_line
from mentallama_jax.storage import expanded, local_path

if TYPE_CHECKING:
    from mentallama_jax.imhi.predictions import Prediction
    from mentallama_jax.jobs.ask import AskedRecords

_DESCRIPTION = f"""\
Answer the questions of DATA with a model that is not on this machine's disk: ChatGPT, GPT-4, or a local server (vLLM,
llama.cpp) that speaks the protocol of OpenAI's chat completions. The predictions are those of `mentallama generate`.

Posts leave this machine only with --send-posts, and what is sent where, and the most that it can cost, is printed
first: without --send-posts the command prints that and stops. An address of this machine (localhost, 127.0.0.1) needs
no --send-posts. The key comes from an environment variable, and is never written or shown.

{GUARANTEES}"""

_EPILOG = """\
examples:
  mentallama ask gpt-4o-mini --endpoint https://api.openai.com/v1 --data data/imhi:test --out gpt.jsonl --price-in 0.15 --price-out 0.6
  mentallama ask gpt-4o-mini --endpoint https://api.openai.com/v1 --data data/imhi:test --out gpt.jsonl --prices prices.yaml --max-cost 5 --send-posts
  mentallama ask gpt-4o-mini --endpoint https://api.openai.com/v1 --data data/imhi:test --out gpt.jsonl --prices prices.yaml --send-posts --disguise --key-file ~/keys/imhi.key
  mentallama ask toy --endpoint http://localhost:8000/v1 --data sample:test --out zero.jsonl --prompt zero-shot
  mentallama ask toy --endpoint http://localhost:8000/v1 --data sample:test --out few.jsonl --shots 1 --shots-from sample:train
  mentallama ask llama --endpoint http://localhost:8000/v1 --data sample:test --out local.jsonl --concurrency 4

then:
  mentallama evaluate gpt.jsonl --out scores/gpt

With --disguise, identifiers in posts are replaced before anything is sent (see `mentallama data disguise --help`); the
predictions are of the rows as they are.

--prompt and --shots are those of `mentallama generate`, but no example is left out: how much an endpoint reads is not
known here. Examples stand as earlier turns of the conversation.

Where the endpoint gives log-probabilities and an answer begins with its label, the row holds the probabilities of all
labels, which `mentallama evaluate` needs for calibration; other rows hold none.

For research only. The posts are of people, some in distress: whether they may be sent to a third party is said by the
terms of the platforms and data sets that they come from, and by your ethics board.
"""  # noqa: E501


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "ask",
        help="answer test rows with ChatGPT, GPT-4 or a local server",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", metavar="NAME", help="the model, as the endpoint calls it")
    add(
        "--data",
        nargs="+",
        type=expanded,
        metavar="SOURCE",
        required=True,
        help="files, folders, `sample`; SOURCE:test",
    )
    add("--out", type=local_path, metavar="FILE", required=True, help="predictions to write; ends in .jsonl")
    add("--task", metavar="NAME", help="ask the question of this data set about posts that belong to none")
    add("--aspect", default="", metavar="ASPECT", help="ask about this one, with --task (default: about every aspect)")
    add("--datasets", nargs="+", default=["all"], metavar="NAME", help="data sets to answer (default: all)")
    add("--max-rows", type=int, metavar="N", help="at most N rows of each data set, chosen by --seed (default: all)")
    add("--repair-mojibake", action="store_true", help="undo UTF-8 that was read as MacRoman, where it round-trips")
    add("--seed", type=int, default=0, metavar="N", help="sent along, and of --max-rows (default: 0)")
    add_wording_options(parser)
    add_tasks(parser)
    add_endpoint_options(parser, required=True)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Ask; print the notice before and what was written after. 1 where answers are missing."""
    from mentallama_jax.cli.asking_progress import AskingProgress
    from mentallama_jax.cli.generate_command import show_left_out
    from mentallama_jax.jobs.answer import questions_in
    from mentallama_jax.jobs.ask import ask_about, kept_path

    if options.aspect and not options.task:
        raise UserError("--aspect goes with --task; records say what they ask about")
    remote = remote_of(options, options.model, log_probabilities=True)
    disguise = disguise_of(options)
    questions = questions_in(
        options.data,
        task=options.task,
        aspect=options.aspect,
        datasets=options.datasets,
        max_rows=options.max_rows,
        seed=options.seed,
        repair_mojibake=options.repair_mojibake,
    )
    show_left_out(questions)
    prompting = prompting_of(options, questions.records)
    kept = options.kept_answers or kept_path(options.out)
    with AskingProgress() as progress:
        try:
            found, rows = ask_about(
                remote,
                questions.records,
                questions.sources,
                options.out,
                prompting=prompting,
                disguise=disguise,
                kept=kept,
                on_notice=lambda lines: progress.say_all(notice_lines(options, lines)),
                on_start=progress.begin,
                on_answer=progress.add,
            )
        except KeyboardInterrupt:
            progress.say(f"stopped; answers are kept in {kept}, and the same command goes on from there")
            raise
    say_missing(found, str(kept))
    if found.missing:
        return 1
    print(_summary(options, rows, found, lines_on_prompting(prompting, rows)))
    return 0


def say_missing(found: "AskedRecords", kept: str) -> None:
    """Say on standard error that answers are missing and, in a last line that begins with `error: `, why."""
    if not found.missing:
        return
    rows = "1 row has" if found.missing == 1 else f"{found.missing} rows have"
    why = [f"stopped: {found.asked.stopped}"] if found.asked.stopped else []
    for reason, count in found.asked.unanswered.most_common():
        why.append(f"no answer to {count} request{'' if count == 1 else 's'}: {reason}")
    print(
        f"The answers that came are kept in {kept}. The same command asks for the missing ones; predictions are "
        "written when all are there.",
        file=sys.stderr,
    )
    print(f"error: {one_line('; '.join([f'{rows} no answer yet', *why]))}", file=sys.stderr)


def _summary(options: argparse.Namespace, rows: "list[Prediction]", found: "AskedRecords", besides: "list[str]") -> str:
    finishes = Counter(row.finish for row in rows)
    lines = [f"wrote {len(rows)} predictions to {options.out} ({found.asked.new} answers now)"]
    if options.price_in is not None or options.prices:
        lines.append(f"cost: ${found.spent:.4f}, and at most ${found.perhaps:.4f} for attempts without an answer")
    if finishes["length"]:
        lines.append(f"hit the limit of {options.max_new_tokens} tokens: {finishes['length']}")
    if finishes["content_filter"]:
        lines.append(f"withheld by a filter of the endpoint: {finishes['content_filter']}; they count as unparsed")
    lines += besides
    lines.append(f"with label probabilities: {sum(row.label_log_probabilities is not None for row in rows)}")
    if any(row.label for row in rows):
        lines.append(next_evaluation(options))
    return "\n".join(lines)
