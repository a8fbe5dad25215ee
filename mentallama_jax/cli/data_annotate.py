"""`mentallama data annotate`: files in which people mark answers."""

import argparse

from mentallama_jax.cli.task_options import add_tasks
from mentallama_jax.storage import as_path, expanded, local_path

ANNOTATE = """\
Make a study: answers of one or more systems to the same questions, for people to mark.

From the rows that all PREDICTIONS answer, --rows are chosen at random; data sets take turns, and posts do not repeat
before all were taken. The names of systems are hidden, and each annotator gets all answers in another order:

  OUT/annotator_1.csv ...   question, post, answer, and an empty column a criterion, for marks from 0 to 3
  OUT/INSTRUCTIONS.md       what to mark and how, with a content warning and crisis lines; read and adapt it
  OUT/key/key.json          which system wrote which answer; keep it to yourself

When the files are filled, put them back and run `mentallama agree OUT`. They hold posts: hand them to people who are
bound to keep them confidential, and see to the rules of your ethics board first.
"""

ANNOTATE_EPILOG = """\
examples:
  mentallama data annotate tuned.jsonl base.jsonl --data data/imhi:test --out study --rows 50 --seed 1
  mentallama agree study --metrics rouge,chrf --out study/scores
"""


def add_annotate(parser: argparse.ArgumentParser) -> None:
    """Add the options of the action."""
    parser.add_argument(
        "predictions",
        metavar="PREDICTIONS",
        type=as_path,
        nargs="+",
        help="a .jsonl that `mentallama generate` wrote, one a system; the system is called as the file",
    )
    parser.add_argument(
        "--data",
        metavar="SOURCE",
        type=expanded,
        action="append",
        required=True,
        help="where the posts are, matched by the ids of rows; may be repeated",
    )
    parser.add_argument("--out", metavar="FOLDER", type=local_path, required=True, help="a new folder")
    parser.add_argument("--rows", metavar="N", type=int, required=True, help="questions; each gives an answer a system")
    parser.add_argument("--annotators", metavar="N", type=int, default=3, help="files to write (default: 3)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the choice and the orders (default: 0)")
    parser.add_argument("--form", choices=("csv", "jsonl"), default="csv", help="of the files (default: csv)")
    parser.add_argument(
        "--criteria",
        metavar="NAMES",
        default="consistency,reliability,professionality,overall",
        help="what is marked, a list with commas between (default: %(default)s)",
    )
    add_tasks(parser)
    parser.set_defaults(run=run_annotate)


def run_annotate(options: argparse.Namespace) -> int:
    """Write the study and say what to do with it."""
    from mentallama_jax.jobs.annotate import annotate

    made = annotate(
        options.predictions,
        options.data,
        options.out,
        rows=options.rows,
        annotators=options.annotators,
        criteria=[name.strip() for name in options.criteria.split(",") if name.strip()],
        form=options.form,
        seed=options.seed,
    )
    study = made.study
    print(f"study {study.key}: {len(study.items)} answers to {options.rows} questions, annotators: {len(made.paths)}")
    for path in made.paths:
        print(f"{path} written")
    print(f"{options.out / 'INSTRUCTIONS.md'} written; read it, adapt it, and send it with each file")
    print(f"{options.out / 'key' / 'key.json'} written: names the systems; not for annotators")
    return 0
