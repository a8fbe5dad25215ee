"""`mentallama study`: run every system of a study, resume it, and write its tables."""

import argparse
import shlex
from typing import TYPE_CHECKING, Any

from mentallama_jax.storage import expanded, local_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mentallama_jax.config.study_config import StudyConfig
    from mentallama_jax.jobs.run_study import StudyOutcome
    from mentallama_jax.terminal import Console

_DESCRIPTION = """\
Run a study: rows are systems, columns are data sets and metrics. STUDY is a YAML file, or the name of a shipped one:
toy, laptop or paper. A row tunes a model (train), answers with one (generate), tunes encoders (classifier), learns a
floor (baseline), makes a transfer matrix (transfer), asks an endpoint (endpoint), or is a file (predictions).

Each step is a command of its own, `mentallama train` and so on, which --dry-run prints. It counts as done by a manifest
that is written after it, with the hashes of all that it read (data, settings, code) and of its result. The same command
again runs what is missing, resumes what was stopped (Ctrl-C and kill -9 included), and runs again exactly what depends
on something that changed; what it replaces is moved to the folder `old`, never removed. A step that fails stops only
what depends on it; the exit status is 1 then. A second process on the same folder is refused.

Everything goes to study.out: rows, predictions, scores, logs, and report.html, report.md and tables.tex with the tables
of the paper: labels (with intervals, and differences by Holm's method), generalisation on held-out tasks, explanations,
agreement with people, costs, and the signature of every system. figures.json says of each figure which file it is from.

Posts leave this machine only for rows of kind endpoint with send_posts true and a limit of cost.
"""

_EPILOG = """\
examples:
  mentallama study toy                                     the whole machinery on the bundled sample, in a minute
  mentallama study configs/study/laptop.yaml --dry-run     what would be done, how long, for how much money
  mentallama study configs/study/laptop.yaml               small models on real data, in about 2.5 hours on two cores
  mentallama study configs/study/paper.yaml --jobs 4       every system of the paper
  mentallama study toy --out studies/again --any-code      keep results although the program was updated

A row may name devices (variables such as CUDA_VISIBLE_DEVICES) or a launcher (`ssh -tt HOST`, with the folder shared);
steps of equal ones wait for each other, others run side by side with --jobs.
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "study",
        help="run all systems of a study, and write its tables",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("study", metavar="STUDY", type=expanded, help="YAML file, or a name: toy, laptop, paper")
    add("--out", metavar="DIR", type=local_path, help="folder of the study (default: its study.out)")
    add("--jobs", metavar="N", type=int, help="steps at the same time (default: its study.jobs)")
    add("--dry-run", action="store_true", help="show the steps, and how long they take and what they cost; run nothing")
    add("--any-code", action="store_true", help="take results that another version of the code made for done")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the study; 1 where a step has no result."""
    from mentallama_jax.cli.study_progress import StudyProgress
    from mentallama_jax.errors import UserError
    from mentallama_jax.jobs.run_study import run_study
    from mentallama_jax.terminal import Console

    study = _study(options)
    if options.jobs is not None and options.jobs < 1:
        raise UserError(f"--jobs {options.jobs}: give a number from 1")
    if options.dry_run:
        return _show_plan(options, study)
    console = Console(stderr=True)
    with StudyProgress(console) as progress:
        try:
            outcome = run_study(study, jobs=options.jobs, any_code=options.any_code, watch=progress.show)
        except KeyboardInterrupt:
            progress.say(f"stopped; the same command goes on from there: {_again(options)}")
            raise
    return _tell(outcome, Console())


def _study(options: argparse.Namespace) -> "StudyConfig":
    from mentallama_jax.config.study_config import load_study

    return load_study(options.study, options.out)


def _again(options: argparse.Namespace) -> str:
    words = ["mentallama", "study", options.study]
    words += ["--out", str(options.out)] if options.out else []
    words += ["--jobs", str(options.jobs)] if options.jobs else []
    return shlex.join([*words, *(["--any-code"] if options.any_code else [])])


def _tell(outcome: "StudyOutcome", console: "Console") -> int:
    """Say what failed and where the pages are; return the exit status."""
    for name in outcome.failed:
        state = outcome.states[name]
        said = "failed" if state.state == "failed" else "not done"
        console.print(f"{name} {said}: {state.why}", highlight=False, soft_wrap=True)
    for path in outcome.paths:
        console.print(f"{path} written", highlight=False, soft_wrap=True)
    return 1 if outcome.failed else 0


def _show_plan(options: argparse.Namespace, study: "StudyConfig") -> int:
    """Print the steps and what is known of their time and money; run none of them."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from mentallama_jax.config.shipped import find_study, summary
    from mentallama_jax.jobs.run_study import plan_study
    from mentallama_jax.study.step_estimates import UNKNOWN
    from mentallama_jax.terminal import Console

    to_user = Console(stderr=True)
    graph, found = plan_study(
        study,
        any_code=options.any_code,
        say=lambda line: to_user.print(line, style="dim", highlight=False, soft_wrap=True),
    )
    to_do = [each for each in found if each.state]
    planned = any(each.hours or each.dollars != (0, 0) or each.said != UNKNOWN for each in to_do)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for head in ("step", "hours", "dollars", "state", "estimate") if planned else ("step", "state"):
        table.add_column(head, no_wrap=head != "estimate", justify="right" if head in ("hours", "dollars") else "left")
    for each in found:
        done = not each.state
        figures = ("", "") if done else (_range(each.hours, ".2f"), _range(each.dollars, ",.2f"))
        state = each.state or "done"
        table.add_row(each.step, *((*figures, state, "" if done else each.said) if planned else (state,)))
    console = Console()
    if about := summary(find_study(options.study)):
        console.print(about, highlight=False, soft_wrap=True)
    console.print(table)
    for each in to_do:
        words = graph.steps[each.step].words
        said = shlex.join(["mentallama", *words]) if words else "joins the predictions of its classifiers"
        console.print(f"{each.step}: {said}", highlight=False, soft_wrap=True)
    hours, dollars = [each.hours for each in to_do], [each.dollars for each in to_do]
    for what, ranges in (
        ("hours", hours),
        *([("dollars", dollars)] if any(hours) or any(map(_costs, dollars)) else []),
    ):
        console.print(_total(what, ranges), highlight=False, soft_wrap=True)
    return 0


def _costs(dollars: "tuple[float, float] | None") -> bool:
    return dollars != (0, 0)


def _total(what: str, ranges: "Sequence[tuple[float, float] | None]") -> str:
    """The line of a sum; a sum of nothing is not called zero."""
    known = [each for each in ranges if each is not None]
    if ranges and not known:
        return f"{what}: unknown; a row that names a `topology` is planned, and a step that has run once is timed"
    lower, upper = (sum(each[end] for each in known) for end in (0, 1))
    rest = f"; of {len(ranges) - len(known)} steps they are unknown" if len(known) < len(ranges) else ""
    return f"{what}, one step after the other: {_range((lower, upper), ',.2f')}{rest}"


def _range(ends: "tuple[float, float] | None", form: str) -> str:
    """The ends of an estimate as shown; one where they are equal."""
    if ends is None:
        return "unknown"
    lower, upper = (format(end, form) for end in ends)
    return lower if lower == upper else f"{lower} to {upper}"
