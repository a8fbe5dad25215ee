"""`mentallama data`: new tasks; check, build and convert records; have answers marked by people."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mentallama_jax.cli.data_annotate import ANNOTATE, ANNOTATE_EPILOG, add_annotate
from mentallama_jax.cli.data_build import BUILD, BUILD_EPILOG, add_mapping, labels_of, say_build
from mentallama_jax.cli.data_disguise import DISGUISE, DISGUISE_EPILOG, add_disguise
from mentallama_jax.cli.data_explain import EXPLAIN, EXPLAIN_EPILOG, add_explain
from mentallama_jax.cli.data_new_task import NEW_TASK, NEW_TASK_EPILOG, add_new_task
from mentallama_jax.cli.task_options import add_tasks
from mentallama_jax.errors import UserError
from mentallama_jax.storage import expanded, local_path

if TYPE_CHECKING:
    from mentallama_jax.imhi.data_files.table_rows import Problem
    from mentallama_jax.imhi.mixture import Forbidden
    from mentallama_jax.imhi.records import Record

STYLES = ("plain", "completion", "llama2-chat", "chatml", "chat")
TEXT_DIVISIONS = ("whole", "blank-lines")

_DESCRIPTION = """\
Look at data before training on it, and bring it into shape. A record is one question about one post, with a label and
an explanation; all commands read the same sources: a .csv in a released IMHI layout, a .jsonl, .parquet or .arrow of
records, a folder of such files, either on a bucket (gs://BUCKET/NAME), `sample` (the bundled sample) or hub:owner/name.
`:train`, `:val` or `:test` behind a source takes only that split of it.
"""

_EPILOG = """\
examples:
  mentallama data check data/imhi
  mentallama data build posts.csv --dataset DR --split train --out data/dr.jsonl
  mentallama data convert data/imhi --repair --out data/imhi.parquet
"""

_CHECK = """\
Report what is wrong or risky in data, by data set and split:
  - rows that cannot be read (file, row, reason), files that cannot be read;
  - rows against the size of the whole benchmark; labels and their shares;
  - mojibake (UTF-8 read as MacRoman), spreadsheet errors such as #NAME? instead of a post, empty explanations;
  - questions asked more than once, and those with conflicting labels;
  - labels that the explanation of their own row contradicts; rows without a label;
  - validation and test posts that are training posts too, of the same data set or another one (leaks), and near-copies
    across splits and data sets: a link or a few words added, the end cut off (MinHash, then exact comparison);
  - rows whose post differs between the instruction and the completion files of a folder;
  - with --tokenizer: lengths in tokens, what --max-length would cut, and how much of the training batches would be
    padding when rows are padded to --max-length, bucketed by length, or packed.

With --documents the sources are raw text for continued pre-training (.txt, .jsonl, .parquet): documents, those that
cannot be used, copies and near-copies among them and, with --tokenizer, lengths and the rows that they fill.

Nothing is changed, and no text of a post is printed. One malformed file does not hide the others: it is named in a
line of its own, the others are reported all the same, and the exit status is 2.
"""

_CHECK_EPILOG = """\
examples:
  mentallama data check data/imhi
  mentallama data check data/imhi:train mine.jsonl --tokenizer models/llama2 --max-length 1024 --json report.json
  mentallama data check sample --tokenizer sample
  mentallama data check --documents data/text --text-files blank-lines --tokenizer models/llama2

exit status: 0 read everything (risks are reported, not judged); 1 bad rows and --strict; 2 a file cannot be read
"""

_CONVERT = """\
Write records in another format, or a mixture of them: repaired, some data sets only, weighted, cut to a number of rows.
The choice depends on the records and --seed alone. Training does the same from its config (data.datasets, data.exclude,
data.weights, ...); converting is for other tools, and for looking at what a run would see.

--out chooses the format: FILE.jsonl or FILE.parquet (read back exactly), or a new folder in the released CSV layout, in
the instruction and the completion wording (ids and human labels are lost). Rows that cannot be read are named, counted
and left out; a malformed file stops everything. Nothing is replaced, and nothing is left half-written.
"""

_CONVERT_EPILOG = """\
examples:
  mentallama data convert data/imhi --repair --out data/imhi.parquet
  mentallama data convert data/imhi --general --split train --out data/general.jsonl
  mentallama data convert data/imhi --split train --weights SWMH=0.2 IRF=2 --out data/mixture.jsonl
  mentallama data convert hub:owner/name --out data/released
"""

_TASKS = """\
Write records as tasks of lm-evaluation-harness 0.4 (YAML): imhi_DATASET generates an answer whose label is read by the
reader of `mentallama evaluate`, imhi_DATASET_choice asks for the likeliest label sentence; the groups imhi and
imhi_choice hold all. --out is a new folder for lm_eval's --include_path; the records are copied into it, posts and all.

Any model of lm_eval can answer them where this package is installed. Our own is `--model mentallama`, which
`mentallama-lm-eval` (lm_eval's own command line) knows, and lm_eval itself where --tasks is a file of the folder.
`mentallama evaluate` reads the samples_*.jsonl that --log_samples writes.
"""

_TASKS_EPILOG = """\
examples:
  mentallama data lm-eval-tasks --data data/imhi:test --out tasks
  mentallama-lm-eval --model mentallama --model_args model=RUN --include_path tasks --tasks imhi_DR \\
      --output_path results --log_samples
  lm_eval --model mentallama --model_args model=RUN --tasks tasks/imhi_DR.yaml
  lm_eval --model hf --model_args pretrained=org/name --include_path tasks --tasks imhi_choice
"""

_SHOWN_PROBLEMS = 10


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its three actions."""
    parser = _parser(subparsers, "data", "check, build, convert and annotate records", _DESCRIPTION, _EPILOG)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_check(_parser(actions, "check", "what is wrong or risky in files", _CHECK, _CHECK_EPILOG))
    add_new_task(_parser(actions, "new-task", "a task file of your own, from a table", NEW_TASK, NEW_TASK_EPILOG))
    _add_build(_parser(actions, "build", "records from a table, instructions or conversations", BUILD, BUILD_EPILOG))
    _add_convert(_parser(actions, "convert", "another format, or a mixture", _CONVERT, _CONVERT_EPILOG))
    disguise = _parser(actions, "disguise", "identifiers of people replaced", DISGUISE, DISGUISE_EPILOG)
    _add_writing(disguise)
    add_disguise(disguise)
    add_annotate(_parser(actions, "annotate", "a blinded study of answers", ANNOTATE, ANNOTATE_EPILOG))
    add_explain(_parser(actions, "explain", "explanations of labels, collected", EXPLAIN, EXPLAIN_EPILOG))
    _add_tasks(_parser(actions, "lm-eval-tasks", "tasks of lm-evaluation-harness", _TASKS, _TASKS_EPILOG))


def _parser(subparsers: Any, name: str, summary: str, description: str, epilog: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=summary,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources", type=expanded, metavar="PATHS", nargs="+", help="sources, as `mentallama data --help` tells"
    )
    parser.add_argument("--strict", action="store_true", help="exit with status 1 if a row cannot be read")
    parser.add_argument(
        "--repair", action="store_true", help="undo mojibake first: what would `convert --repair` leave?"
    )
    parser.add_argument(
        "--json", metavar="FILE", type=local_path, help="write the whole report there, with the names of rows"
    )
    parser.add_argument(
        "--tokenizer",
        type=expanded,
        metavar="T",
        help="measure tokens with it: a run directory, folder, .gguf file, hub id or `sample` (default: no)",
    )
    parser.add_argument(
        "--style", choices=STYLES, default="plain", help="how a row becomes a prompt when measured (default: plain)"
    )
    parser.add_argument(
        "--max-length", metavar="N", type=int, default=2048, help="tokens of a row when measured (default: 2048)"
    )
    parser.add_argument("--documents", action="store_true", help="PATHS are raw text, not records")
    parser.add_argument(
        "--text-key", metavar="NAME", default="text", help="--documents: key or column of the text (default: text)"
    )
    parser.add_argument(
        "--text-files",
        choices=TEXT_DIVISIONS,
        default="whole",
        help="--documents: what one document of a .txt file is (default: whole)",
    )
    add_tasks(parser)
    parser.set_defaults(run=run_check)


def _add_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("raw", type=expanded, metavar="RAW", help="the table, a file or hub:owner/name")
    parser.add_argument("--dataset", metavar="NAME", required=True, help="whose question is asked, such as DR or SAD")
    parser.add_argument("--split", metavar="SPLIT", default="", help="train, val or test, for rows that do not say")
    parser.add_argument("--aspect", metavar="ASPECT", default="", help="of MultiWD or IRF, for rows that do not say")
    add_mapping(parser)
    parser.add_argument(
        "--shares",
        metavar="NAME=W",
        nargs="+",
        default=[],
        help="divide rows that do not say their split, such as train=0.8 val=0.1 test=0.1; a post is in one part only",
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of that division (default: 0)")
    _add_writing(parser)
    add_tasks(parser)
    parser.set_defaults(run=run_build)


def _add_convert(parser: argparse.ArgumentParser) -> None:
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
        "--max-rows", metavar="N", type=int, help="write at most N rows, chosen at random (default: all)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of random choices (default: 0)")
    _add_writing(parser)
    add_tasks(parser)
    parser.set_defaults(run=run_convert)


def _add_writing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", metavar="OUT", type=local_path, required=True, help="new FILE.jsonl, FILE.parquet or folder"
    )
    parser.add_argument("--repair", action="store_true", help="undo mojibake (UTF-8 read as MacRoman) where it can be")
    parser.add_argument(
        "--strict", action="store_true", help="stop at the first row that cannot be read (default: leave out and count)"
    )


def run_check(options: argparse.Namespace) -> int:
    """Report; see the description of the action."""
    if options.documents:
        from mentallama_jax.cli.documents_check import check_documents

        return check_documents(options)
    from mentallama_jax.cli.data_check import check

    return check(options)


def run_build(options: argparse.Namespace) -> int:
    """Make records of a raw table and write them."""
    from mentallama_jax.imhi.data_files.build import ROLES, build_records
    from mentallama_jax.imhi.data_files.column_roles import parse_roles

    _refuse_existing(options.out)
    result = build_records(
        options.raw,
        options.dataset,
        options.split,
        aspect=options.aspect,
        columns=parse_roles(options.columns, ROLES),
        labels=labels_of(options.labels),
        repair_mojibake=options.repair,
        strict=options.strict,
    )
    _say_problems(result.problems)
    say_build(result)
    _write(options.out, _divided(result.records, options))
    return 0


def _divided(records: "Sequence[Record]", options: argparse.Namespace) -> "Sequence[Record]":
    """The records with the splits that --shares gives to those without one, in their order."""
    from dataclasses import replace

    from mentallama_jax.imhi.data_files.sources import split_named
    from mentallama_jax.imhi.mixture import split_by_post

    if not options.shares:
        return records
    if options.split:
        raise UserError("--split and --shares are two ways to say the split of rows; give one")
    shares = {split_named(name): share for name, share in _weights(options.shares, "--shares").items()}
    parts = split_by_post((record for record in records if not record.split), shares, options.seed)
    split_of = {record.id: name for name, part in parts.items() for record in part}
    return [record if record.split else replace(record, split=split_of[record.id]) for record in records]


def run_convert(options: argparse.Namespace) -> int:
    """Read, choose and write records."""
    from mentallama_jax.imhi.data_files.readers import read_records
    from mentallama_jax.imhi.data_files.sources import split_named
    from mentallama_jax.imhi.mixture import forbidden_posts, held_out_rows, mix
    from mentallama_jax.imhi.tasks import held_out

    _refuse_existing(options.out)
    weights = _weights(options.weights)
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
    _say_problems(result.problems)
    forbidden = forbidden_posts(of_tests, there)
    chosen = mix(
        there,
        datasets=options.datasets,
        exclude=exclude,
        weights=weights,
        drop_posts=forbidden.posts,
        max_rows=options.max_rows,
        seed=options.seed,
    )
    _say_dropped(there, chosen, forbidden)
    _say_unknown_tests(tests, exclude)
    _write(options.out, chosen)
    return 0


def _add_tasks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", metavar="SOURCE", type=expanded, action="append", required=True, help="may be repeated"
    )
    parser.add_argument("--out", metavar="DIR", type=local_path, required=True, help="a new folder")
    parser.add_argument(
        "--max-new-tokens", metavar="N", type=int, default=256, help="longest generated answer (default: 256)"
    )
    add_tasks(parser)
    parser.set_defaults(run=_run_tasks)


def _run_tasks(options: argparse.Namespace) -> int:
    from mentallama_jax.harness.task_folder import write_tasks
    from mentallama_jax.imhi.data_files.readers import read_records

    if options.max_new_tokens < 1:
        raise UserError("--max-new-tokens: give a number from 1")
    read = read_records(options.data)
    _say_problems(read.problems)
    names = write_tasks(options.out, read.records, options.max_new_tokens)
    print(f"{len(read.records)} rows as {len(names)} tasks written to {options.out}: {', '.join(names)}")
    return 0


def _refuse_existing(out: Path) -> None:
    from mentallama_jax.imhi.data_files.writers import check_new

    check_new(out)


def _weights(given: Sequence[str], option: str = "--weights") -> dict[str, float]:
    weights = {}
    for text in given:
        name, _, number = text.partition("=")
        try:
            weights[name] = float(number)
        except ValueError:
            raise UserError(f"{option} {text}: expected NAME=NUMBER, such as SWMH=0.2 or train=0.8") from None
    return weights


def _write(out: Path, records: Sequence["Record"]) -> None:
    from mentallama_jax.imhi.audit.leaks import posts_by_part
    from mentallama_jax.imhi.data_files.writers import write_records, write_release

    if out.suffix:
        write_records(out, records)
    else:
        write_release(out, records)
    for (dataset, split), posts in posts_by_part(records).items():
        rows = sum((record.dataset, record.split) == (dataset, split) for record in records)
        print(f"{dataset} {split or '(no split)'}: {rows} rows, {len(posts)} posts")
    print(f"{len(records)} rows written to {out}")


def _say_problems(problems: Sequence["Problem"]) -> None:
    for problem in problems[:_SHOWN_PROBLEMS]:
        print(f"left out: {problem}")
    if len(problems) > _SHOWN_PROBLEMS:
        print("left out: ... (`mentallama data check --json` lists them all)")
    if problems:
        print(f"bad rows left out: {len(problems)}")


def _say_dropped(there: Iterable["Record"], chosen: Iterable["Record"], forbidden: "Forbidden") -> None:
    taken = {record.dataset for record in chosen}
    dropped = sum(record.dataset in taken and record.post_id in forbidden.posts for record in there)
    if forbidden.posts:
        print(f"rows left out because their post is in a held-out test or in --drop-posts-in: {dropped}")
    if forbidden.near_copies:
        print(f"near-copies of such posts, left out too: {len({row for row, _, _ in forbidden.near_copies})}")
    for row, test, share in forbidden.near_copies[:_SHOWN_PROBLEMS]:
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
