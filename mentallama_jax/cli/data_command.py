"""`mentallama data`: new tasks; check, build and convert records; have answers marked by people."""

import argparse
from typing import Any

from mentallama_jax.cli.data_annotate import ANNOTATE, ANNOTATE_EPILOG, add_annotate
from mentallama_jax.cli.data_build import BUILD, BUILD_EPILOG, add_build
from mentallama_jax.cli.data_convert import CONVERT, CONVERT_EPILOG, add_convert
from mentallama_jax.cli.data_disguise import DISGUISE, DISGUISE_EPILOG, add_disguise
from mentallama_jax.cli.data_explain import EXPLAIN, EXPLAIN_EPILOG, add_explain
from mentallama_jax.cli.data_new_task import NEW_TASK, NEW_TASK_EPILOG, add_new_task
from mentallama_jax.cli.data_pairs import PAIRS, PAIRS_EPILOG, add_pairs
from mentallama_jax.cli.data_writing import say_problems
from mentallama_jax.cli.task_options import add_tasks
from mentallama_jax.errors import UserError
from mentallama_jax.storage import expanded, local_path

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


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its three actions."""
    parser = _parser(subparsers, "data", "check, build, convert and annotate records", _DESCRIPTION, _EPILOG)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_check(_parser(actions, "check", "what is wrong or risky in files", _CHECK, _CHECK_EPILOG))
    add_new_task(_parser(actions, "new-task", "a task file of your own, from a table", NEW_TASK, NEW_TASK_EPILOG))
    add_build(_parser(actions, "build", "records from a table, instructions or conversations", BUILD, BUILD_EPILOG))
    add_convert(_parser(actions, "convert", "another format, or a mixture", CONVERT, CONVERT_EPILOG))
    add_disguise(_parser(actions, "disguise", "identifiers of people replaced", DISGUISE, DISGUISE_EPILOG))
    add_annotate(_parser(actions, "annotate", "a blinded study of answers", ANNOTATE, ANNOTATE_EPILOG))
    add_explain(_parser(actions, "explain", "explanations of labels, collected", EXPLAIN, EXPLAIN_EPILOG))
    add_pairs(_parser(actions, "pairs", "pairs of answers for preference tuning", PAIRS, PAIRS_EPILOG))
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


def run_check(options: argparse.Namespace) -> int:
    """Report; see the description of the action."""
    if options.documents:
        from mentallama_jax.cli.documents_check import check_documents

        return check_documents(options)
    from mentallama_jax.cli.data_check import check

    return check(options)


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
    say_problems(read.problems)
    names = write_tasks(options.out, read.records, options.max_new_tokens)
    print(f"{len(read.records)} rows as {len(names)} tasks written to {options.out}: {', '.join(names)}")
    return 0
