"""`mentallama report`: a page of scores or of training runs, made from files that are there."""

import argparse
from typing import Any

from mentallama_jax.cli.json_output import add_json_option, figures_printed
from mentallama_jax.cli.task_options import add_tasks
from mentallama_jax.storage import local_path

_DESCRIPTION = """\
Make a report of what is there, without scoring or training again: report.html (one file, no network and no script,
light and dark, made to be printed), report.md and tables.tex (booktabs).

FOLDER is what `mentallama evaluate` or `mentallama compare` wrote, or the directory of a training run, of which
the report shows loss, learning rate, gradient norm, validation, tokens a second and padding. Several stand side by
side. With one folder the report is written into it; with several give --out. Equal files give an equal report.
"""

_EPILOG = """\
examples:
  mentallama report scores
  mentallama report scores/base scores/tuned --out report
  mentallama report runs/seed0 runs/seed1 --out report
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "report",
        help="make a page of scores or training runs",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folders",
        metavar="FOLDER",
        type=local_path,
        nargs="+",
        help="of scores, or a run directory; several are shown side by side",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=local_path, help="where to write the report (default: the one FOLDER)"
    )
    parser.add_argument(
        "--show-posts",
        action="store_true",
        help="show the outputs that `mentallama evaluate --show-posts` kept; do not pass such a page on",
    )
    add_json_option(parser)
    add_tasks(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Make the report; print where it is."""
    from mentallama_jax.jobs.make_report import make_report
    from mentallama_jax.terminal import Console

    with figures_printed(options) as figures:
        made = make_report(options.folders, options.out, show_posts=options.show_posts)
        for path in made.paths:
            Console().print(f"{path} written", highlight=False, soft_wrap=True)
        figures(made.figures)
    return 0
