"""`mentallama data convert`: another format, or a mixture of records."""

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mentallama_jax.cli.data_writing import SHOWN_PROBLEMS, add_writing, say_problems, weights_of, write_out
from mentallama_jax.cli.task_options import add_tasks
from mentallama_jax.errors import UserError
from mentallama_jax.storage import expanded

if TYPE_CHECKING:
    from mentallama_jax.imhi.mixture import Forbidden
    from mentallama_jax.imhi.records import Record

CONVERT = """\
Write records in another format, or a mixture of them: repaired, some data sets only, weighted, cut to a number of rows.
The choice depends on the records and --seed alone. Training does the same from its config (data.datasets, data.exclude,
data.weights, ...); converting is for other tools, and for looking at what a run would see.

--out chooses the format: FILE.jsonl or FILE.parquet (read back exactly), or a new folder in the released CSV layout, in
the instruction and the completion wording (ids and human labels are lost). Rows that cannot be read are named, counted
and left out; a malformed file stops everything. Nothing is replaced, and nothing is left half-written.
"""

CONVERT_EPILOG = """\
examples:
  mentallama data convert data/imhi --repair --out data/imhi.parquet
  mentallama data convert data/imhi --general --split train --out data/general.jsonl
  mentallama data convert data/imhi --split train --weights SWMH=0.2 IRF=2 --out data/mixture.jsonl
  mentallama data convert hub:owner/name --out data/released
"""


def add_convert(parser: argparse.ArgumentParser) -> None:
    """Add the options of the action."""
    parser.add_argument(
        "sources", type=expanded, metavar="SOURCES", nargs="+", help="sources, as `mentallama data --help` tells"
    )
    parser.add_argument("--split", metavar="SPLIT", default="", help="write only train, val or test (default: all)")
    parser.add_argument(
        "--datasets", metavar="NAME", nargs="+", default=["all"], help="data sets to take (default: all that are there)"
    )
    parser.add_argument(
        "--exclude",
        metavar="NAME",
        nargs="+",
        default=[],
        help="data sets to leave out, and with them every row whose post is in their test rows among SOURCES",
    )
    parser.add_argument(
        "--general",
        action="store_true",
        help="leave out the four data sets that the paper holds out: dreaddit, T-SID, CAMS and IRF (IMHI-general)",
    )
    parser.add_argument(
        "--drop-posts-in",
        type=expanded,
        metavar="SOURCE",
        nargs="+",
        default=[],
        help="leave out rows whose post is in these too",
    )
    parser.add_argument(
        "--weights",
        metavar="NAME=W",
        nargs="+",
        default=[],
        help="how often a data set's rows are written; 2.3 is twice, and 30 %% of its posts once more (default: 1)",
    )
    parser.add_argument(
        "--balance-labels",
        action="store_true",
        help="write each label of a data set as often as its others, leaving out common ones and repeating rare ones",
    )
    parser.add_argument(
        "--max-rows", metavar="N", type=int, help="write at most N rows, chosen at random (default: all)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of random choices (default: 0)")
    add_writing(parser)
    add_tasks(parser)
    parser.set_defaults(run=run_convert)


def run_convert(options: argparse.Namespace) -> int:
    """Read, choose and write records."""
    from mentallama_jax.imhi.data_files.readers import read_records
    from mentallama_jax.imhi.data_files.sources import split_named
    from mentallama_jax.imhi.data_files.writers import check_new
    from mentallama_jax.imhi.mixture import forbidden_posts, held_out_rows, mix
    from mentallama_jax.imhi.tasks import held_out

    check_new(options.out)
    weights = weights_of(options.weights)
    exclude = [*options.exclude, *(held_out() if options.general else ())]
    split = split_named(options.split)
    result = read_records(options.sources, repair_mojibake=options.repair, strict=options.strict)
    tests = result.records
    of_tests = held_out_rows(result.records, exclude)
    if options.drop_posts_in:
        dropping = read_records(options.drop_posts_in, repair_mojibake=options.repair, strict=options.strict)
        of_tests += dropping.records
        tests = [*tests, *dropping.records]
        result.problems.extend(dropping.problems)
    there = [record for record in result.records if split in ("", record.split)]
    if not there:
        raise UserError(f"{', '.join(options.sources)}: holds no row of the split {split}")
    say_problems(result.problems)
    forbidden = forbidden_posts(of_tests, there)
    chosen = mix(
        there,
        datasets=options.datasets,
        exclude=exclude,
        weights=weights,
        balance_labels=options.balance_labels,
        drop_posts=forbidden.posts,
        max_rows=options.max_rows,
        seed=options.seed,
    )
    _say_dropped(there, chosen, forbidden)
    _say_unknown_tests(tests, exclude)
    write_out(options.out, chosen)
    return 0


def _say_dropped(there: Iterable["Record"], chosen: Iterable["Record"], forbidden: "Forbidden") -> None:
    taken = {record.dataset for record in chosen}
    dropped = sum(record.dataset in taken and record.post_id in forbidden.posts for record in there)
    if forbidden.posts:
        print(f"rows left out because their post is in a held-out test or in --drop-posts-in: {dropped}")
    if forbidden.near_copies:
        print(f"near-copies of such posts, left out too: {len({row for row, _, _ in forbidden.near_copies})}")
    for row, test, share in forbidden.near_copies[:SHOWN_PROBLEMS]:
        print(f"  {row} of {test}: {share:.0%}")


def _say_unknown_tests(records: Iterable["Record"], exclude: Iterable[str]) -> None:
    from mentallama_jax.imhi.tasks import task_named

    known = {record.dataset for record in records if record.split == "test"}
    unknown = [name for name in dict.fromkeys(task_named(name).name for name in exclude) if name not in known]
    if unknown:
        print(
            f"note: no test rows of {', '.join(unknown)} were read, so their test posts may be among those written;"
            " name them in SOURCES or with --drop-posts-in"
        )
