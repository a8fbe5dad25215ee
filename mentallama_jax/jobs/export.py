"""Exports a run's checkpoint, or any model that can be read, as a Hugging Face folder with its model card."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from mentallama_jax.config import RunConfig
from mentallama_jax.errors import UserError
from mentallama_jax.files import regular_file, write_json
from mentallama_jax.foreign import parse_json, reading
from mentallama_jax.formats.hf_folder import ExportDtype, ReadTensor, save_hf
from mentallama_jax.formats.licences import UNKNOWN, licence_of
from mentallama_jax.formats.model_card import ModelCard, render_card
from mentallama_jax.formats.peft import write_adapter
from mentallama_jax.formats.proof import Chat
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer, load_tokenizer
from mentallama_jax.imhi.prompts import example_chat, example_prompt, stop_ids, style_template
from mentallama_jax.imhi.task_files.kept_tasks import KEPT, to_keep
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.jobs.adapter_runs import tensors_of_run
from mentallama_jax.jobs.export_sequence import export_sequence
from mentallama_jax.jobs.open_model import OpenedModel, is_run, open_model
from mentallama_jax.jobs.open_sequence import open_sequence
from mentallama_jax.jobs.push_export import Pushed, check_push, push_export
from mentallama_jax.jobs.run_card import card_of_other_run, card_of_training, public_name
from mentallama_jax.models.adapters import adapter_of
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.training.run.checkpoints import Which
from mentallama_jax.training.run.opened_run import describe_run


class Exported(NamedTuple):
    """What was written.

    Attributes:
        what: for people, such as "checkpoint of step 20".
        size: bytes of the folder.
        pushed: where it is on the hub; None where that was not asked for.
    """

    what: str
    size: int
    pushed: Pushed | None = None


class _Contents(NamedTuple):
    """What goes into the folder."""

    read: ReadTensor
    tokenizer: Tokenizer
    end_ids: tuple[int, ...]
    chat: Chat | None
    card: ModelCard


def export(
    source: str,
    out: str | Path,
    *,
    checkpoint: Which | None = None,
    revision: str | None = None,
    adapter: str | Path | None = None,
    adapter_only: bool = False,
    dtype: ExportDtype = "float32",
    scores: Path | None = None,
    max_shard_gb: float = 2.0,
    push: str | None = None,
    public: bool = False,
) -> Exported:
    """Write a model as a folder that transformers loads; all of it or nothing.

    Args:
        source: see `jobs.open_model.open_model`; `checkpoint`, `revision` and `adapter` likewise.
        out: folder to make.
        adapter_only: write the adapter that a run trains, in fp32, as PEFT reads it; not the merged model.
        dtype: of the stored weights.
        scores: a scores.json to show in the model card.
        max_shard_gb: weights are split into files of at most this size.
        push: upload the folder into this repository of the hub, `owner/name`; see `push_export`.
        public: whether everybody may see a repository that is made for it.

    Raises:
        UserError: no such model, an unreadable scores.json, or see `formats.hf_folder.save_hf`. What keeps it from
            being pushed is found before anything is written, where the hub says it.
    """
    if public and push is None:
        raise UserError("--public goes with --push OWNER/NAME")
    if push is not None:
        check_push(push, public=public)
    if max_shard_gb <= 0:
        raise UserError(f"--max-shard-gb {max_shard_gb}: give a size above 0")
    out, shown_scores, max_shard_bytes = Path(out), read_scores(scores), int(max_shard_gb * 1e9)
    if adapter_only:
        if adapter is not None or revision is not None:
            raise UserError("--adapter-only: writes what a run trains; leave --adapter and --revision out")
        what = _export_adapter(source, out, checkpoint, shown_scores)
    elif sequence := open_sequence(source, revision=revision, checkpoint=checkpoint, adapter=adapter):
        what = export_sequence(sequence, out, dtype=dtype, scores=shown_scores, max_shard_bytes=max_shard_bytes)
    else:
        opened = open_model(source, revision=revision, checkpoint=checkpoint, adapter=adapter)
        what = _export_language_model(opened, out, dtype, shown_scores, max_shard_bytes)
    size = sum(path.stat().st_size for path in out.iterdir())
    return Exported(what, size, None if push is None else push_export(out, push, public=public))


def _export_language_model(
    opened: OpenedModel, out: Path, dtype: ExportDtype, scores: dict[str, Any] | None, max_shard_bytes: int
) -> str:
    """Write a LLaMA; what was written, for people."""
    if opened.run is None:
        contents, what = _of_source(opened, out.name, scores), opened.source
    else:
        contents, what = _of_run(opened, opened.run, out.name, scores), f"checkpoint of step {opened.update}"
    save_hf(
        out,
        opened.config,
        contents.read,
        contents.tokenizer,
        card=contents.card,
        dtype=dtype,
        max_shard_bytes=max_shard_bytes,
        end_ids=contents.end_ids,
        chat=contents.chat,
    )
    if opened.run is not None and TASKS.own:
        write_json(out / KEPT, to_keep(TASKS.own))  # `generate` finds the wording there
    return what


def _export_adapter(source: str, out: Path, checkpoint: Which | None, scores: dict[str, Any] | None) -> str:
    """Write the adapter that a run trains, whatever model it adapts; what was written, for people."""
    if not is_run(source) or (found := describe_run(source, checkpoint or "best")).config.adapter is None:
        raise UserError(f"{source}: --adapter-only goes with the run directory of an adapter, and this is none")
    model, run = found.model_config, found.config
    tensors = tensors_of_run(found.checkpoint, model, run)
    numbers = sum(part.size for one in tensors.matrices.values() for part in one[:3] if part is not None)
    numbers += sum(whole.size for whole in tensors.whole.values())
    if isinstance(model, LlamaConfig):
        tokenizer = load_tokenizer(found.tokenizer, rows=model.vocab_size)
        card = _card_of_run(out.name, run, model, tokenizer, found.checkpoint.step, scores)
    else:
        card = card_of_other_run(out.name, run, model, found.checkpoint.step, scores)
    assert run.adapter is not None
    write_adapter(
        out,
        adapter_of(model, run.adapter),
        tensors,
        model,
        base=card.base_model if card.base_is_hub_id else run.model.source,
        options={"peft_type": run.adapter.kind.upper()},
        card=render_card(replace(card, library="peft"), numbers, "float32"),
    )
    return f"adapter of step {found.checkpoint.step}"


def read_scores(path: Path | None) -> dict[str, Any] | None:
    """The scores of a scores.json; None where no path is given.

    Raises:
        UserError: there is no such file, or no scores are in it.
    """
    if path is None:
        return None
    if not path.exists():
        raise UserError(f"{path}: no such file; write one with `mentallama evaluate`")
    with reading(path, "file"):
        content = regular_file(path).read_bytes()
    scores = parse_json(content, path)
    if not isinstance(scores, dict) or not isinstance(scores.get("datasets"), dict):
        raise UserError(f"{path}: no scores in it; give the scores.json of `mentallama evaluate`")
    return scores


def _of_run(opened: OpenedModel, run: RunConfig, name: str, scores: dict[str, Any] | None) -> _Contents:
    tokenizer, style = opened.load_tokenizer(), run.data.style
    ends = stop_ids(style, tokenizer)
    if (template := style_template(style, tokenizer)) is not None:
        tokenizer = tokenizer.with_chat_template(template)
    card = _card_of_run(name, run, opened.config, tokenizer, opened.update, scores)
    return _Contents(opened.tensors(), tokenizer, ends, Chat(*example_chat(style, tokenizer)), card)


def _of_source(opened: OpenedModel, name: str, scores: dict[str, Any] | None) -> _Contents:
    tokenizer = opened.load_tokenizer()
    card = _card_of_source(name, opened.source, opened.revision, opened.config, scores)
    return _Contents(opened.tensors(), tokenizer, (), _chat_of_source(tokenizer), card)


def _chat_of_source(tokenizer: Tokenizer) -> Chat | None:
    """A prompt to compare with that of transformers, where the template is one that prompts can be made with."""
    if tokenizer.chat_template is None:
        return None
    try:
        return Chat(*example_chat("chat", tokenizer))
    except UserError:  # the weights can be converted all the same
        return None


def _card_of_run(
    name: str,
    config: RunConfig,
    model: LlamaConfig,
    tokenizer: Tokenizer,
    step: int | None,
    scores: dict[str, Any] | None,
) -> ModelCard:
    licence = UNKNOWN if config.model.weights == "random" else licence_of(config.model.source, model)
    style = config.data.style
    card = card_of_training(name, config, step, scores)
    return replace(card, **licence._asdict(), prompt=example_prompt(style, tokenizer))


def _card_of_source(
    name: str, source: str, revision: str | None, model: LlamaConfig, scores: dict[str, Any] | None
) -> ModelCard:
    base, is_hub_id = public_name(source)
    shown = f"{base} (revision {revision})" if revision else base
    card = ModelCard(name, shown, is_hub_id and not revision, scores=scores)
    return replace(card, **licence_of(source, model)._asdict())
