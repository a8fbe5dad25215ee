"""What a model card tells of the run that a model comes from, whatever its architecture."""

from dataclasses import replace
from typing import Any

from mentallama_jax.config import RunConfig
from mentallama_jax.formats.model_card import ModelCard
from mentallama_jax.imhi.pair_texts import example_source
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.models.bert import BertConfig
from mentallama_jax.models.registry import SequenceConfig
from mentallama_jax.storage import RemotePath, as_path

_OF_ADAMW = ("beta1", "beta2", "epsilon", "first_moment_dtype")


def card_of_training(name: str, config: RunConfig, step: int | None, scores: dict[str, Any] | None) -> ModelCard:
    """Base model, data, recipe and scores.

    Args:
        name: title of the card.
        config: of the run.
        step: updates done.
        scores: contents of a scores.json.
    """
    base, is_hub_id = public_name(config.model.source)
    if config.model.weights == "random":
        base, is_hub_id = f"none: random weights in the shape of {base}", False
    elif config.model.revision:
        base += f" (revision {config.model.revision})"
        is_hub_id = False
    data: dict[str, Any] = {
        "files": [public_name(path)[0] for path in config.data.train],
        "data sets": config.data.datasets,
        "left out": config.data.exclude or "none",
        "style": config.data.style,
        "longest row": f"{config.data.max_length} tokens",
    }
    for task in TASKS.own:
        data[f"task {task.name}"] = f"{task.question} {' / '.join(task.sentences.values())}"
    recipe: dict[str, Any] = {"updates": step}
    recipe |= {
        f"training.{k}": getattr(config.training, k) for k in ("epochs", "steps", "batch_size", "batch_unit", "seed")
    }
    unread = _OF_ADAMW if config.optimizer.name == "adafactor" else ()
    recipe |= {f"optimizer.{k}": v for k, v in config.optimizer.model_dump().items() if k not in unread}
    recipe |= {f"adapter.{k}": v for k, v in (config.adapter.model_dump() if config.adapter else {}).items()}
    recipe |= {f"model.{k}": getattr(config.model, k) for k in ("compute_dtype", "parameter_dtype")}
    recipe = {key: value for key, value in recipe.items() if value is not None}
    return ModelCard(name, base, is_hub_id, data=data, recipe=recipe, scores=scores, style=config.data.style)


def card_of_other_run(
    name: str, config: RunConfig, model: BertConfig | SequenceConfig, step: int | None, scores: dict[str, Any] | None
) -> ModelCard:
    """The card of a run that tunes an encoder or an encoder-decoder; the arguments are those of `card_of_training`."""
    card = card_of_training(name, config, step, scores)
    if isinstance(model, BertConfig):
        return replace(card, pipeline="text-classification", family=model.model_type)
    prompt = example_source(config.data.style)
    return replace(card, prompt=prompt, pipeline="text2text-generation", family=model.model_type)


def public_name(source: str) -> tuple[str, bool]:
    """What a card may show of a source, and whether it is a hub id: of a path, the last part only."""
    path = as_path(source)
    if isinstance(path, RemotePath) or path.exists() or path.is_absolute() or source.startswith("package:"):
        return path.name, False
    return source, source.count("/") == 1
