"""`mentallama transfer`: train on each data set, test on all."""

import argparse
import shlex
import sys
from typing import TYPE_CHECKING, Any

from mentallama_jax.cli.mesh_option import add_mesh, mesh_of
from mentallama_jax.cli.process_options import STOPPED
from mentallama_jax.cli.task_options import add_tasks
from mentallama_jax.errors import UserError
from mentallama_jax.storage import expanded, local_path

if TYPE_CHECKING:
    from mentallama_jax.config import RunConfig
    from mentallama_jax.evaluation.reports.document import FigureTable

_DESCRIPTION = """\
Single-data-set tuning and its transfer matrix: train a model on each data set of --datasets by the recipe of CONFIG,
let each answer the test rows of all of them, and write the weighted F1 of each on each, with intervals over posts, as
transfer.json, report.html, report.md and tables.tex. --together adds a model that is trained on all of them.

Posts of the test rows, and near-copies of them, are left out of every training: IRF, MultiWD, CAMS and loneliness share
posts, so that a model would have seen the posts of another test. --keep-shared-posts keeps them, as the paper did.

Everything goes to --out: runs/NAME, predictions/NAME.jsonl. The same command again goes on where it was stopped; what
is finished stays as it is. It works on one host; trainings use all devices by the mesh of CONFIG, answers those of
--mesh.
"""

_EPILOG = """\
examples:
  mentallama transfer configs/llama2-chat-7b.yaml --datasets DR dreaddit SAD --data data/imhi:test --out transfer/7b
  mentallama transfer configs/smollm2-135m-cpu.yaml training.epochs=1 --datasets DR SAD --data data/imhi:test \\
      --max-rows 150 --out transfer/smollm2
  mentallama transfer configs/toy.yaml --datasets DR SAD --data sample:test --score-labels --together --out transfer/toy
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "transfer",
        help="train on each data set, test on all",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("config", type=expanded, metavar="CONFIG", help="the recipe, such as configs/llama2-chat-7b.yaml")
    add("overrides", metavar="key=value", nargs="*", default=[], help="changes to it, such as training.epochs=3")
    add("--datasets", nargs="+", required=True, metavar="NAME", help="data sets to train on and to test on")
    add(
        "--data", nargs="+", type=expanded, required=True, metavar="SOURCE", help="test rows; SOURCE:test takes a split"
    )
    add("--out", type=local_path, required=True, metavar="DIR", help="folder for runs, predictions and the matrix")
    add("--together", action="store_true", help="also train one model on all of them")
    add("--keep-shared-posts", action="store_true", help="train on posts that are tested as well; never for claims")
    add("--max-rows", type=int, metavar="N", help="test at most N rows of each data set (default: all)")
    add("--seed", type=int, default=0, metavar="N", help="of --max-rows (default: 0)")
    add("--score-labels", action="store_true", help="choose the likeliest label sentence instead of generating")
    add("--max-new-tokens", type=int, default=256, metavar="N", help="longest answer in tokens (default: 256)")
    add("--batch-size", type=int, default=16, metavar="N", help="rows answered at once (default: 16)")
    add_mesh(parser)
    add_tasks(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train, answer and score; print the matrix."""
    from mentallama_jax.config import load_config, with_tasks
    from mentallama_jax.imhi.tasks import own_tasks

    config = with_tasks(load_config(options.config, options.overrides), options.tasks)
    with own_tasks(config.data.tasks):
        return _transferred(options, config)


def _transferred(options: argparse.Namespace, config: "RunConfig") -> int:
    from mentallama_jax.cli.generation_progress import GenerationProgress
    from mentallama_jax.evaluation.reports.sections_on_transfer import figures_table
    from mentallama_jax.generation.engine import Settings
    from mentallama_jax.jobs.answer import questions_in
    from mentallama_jax.jobs.transfer import transfer

    questions = questions_in(
        options.data,
        datasets=options.datasets,
        max_rows=options.max_rows,
        seed=options.seed,
        repair_mojibake=config.data.repair_mojibake,
    )
    if options.max_new_tokens < 1 or options.batch_size < 1:
        raise UserError("--max-new-tokens and --batch-size: give numbers from 1")
    found = transfer(
        config,
        options.datasets,
        questions,
        options.out,
        settings=Settings(options.max_new_tokens, batch_size=options.batch_size),
        score_labels=options.score_labels,
        together=options.together,
        mesh=mesh_of(options.mesh),
        drop_posts_in=() if options.keep_shared_posts else options.data,
        say=lambda line: print(line, file=sys.stderr, flush=True),
        watched=GenerationProgress,
    )
    if found.matrix is None:
        print(f"stopped by {found.stopped_by} in {shlex.quote(found.run_dir)}; the same command goes on from there")
        return STOPPED
    _show(figures_table(found.matrix))
    for path in found.paths:
        print(f"{path} written")
    return 0


def _show(figures: "FigureTable") -> None:
    """Print the matrix, cut into parts where it is wider than the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from mentallama_jax.terminal import Console

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(figures.header):
        table.add_column(name, justify="right" if place else "left", no_wrap=bool(place))
    for row in figures.rows:
        table.add_row(*row)
    console = Console(highlight=False)
    console.print(f"{figures.caption}; * trained on", soft_wrap=True)
    console.print(table)
