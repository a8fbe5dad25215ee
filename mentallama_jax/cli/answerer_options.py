"""The options of opening a model that answers, of `generate`, `probe` and `serve`."""

import argparse
from typing import TYPE_CHECKING

from mentallama_jax.storage import local_path

if TYPE_CHECKING:
    from mentallama_jax.jobs.answer import Answerer

STYLES = ("plain", "completion", "llama2-chat", "chatml", "chat")


def add_answerer_options(parser: argparse.ArgumentParser) -> None:
    """Add those that are the same in all of them."""
    add = parser.add_argument
    add(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="of weights and activations (default: float32 on CPU, bfloat16 elsewhere)",
    )
    add("--checkpoint", choices=("best", "last"), help="of a run: best by its metric, or the last one (default: best)")
    add("--revision", help="of a hub id: branch, tag or commit (default: its main branch)")
    add("--adapter", type=local_path, metavar="FOLDER", help="a PEFT adapter (LoRA, DoRA) to merge into MODEL")
    add(
        "--drafts",
        type=int,
        metavar="N",
        help="at temperature 0 guess N tokens a step from what was read and written before, and keep those that are "
        "right; changes speed only, 0 guesses none (default: 3 on CPU, 0 elsewhere)",
    )


def answerer_of(options: argparse.Namespace) -> "Answerer":
    """The model of a command that takes LLaMAs alone, ready to answer; see `jobs.answer.open_answerer`."""
    from mentallama_jax.jobs.answer import open_answerer

    return open_answerer(
        options.model,
        revision=options.revision,
        checkpoint=options.checkpoint,
        adapter=options.adapter,
        style=options.style,
        max_length=options.max_length,
        dtype=options.dtype,
        drafts=options.drafts,
    )
