"""`mentallama data pairs`: pairs of a gold answer and a faulty one, for preference tuning."""

import argparse

from mentallama_jax.cli.task_options import add_tasks
from mentallama_jax.errors import UserError
from mentallama_jax.storage import as_path, expanded, local_path

PAIRS = """\
Make pairs for `objective.kind: dpo` from answers of a model: of each answer with a fault, the gold label sentence with
the gold explanation is preferred to it. Kinds of faults, the first that is found counts:

  wrong_label     another label than gold is stated
  no_label        no label can be read
  inconsistent    the right label, and an explanation that says another one: by its label words, or with --classifiers
                  by a classifier of explanations for each data set
  invented_quote  the right label, and a quote that the post does not have

Of the wrong labels of a data set so many are kept that each label is preferred as often as it is rejected: a model that
misses `yes` more often than `no` would otherwise learn to say yes to more posts, right or wrong. --one-sided keeps all.

Answers of the training split make training pairs: generate some with a temperature above 0. An answer that was cut at
its limit makes none, nor does one whose fault the gold answer has too: of the benchmark's gold explanations some quote
what no post says. The file holds posts, as records do; nothing of them is printed.
"""

PAIRS_EPILOG = """\
examples:
  mentallama generate runs/chat-7b --data data/imhi:train --temperature 1 --out predictions/sampled.jsonl
  mentallama data pairs predictions/sampled.jsonl --data data/imhi:train --out data/pairs.jsonl
  mentallama data pairs a.jsonl b.jsonl --data sample:train --kinds wrong_label invented_quote --out pairs.jsonl

then:
  mentallama train configs/dpo-smollm2.yaml data.train='[data/pairs.jsonl]'

or a reward model, whose run is the reward `model:runs/reward` of GRPO:
  mentallama data pairs predictions/sampled.jsonl --data data/imhi:train --out pairs.jsonl --reward-data data/reward
  mentallama train configs/classifier-minilm.yaml data.tasks='[data/reward/preferred.yaml]' \\
      data.train='[data/reward/records.jsonl]' data.datasets='[preferred]' data.validation='[]' objective.test='[]' \\
      evaluation.metric=validation_loss evaluation.patience=null training.run_dir=runs/reward
"""


def add_pairs(parser: argparse.ArgumentParser) -> None:
    """Add the options of the action."""
    add = parser.add_argument
    add("outputs", type=as_path, metavar="PREDICTIONS", nargs="+", help="files that `generate` wrote")
    add(
        "--data",
        type=expanded,
        metavar="SOURCE",
        action="append",
        required=True,
        help="the records that were asked, matched by id; may be repeated",
    )
    add("--out", type=local_path, metavar="FILE", required=True, help="new file of pairs; ends in .jsonl")
    add("--kinds", metavar="NAME", nargs="+", help="faults to take (default: all four)")
    add("--classifiers", type=expanded, metavar="DIR", help="classifiers of explanations, a folder a data set")
    add("--one-sided", action="store_true", help="keep all wrong labels, even where they prefer one label mostly")
    add("--reward-data", type=local_path, metavar="DIR", help="new folder of records for a reward model")
    add_tasks(parser)
    parser.set_defaults(run=run_pairs)


def run_pairs(options: argparse.Namespace) -> int:
    """Write the pairs and count them by kind."""
    from collections import Counter

    from mentallama_jax.evaluation.answer_pairs import KINDS
    from mentallama_jax.jobs.make_pairs import make_pairs

    if options.out.exists():
        raise UserError(f"{options.out}: exists already; choose another name or remove it first")
    if options.out.suffix.lower() != ".jsonl":
        raise UserError(f"{options.out}: give a name that ends in .jsonl")
    found = make_pairs(
        options.outputs,
        options.data,
        options.out,
        kinds=options.kinds or KINDS,
        classifiers=options.classifiers,
        reward_data=options.reward_data,
        one_sided=options.one_sided,
    )
    counts = Counter((pair.dataset, pair.kind) for pair in found.pairs)
    for (dataset, kind), count in sorted(counts.items()):
        print(f"{dataset} {kind}: {count:,} pairs")
    for reason, count in sorted(found.left_out.items()):
        print(f"answers without a pair, {reason}: {count:,}")
    print(f"{len(found.pairs):,} pairs written to {options.out}")
    return 0
