"""Proves an export before it counts: transformers must read it back as the model and the tokenizer that were meant."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown
from mentallama_jax.formats import proof_child
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer

_SECONDS = 300
# One text of every kind that tokenizers treat apart: cases, digits, blanks, accents, other scripts, emoji.
_TEXT = "I haven't slept since 3:30, and na\u00efve me thought  it would pass...\n\nWhy me? \u4f60\u597d \U0001f62d"
_COMPARED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
    "tie_word_embeddings",
    "max_position_embeddings",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)


class Chat:
    """One prompt in the template of an export: its messages, and the ids that it was tuned with."""

    def __init__(self, messages: Sequence[Mapping[str, str]], ids: Sequence[int]) -> None:
        self.messages = [dict(message) for message in messages]
        self.ids = list(ids)


def prove(folder: Path, target: Path, config: Mapping[str, Any], tokenizer: Tokenizer, chat: Chat | None) -> None:
    """Compare what transformers reads in `folder` with what was meant.

    Args:
        folder: the export, not yet in its place.
        target: its place, named in errors.
        config: contents of its `config.json`.
        tokenizer: ours.
        chat: a prompt of the export's chat template; None where there is no template to compare.

    Raises:
        UserError: transformers cannot read it, or reads something else.
    """
    found = _examine(folder, target, chat)
    generation = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    for key in _COMPARED:
        _compare(target, f"config.json, {key}", config[key], found["config"].get(key))
    for key, value in generation.items():
        _compare(target, f"generation_config.json, {key}", value, found["generation"].get(key))
    _compare(target, "the padding token", config["pad_token_id"], found["tokenizer"]["pad_token_id"])
    _compare(target, "the end token", tokenizer.eos_id, found["tokenizer"]["eos_token_id"])
    ours = [tokenizer.encode(_TEXT), tokenizer.encode(f"  {_TEXT} ")]
    _compare(target, "the ids of a text", ours, found["ids"])
    begin = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    _compare(target, "the ids of a text with its beginning", begin + ours[0], found["with_specials"])
    # A template that asks for today's date is told none when prompts are made here (see `chat.worker`).
    if chat is not None and "strftime_now" not in (tokenizer.chat_template or ""):
        _compare(target, "the ids of a prompt by the chat template", chat.ids, found["chat"])


def _examine(folder: Path, target: Path, chat: Chat | None) -> dict[str, Any]:
    question = {"texts": [_TEXT, f"  {_TEXT} "], "messages": chat.messages if chat else None}
    command = [sys.executable, "-P", proof_child.__file__, str(folder)]
    try:
        done = subprocess.run(
            command, input=json.dumps(question), capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{target}: transformers did not read the export back within {_SECONDS} s") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it was stopped"])[-1]
        raise UserError(
            f"{target}: transformers cannot read the export ({shown(reason, 160)}); nothing is written. Mend the "
            "files of the source's tokenizer, or install transformers>=5"
        )
    value: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return value


def _compare(target: Path, what: str, ours: Any, theirs: Any) -> None:
    if ours != theirs:
        raise UserError(
            f"{target}: transformers reads the export otherwise than it was meant: {what}: {shown(theirs)}, not "
            f"{shown(ours)}; nothing is written"
        )
