"""`mentallama data new-task`: a task file from a table, to be filled in."""

import argparse
import shlex

from mentallama_jax.errors import UserError
from mentallama_jax.storage import expanded, local_path

NEW_TASK = """\
Write a commented task file from a table of posts and labels (.csv, .jsonl, .parquet, .arrow): the labels that it holds,
with their counts, and a guess of everything else. It loads as it is, and is meant to be read and mended: the question,
a sentence for each label, other words for labels, what is of high risk. imhi/README.md explains the keys.

Other commands know the task by --tasks FILE; a run keeps its tasks. No text of a post is written or printed.
"""

NEW_TASK_EPILOG = """\
examples:
  mentallama data new-task posts.csv --label-column diagnosis --out sleep.yaml
  mentallama data new-task posts.csv --label-column present --aspect-column symptom --language de --out symptoms.yaml

then:
  mentallama data build posts.csv --dataset posts --tasks sleep.yaml --shares train=0.8 val=0.1 test=0.1 --out s.jsonl
"""


def add_new_task(parser: argparse.ArgumentParser) -> None:
    """Add the options of the action."""
    add = parser.add_argument
    add("table", type=expanded, metavar="TABLE", help="posts with labels, a row each")
    add("--label-column", metavar="NAME", required=True, help="the column of the labels")
    add("--post-column", metavar="NAME", default="", help="of the posts (default: by its name, else the longest texts)")
    add(
        "--aspect-column", metavar="NAME", default="", help="what a row asks about, where posts are asked about several"
    )
    add("--name", metavar="NAME", default="", help="of the task (default: that of the table)")
    add("--language", metavar="NAME", default="", help="code of the language, such as de (default: a guess)")
    add("--out", type=local_path, metavar="FILE", required=True, help="new task file; ends in .yaml")
    parser.set_defaults(run=run_new_task)


def run_new_task(options: argparse.Namespace) -> int:
    """Write the template and say what to do with it."""
    from mentallama_jax.files import atomic_open
    from mentallama_jax.imhi.task_files.new_task import new_task
    from mentallama_jax.storage import as_path

    if options.out.exists():
        raise UserError(f"{options.out}: exists already; choose another name or remove it first")
    if options.out.suffix.lower() not in (".yaml", ".yml"):
        raise UserError(f"{options.out}: give a name that ends in .yaml")
    made = new_task(
        as_path(options.table),
        label_column=options.label_column,
        post_column=options.post_column,
        aspect_column=options.aspect_column,
        name=options.name,
        language=options.language,
    )
    with atomic_open(options.out) as stream:
        stream.write(made.text)
    task = made.task
    print(f"{options.out} written: task {task.name}, language {task.language}, posts in {task.columns['post']}")
    for label, count in made.counts.items():
        print(f"  {label}: {count:,} rows")
    if task.aspects:
        print(f"aspects: {', '.join(task.aspects)}")
    if made.without:
        print(f"rows without a label: {made.without:,}")
    if made.problems:
        print(f"rows that cannot be read: {len(made.problems):,}, the first: {made.problems[0]}")
    print("read it and fill in: the question, a sentence for each label, aliases, high_risk, licence")
    command = ["mentallama", "data", "build", options.table, "--dataset", task.name, "--tasks", str(options.out)]
    shares = ["--shares", "train=0.8", "val=0.1", "test=0.1", "--out", f"{task.name}.jsonl"]
    print(f"next: {shlex.join([*command, *shares])}")
    return 0
