"""`mentallama export`: a run's checkpoint, or any model that can be read, as a Hugging Face folder."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mentallama_jax.errors import UserError
from mentallama_jax.files import regular_file
from mentallama_jax.foreign import parse_json, reading
from mentallama_jax.storage import RemotePath, as_path, expanded, local_path

if TYPE_CHECKING:
    from mentallama_jax.config import RunConfig
    from mentallama_jax.formats.model_card import ModelCard
    from mentallama_jax.formats.proof import Chat
    from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer
    from mentallama_jax.models.llama import LlamaConfig

_DESCRIPTION = """\
Write a model as a folder that transformers (and what builds on it) loads: safetensors, config, generation config,
tokenizer and a model card. SOURCE is a run directory, or a model to convert: a Hugging Face folder, a hub id, a .gguf
file, or package:NAME for the .gguf file inside an installed Python package.
"""

_EPILOG = """\
examples:
  mentallama export runs/toy --out exports/toy
  mentallama export runs/chat-7b --out exports/chat-7b --dtype bfloat16 --scores scores/chat-7b/scores.json
  mentallama export model.gguf --out exports/converted

then, in Python:
  transformers.AutoModelForCausalLM.from_pretrained("exports/toy")
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "export",
        help="write a Hugging Face folder",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=expanded, metavar="SOURCE", help="run directory, or model to convert")
    parser.add_argument("--out", required=True, type=local_path, metavar="FOLDER", help="new folder to write")
    parser.add_argument(
        "--checkpoint",
        choices=("best", "last"),
        help="of a run: best by its metric, or the last one (default: best)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="of the stored weights; bfloat16 halves the size and rounds (default: float32, as trained)",
    )
    parser.add_argument("--revision", help="of a hub id: branch, tag or commit (default: its main branch)")
    parser.add_argument("--scores", type=local_path, metavar="FILE", help="a scores.json to show in the model card")
    parser.add_argument(
        "--max-shard-gb",
        type=float,
        default=2.0,
        metavar="GB",
        help="split the weights into files of at most this size (default: 2)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Export; print what was written."""
    if options.max_shard_gb <= 0:
        raise UserError(f"--max-shard-gb {options.max_shard_gb}: give a size above 0")
    scores = _read_scores(options.scores)
    from mentallama_jax.jobs.open_model import is_run

    source = as_path(options.source)
    from_run = is_run(options.source)
    if from_run and options.revision:
        raise UserError(f"{source}: --revision goes with a hub id, but this is a run directory")
    if not from_run and options.checkpoint:
        raise UserError(f"{source}: --checkpoint goes with a run directory, but this is not one")

    from mentallama_jax.formats.hf_folder import save_hf, tensors_of_arrays, tensors_of_file
    from mentallama_jax.formats.load import open_model
    from mentallama_jax.formats.proof import Chat
    from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer

    if from_run:
        from mentallama_jax.imhi.prompts import example_chat, stop_ids, style_template
        from mentallama_jax.training.run.layerwise import CheckpointTensors
        from mentallama_jax.training.run.run_directory import open_run

        run = open_run(source, options.checkpoint or "best")
        config, read = run.model_config, tensors_of_arrays(CheckpointTensors(run.checkpoint).read)
        tokenizer = load_tokenizer(run.tokenizer)
        style = run.config.data.style
        ends = stop_ids(style, tokenizer)
        if (template := style_template(style, tokenizer)) is not None:
            tokenizer = tokenizer.with_chat_template(template)
        chat: Chat | None = Chat(*example_chat(style, tokenizer))
        card = _card_of_run(options.out.name, run.config, config, tokenizer, run.checkpoint.step, scores)
        what = f"checkpoint of step {run.checkpoint.step}"
    else:
        config, file = open_model(options.source, revision=options.revision)
        read = tensors_of_file(file, config)
        tokenizer, ends = load_tokenizer(options.source, options.revision), ()
        chat = _chat_of_source(tokenizer)
        card = _card_of_source(options.out.name, options.source, options.revision, config, scores)
        what = options.source
    size = int(options.max_shard_gb * 1e9)
    save_hf(
        options.out,
        config,
        read,
        tokenizer,
        card=card,
        dtype=options.dtype,
        max_shard_bytes=size,
        end_ids=ends,
        chat=chat,
    )
    written = sum(path.stat().st_size for path in options.out.iterdir())
    print(f"wrote {what} to {options.out} ({written / 1e6:.1f} MB, {options.dtype})")
    return 0


def _chat_of_source(tokenizer: "Tokenizer") -> "Chat | None":
    """A prompt to compare with that of transformers, where the template is one that prompts can be made with."""
    from mentallama_jax.formats.proof import Chat
    from mentallama_jax.imhi.prompts import example_chat

    if tokenizer.chat_template is None:
        return None
    try:
        return Chat(*example_chat("chat", tokenizer))
    except UserError:  # the weights can be converted all the same
        return None


def _card_of_run(
    name: str,
    config: "RunConfig",
    model: "LlamaConfig",
    tokenizer: "Tokenizer",
    step: int,
    scores: dict[str, Any] | None,
) -> "ModelCard":
    from mentallama_jax.formats.licences import UNKNOWN, licence_of
    from mentallama_jax.formats.model_card import ModelCard
    from mentallama_jax.imhi.prompts import example_prompt

    licence = UNKNOWN if config.model.weights == "random" else licence_of(config.model.source, model)

    base, is_hub_id = _public_name(config.model.source)
    if config.model.weights == "random":
        base, is_hub_id = f"none: random weights in the shape of {base}", False
    elif config.model.revision:
        base += f" (revision {config.model.revision})"
        is_hub_id = False
    data = {
        "files": [_public_name(path)[0] for path in config.data.train],
        "data sets": config.data.datasets,
        "left out": config.data.exclude or "none",
        "style": config.data.style,
        "longest row": f"{config.data.max_length} tokens",
    }
    recipe: dict[str, Any] = {"updates": step}
    recipe |= {
        f"training.{k}": getattr(config.training, k) for k in ("epochs", "steps", "batch_size", "batch_unit", "seed")
    }
    recipe |= {f"optimizer.{k}": v for k, v in config.optimizer.model_dump().items()}
    recipe |= {f"model.{k}": getattr(config.model, k) for k in ("compute_dtype", "parameter_dtype")}
    recipe = {key: value for key, value in recipe.items() if value is not None}
    style = config.data.style
    card = ModelCard(name, base, is_hub_id, data=data, recipe=recipe, scores=scores)
    return replace(card, **licence._asdict(), style=style, prompt=example_prompt(style, tokenizer))


def _card_of_source(
    name: str, source: str, revision: str | None, model: "LlamaConfig", scores: dict[str, Any] | None
) -> "ModelCard":
    from mentallama_jax.formats.licences import licence_of
    from mentallama_jax.formats.model_card import ModelCard

    base, is_hub_id = _public_name(source)
    shown = f"{base} (revision {revision})" if revision else base
    card = ModelCard(name, shown, is_hub_id and not revision, scores=scores)
    return replace(card, **licence_of(source, model)._asdict())


def _public_name(source: str) -> tuple[str, bool]:
    """What a card may show of a source, and whether it is a hub id: of a path, the last part only."""
    path = as_path(source)
    if isinstance(path, RemotePath) or path.exists() or path.is_absolute() or source.startswith("package:"):
        return path.name, False
    return source, source.count("/") == 1


def _read_scores(path: Path | None) -> dict[str, Any] | None:
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
