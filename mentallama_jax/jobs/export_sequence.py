"""Exports an encoder-decoder, a run's checkpoint or any that can be read, as a Hugging Face folder with its card."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from mentallama_jax.formats.hf_folder import ExportDtype, save_model
from mentallama_jax.formats.model_card import ModelCard, render_card
from mentallama_jax.imhi.pair_texts import specials_of
from mentallama_jax.jobs.open_sequence import OpenedSequence
from mentallama_jax.jobs.run_card import card_of_other_run, public_name
from mentallama_jax.models.module import count_params


def export_sequence(
    opened: OpenedSequence, out: Path, *, dtype: ExportDtype, scores: dict[str, Any] | None, max_shard_bytes: int
) -> str:
    """Write an encoder-decoder as a folder that transformers loads; all of it or nothing.

    Args:
        opened: the model.
        out: folder to make.
        dtype: of the stored weights.
        scores: contents of a scores.json to show in the card.
        max_shard_bytes: weights are split into files of at most this size.

    Returns:
        What was written, for people.

    Raises:
        UserError: see `formats.hf_folder.save_model`.
    """
    card, config = _card(opened, out.name, scores), opened.config
    files = dict(opened.tokenizer.files)
    files["README.md"] = render_card(card, count_params(config), dtype).encode()
    opening = specials_of(opened.tokenizer, config.end_id, opened.source).opening
    generation: dict[str, Any] = {
        "decoder_start_token_id": config.start_id,
        "eos_token_id": config.end_id,
        "pad_token_id": config.pad_id,
    }
    if opening:  # without it, a BART writes its first word twice
        generation |= {"bos_token_id": opening[0], "forced_bos_token_id": opening[0]}
    files["generation_config.json"] = json.dumps(generation, indent=2).encode() + b"\n"
    save_model(out, config, opened.tensors(), files, dtype=dtype, max_shard_bytes=max_shard_bytes)
    return opened.source if opened.update is None else f"checkpoint of step {opened.update}"


def _card(opened: OpenedSequence, name: str, scores: dict[str, Any] | None) -> ModelCard:
    if opened.run is None:
        base, is_hub_id = public_name(opened.source)
        shown = f"{base} (revision {opened.revision})" if opened.revision else base
        card = ModelCard(name, shown, is_hub_id and not opened.revision, scores=scores)
    else:
        return card_of_other_run(name, opened.run, opened.config, opened.update, scores)
    return replace(card, pipeline="text2text-generation", family=opened.config.model_type)
