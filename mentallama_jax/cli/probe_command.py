"""`mentallama probe`: change posts in a known way, and measure what that does to a model's labels."""

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mentallama_jax.cli.answerer_options import STYLES, add_answerer_options, answerer_of
from mentallama_jax.cli.generate_command import show_left_out
from mentallama_jax.cli.json_output import add_json_option, figures_printed
from mentallama_jax.cli.speed_progress import speed_progress
from mentallama_jax.cli.task_options import add_tasks
from mentallama_jax.storage import as_path, expanded, local_path

if TYPE_CHECKING:
    from mentallama_jax.jobs.answer import Answerer, Questions
    from mentallama_jax.jobs.probe import Probed, ProbeSettings


_DESCRIPTION = """\
Change posts in a known way, and measure what that does to the labels of a model. MODEL is what `mentallama generate`
takes. Labels are chosen as by its --score-labels: nothing is sampled, the likeliest label sentence counts.

Figures go to --out, which may be the folder of `mentallama evaluate`, with intervals over posts and a signature. Scores
of prompts are kept there while they are made: the same command goes on where it stopped. No post is written, except by
faithfulness, whose counterfactual.jsonl holds answers, which may quote posts.
"""

_FAITHFULNESS = """\
Do explanations point at what decided the label? The parts of a post that an explanation quotes, or else paraphrases
closely, are deleted (comprehensiveness: how far does the stated label's probability fall?) or kept alone (sufficiency:
how far is it from that of the whole post?), as in ERASER (DeYoung et al. 2020). Beside them stand random parts of the
same lengths in the same posts. In the table, a faithful explanation has a difference above 0 where its parts are
deleted, and below 0 where they stand alone.

Then the likeliest other label is forced: the answer is made to begin with its sentence, the model explains it, and the
label that this explanation states is read. One that follows whatever label is forced tells nothing of the model's own
reasons.

Writes faithfulness.json and counterfactual.jsonl.
"""

_FAIRNESS = """\
Do labels change with who writes? Sentences that say so (age, gender, ethnicity, faith, place, language variety) are put
in front of the same posts. Flips of labels, weighted F1, and the probabilities of the gold label and of "yes" are set
beside those with neutral sentences (the noise floor), and the groups of an attribute beside each other; p is corrected
by Holm's method over groups.

The table of sentences is {prefixes}; copy and edit it, and give your own by --prefixes.

Writes fairness.json.
"""

_ROBUSTNESS = """\
Do labels change where nothing that matters does? Typing errors, small and capital letters, emoji, a lost end, blank
lines, and the question in other words. Rows whose text a change leaves equal are counted, and are in no figure of it.

The table of questions is {rewordings}; copy and edit it, and give your own by --rewordings.

Writes robustness.json.
"""

_EPILOG = """\
examples:
  mentallama probe faithfulness runs/toy --predictions predictions/toy.jsonl --data sample:test --out scores/toy
  mentallama probe fairness runs/toy --data sample:test --out scores/toy --datasets DR dreaddit
  mentallama probe robustness runs/toy --data sample:test --out scores/toy --max-rows 100
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its own."""
    parser = subparsers.add_parser(
        "probe",
        help="change posts, and measure what that does to labels",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for name, what, description, run in (
        ("faithfulness", "do explanations point at what decided the label?", _FAITHFULNESS, _faithfulness),
        ("fairness", "do labels change with who writes?", _FAIRNESS, _fairness),
        ("robustness", "do labels change with typing errors, case, wording?", _ROBUSTNESS, _robustness),
    ):
        probe = kinds.add_parser(
            name,
            help=what,
            description=description.format(**_TABLES),
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _add_options(probe.add_argument)
        add_answerer_options(probe)
        add_json_option(probe)
        add_tasks(probe, run="model")
        probe.set_defaults(run=_printing_figures(run))
        if name == "faithfulness":
            _add_faithfulness(probe.add_argument)
        elif name == "fairness":
            probe.add_argument("--prefixes", metavar="FILE", type=local_path, help="a table of sentences of your own")
        else:
            probe.add_argument("--rewordings", metavar="FILE", type=local_path, help="a table of questions of your own")


_TABLES = {f"{name}": f"mentallama_jax/evaluation/probes/{name}.yaml" for name in ("prefixes", "rewordings")}


def _add_options(add: Callable[..., Any]) -> None:
    add("model", type=expanded, metavar="MODEL", help="run directory, Hugging Face folder, hub id or .gguf file")
    add(
        "--data",
        nargs="+",
        type=expanded,
        required=True,
        metavar="SOURCE",
        help="files, folders, `sample`; SOURCE:test takes a split",
    )
    add("--out", type=local_path, required=True, metavar="DIR", help="folder for the figures")
    add("--datasets", nargs="+", default=["all"], metavar="NAME", help="data sets to take (default: all)")
    add("--max-rows", type=int, metavar="N", help="at most N rows of each data set, chosen by --seed (default: all)")
    add("--repair-mojibake", action="store_true", help="undo UTF-8 that was read as MacRoman, where it round-trips")
    add("--style", choices=STYLES, help="how a row becomes a prompt (default: as `mentallama generate` chooses)")
    add("--max-length", type=int, metavar="N", help="tokens of prompt and answer together (default: as in generate)")
    add("--seed", type=int, default=0, metavar="N", help="of --max-rows, variants and tests (default: 0)")
    add("--batch-size", type=int, default=16, metavar="N", help="prompts at once (default: 16)")


def _add_faithfulness(add: Callable[..., Any]) -> None:
    add(
        "--predictions",
        type=as_path,
        required=True,
        metavar="FILE",
        help="what `mentallama generate` wrote with the same model and data; rows are matched by id",
    )
    add("--draws", type=int, default=5, metavar="N", help="random parts for each row (default: 5)")
    add(
        "--max-new-tokens",
        type=int,
        default=256,
        metavar="N",
        help="of an explanation behind a forced label; 0 forces none (default: 256)",
    )


def _faithfulness(options: argparse.Namespace) -> Path:
    """Probe; print the tables and where the figures are."""
    from mentallama_jax.evaluation.probes.probe_report import (
        counterfactual_table,
        faithfulness_table,
        measured_table,
    )
    from mentallama_jax.jobs.probe import probe_faithfulness
    from mentallama_jax.terminal import Console

    settings = _settings(options, draws=options.draws, max_new_tokens=options.max_new_tokens)
    questions, answerer = _opened(options, max_rows=None)
    probed = probe_faithfulness(
        answerer,
        options.predictions,
        questions,
        options.out,
        settings,
        max_rows=options.max_rows,
        progress=speed_progress,
    )
    console = Console()
    found = {**probed.datasets, **({"pooled": probed.pooled} if len(probed.datasets) > 1 else {})}
    console.print(measured_table({name: each.erasure for name, each in found.items()}))
    console.print(faithfulness_table({name: each.erasure for name, each in found.items()}))
    forced = {name: each.counterfactual for name, each in found.items() if each.counterfactual}
    if forced:
        console.print(counterfactual_table(forced))
    warning = probed.pooled.erasure.warning
    return _end(probed, [f"*: {warning}"] if warning else [])


def _fairness(options: argparse.Namespace) -> Path:
    """Probe; print the tables and where the figures are."""
    from mentallama_jax.evaluation.probes.probe_report import fairness_notes, fairness_table, gap_table
    from mentallama_jax.jobs.probe import probe_fairness
    from mentallama_jax.terminal import Console

    settings = _settings(options)
    questions, answerer = _opened(options, max_rows=options.max_rows)
    probed = probe_fairness(
        answerer, questions, options.out, settings, prefixes=options.prefixes, progress=speed_progress
    )
    console = Console()
    console.print(fairness_table(probed.pooled))
    console.print(gap_table(probed.pooled))
    return _end(probed, list(fairness_notes(probed.pooled)))


def _robustness(options: argparse.Namespace) -> Path:
    """Probe; print the tables and where the figures are."""
    from mentallama_jax.evaluation.probes.probe_report import robustness_table
    from mentallama_jax.jobs.probe import probe_robustness
    from mentallama_jax.terminal import Console

    settings = _settings(options)
    questions, answerer = _opened(options, max_rows=options.max_rows)
    probed = probe_robustness(
        answerer, questions, options.out, settings, rewordings=options.rewordings, progress=speed_progress
    )
    found = {**probed.datasets, **({"pooled": probed.pooled} if len(probed.datasets) > 1 else {})}
    Console().print(robustness_table(found))
    warnings = {each.warning for of in found.values() for each in of.variants.values() if each.warning}
    return _end(probed, ["*: so few posts that intervals may be too narrow"] if warnings else [])


def _settings(options: argparse.Namespace, **more: int) -> "ProbeSettings":
    from mentallama_jax.jobs.probe import ProbeSettings

    return ProbeSettings(seed=options.seed, batch_size=options.batch_size, **more)


def _opened(options: argparse.Namespace, max_rows: int | None) -> "tuple[Questions, Answerer]":
    """The rows and the model; rows that are left out are told on standard error."""
    from mentallama_jax.jobs.answer import questions_in

    questions = questions_in(
        options.data,
        datasets=options.datasets,
        max_rows=max_rows,
        seed=options.seed,
        repair_mojibake=options.repair_mojibake,
    )
    show_left_out(questions)
    answerer = answerer_of(options)
    print(f"model: {answerer.opened.name}\nstyle: {answerer.style} ({answerer.style_reason})")
    return questions, answerer


def _printing_figures(run: Callable[[argparse.Namespace], Path]) -> Callable[[argparse.Namespace], int]:
    def command(options: argparse.Namespace) -> int:
        with figures_printed(options) as figures:
            figures(run(options))
        return 0

    return command


def _end(probed: "Probed[Any]", notes: list[str]) -> Path:
    """Say what to mind, what was computed, and where the figures are."""
    for note in (*notes, *probed.notes):
        print(note)
    needed, kept = probed.prompts
    print(f"prompts: {needed}" + (f", {kept} of them scored before" if kept else ""))
    print(f"{shlex.quote(str(probed.path))} written")
    return probed.path
