"""`mentallama baseline`: floors for a table, answered into a predictions file."""

import argparse
import sys
from typing import Any

from mentallama_jax.cli.task_options import add_tasks, next_evaluation
from mentallama_jax.errors import UserError
from mentallama_jax.storage import expanded, local_path

_DESCRIPTION = """\
Answer the questions of --data with a system that a model has to beat. It learns from the rows of --train, on the CPU
and without a model: tfidf takes seconds to minutes, majority none. Predictions are written in the format of
`mentallama generate`, with the probability of each label, so that `evaluate` (with calibration) and `compare` read
them. Every data set that is asked about needs training rows: --datasets names those that have them.
"""

_EPILOG = """\
examples:
  mentallama baseline majority --train data/imhi:train --data data/imhi:test --datasets DR SAD --out majority.jsonl
  mentallama baseline tfidf --train data/imhi:train --data data/imhi:test --datasets DR dreaddit SAD --out tfidf.jsonl
  mentallama baseline tfidf --train sample:train --data sample:test --out predictions/tfidf.jsonl
  mentallama evaluate predictions/tfidf.jsonl --out scores/tfidf
"""

_MAJORITY = """\
Answer every question of a data set with the commonest label of its training rows. The probabilities of the labels are
their shares in training, with one row added to each. The labels of --data are never looked at.
"""

_MAJORITY_EXAMPLES = """\
example:
  mentallama baseline majority --train data/imhi:train --data data/imhi:test --datasets DR SAD --out majority.jsonl
"""

_TFIDF = """\
Logistic regression on TF-IDF of single words and pairs of words, a model for each question: where a data set asks about
several aspects, each has its own. Needs scikit-learn: pip install 'mentallama-jax[baselines]'
With --validation the strength of regularisation is chosen for each question by weighted F1 on these rows.
"""

_TFIDF_EXAMPLES = """\
examples:
  mentallama baseline tfidf --train data/imhi:train --validation data/imhi:val --data data/imhi:test \\
      --datasets DR SAD --out tfidf.jsonl
  mentallama baseline tfidf --train data/imhi:train --data data/imhi:test --datasets DR --out tfidf.jsonl \\
      --class-weights balanced
  mentallama baseline tfidf --train data/imhi:train --data data/imhi:val --out tfidf-val.jsonl

A script that puts no blanks between words, such as Chinese or Thai, wants --units characters.
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "baseline",
        help="answer test rows with a floor: majority class, TF-IDF",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_subparsers(dest="kind", metavar="NAME", required=True)
    _add_kind(kinds, "majority", "the commonest training label", _MAJORITY, _MAJORITY_EXAMPLES)
    tfidf = _add_kind(kinds, "tfidf", "TF-IDF and logistic regression", _TFIDF, _TFIDF_EXAMPLES)
    add = tfidf.add_argument
    add(
        "--validation",
        nargs="+",
        type=expanded,
        metavar="SOURCE",
        help="rows that choose C, of split val or none",
    )
    add(
        "--strengths",
        nargs="+",
        type=float,
        metavar="X",
        help="values of C, a smaller one regularises more (default: 0.3 1 3 10 30 with --validation, else 1)",
    )
    add(
        "--class-weights",
        choices=("none", "balanced"),
        default="none",
        help="balanced weighs each class by the inverse of its training rows (default: none)",
    )
    add("--units", choices=("words", "characters"), default="words", help="what is counted (default: words)")


def _add_kind(kinds: Any, name: str, summary: str, description: str, epilog: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = kinds.add_parser(
        name,
        help=summary,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--train",
        nargs="+",
        type=expanded,
        required=True,
        metavar="SOURCE",
        help="rows to learn from: files, folders, `sample`; of those with a split, the train rows",
    )
    add(
        "--data",
        nargs="+",
        type=expanded,
        required=True,
        metavar="SOURCE",
        help="what to answer; SOURCE:test takes a split",
    )
    add("--out", type=local_path, required=True, metavar="FILE", help="predictions to write; ends in .jsonl")
    add("--datasets", nargs="+", default=["all"], metavar="NAME", help="data sets to answer (default: all)")
    add("--max-rows", type=int, metavar="N", help="at most N rows of each data set, those of generate (default: all)")
    add("--repair-mojibake", action="store_true", help="undo UTF-8 that was read as MacRoman, where it round-trips")
    add("--seed", type=int, default=0, metavar="N", help="of --max-rows and of the solver (default: 0)")
    add_tasks(parser)
    parser.set_defaults(run=run)
    return parser


def run(options: argparse.Namespace) -> int:
    """Learn and answer; print what was written."""
    from mentallama_jax.cli.generate_command import show_left_out
    from mentallama_jax.jobs.answer import questions_in
    from mentallama_jax.jobs.baseline import baseline

    settings = None if options.kind == "majority" else _settings(options)
    questions = questions_in(
        options.data,
        datasets=options.datasets,
        max_rows=options.max_rows,
        seed=options.seed,
        repair_mojibake=options.repair_mojibake,
    )
    show_left_out(questions)
    rows = baseline(
        options.kind,
        options.train,
        questions,
        options.out,
        validation=getattr(options, "validation", None) or (),
        settings=settings,
        repair_mojibake=options.repair_mojibake,
        say=lambda line: print(line, file=sys.stderr),
    )
    print(f"wrote {len(rows)} predictions to {options.out}")
    if any(row.label for row in rows):
        print(next_evaluation(options))
    return 0


def _settings(options: argparse.Namespace) -> Any:
    from mentallama_jax.baselines.floors import STRENGTHS, USUAL_STRENGTH, TextSettings

    strengths = options.strengths or (STRENGTHS if options.validation else (USUAL_STRENGTH,))
    if not all(0 < strength < float("inf") for strength in strengths):
        raise UserError("--strengths: give numbers above 0")
    if len(strengths) > 1 and not options.validation:
        raise UserError(f"--strengths: --validation is needed to choose among {len(strengths)} values")
    if not 0 <= options.seed < 2**32:
        raise UserError(f"--seed {options.seed}: give a whole number from 0, below {2**32}")
    return TextSettings(tuple(strengths), options.class_weights, options.units, options.seed)
