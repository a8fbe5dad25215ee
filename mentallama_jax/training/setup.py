"""What a run starts from, and what is checked and made before its first update."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, cast

import jax
from jax.sharding import Mesh

from mentallama_jax.config import (
    ClassificationSection,
    DocumentsSection,
    GrpoSection,
    RunConfig,
    SequenceSection,
    SupervisedSection,
)
from mentallama_jax.errors import UserError
from mentallama_jax.models.module import Params
from mentallama_jax.models.registry import TrainedConfig
from mentallama_jax.training.data.batches import TrainingData
from mentallama_jax.training.data.classified import TextTokenizer
from mentallama_jax.training.data.examples import Examples
from mentallama_jax.training.data.packing import PlanSettings
from mentallama_jax.training.data.rollouts import PolicyData
from mentallama_jax.training.data.tokens import FingerprintedTokenizer
from mentallama_jax.training.mesh_placement import abstract_state, held_rows
from mentallama_jax.training.objectives.objective import Objective
from mentallama_jax.training.objectives.of_config import objective_of
from mentallama_jax.training.objectives.preference import Preference
from mentallama_jax.training.preflight import check_answers_fit, check_disk, check_memory, estimate_memory
from mentallama_jax.training.reference_answers import with_reference
from mentallama_jax.training.run.checkpoints import Checkpoints
from mentallama_jax.training.run.run_directory import RunDirectory, SavableTokenizer
from mentallama_jax.training.step import TrainState, init_state, model_params

RunData = TrainingData | PolicyData
"""Where the batches of a run come from: examples that are planned, or answers that are sampled."""


class TrainingTokenizer(FingerprintedTokenizer, SavableTokenizer, Protocol):
    """What training asks of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """One above the largest id."""


class EncodingTokenizer(TextTokenizer, SavableTokenizer, Protocol):
    """What training an encoder asks of a tokenizer."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """What training starts from: a shape, a tokenizer, and a way to read the weights (None: random ones).

    The weights are read onto the shardings handed over, a tree like the parameters. `fingerprint` tells which ones they
    are, wherever they lie; it is None where there are none to be read.
    """

    config: TrainedConfig
    tokenizer: TrainingTokenizer | EncodingTokenizer
    load_params: Callable[[Any], Params] | None
    fingerprint: Callable[[], str] | None = None


def check_processes(config: RunConfig) -> None:
    """Refuse what several processes cannot do together."""
    if jax.process_count() > 1 and config.evaluation.generate_rows and isinstance(config.objective, SequenceSection):
        raise UserError(
            f"evaluation.generate_rows={config.evaluation.generate_rows}: an encoder-decoder answers in one process "
            f"only and there are {jax.process_count()}; set it to 0 and use `mentallama generate` on the checkpoints"
        )


def shared_settings(config: RunConfig) -> str:
    """What all processes must be told alike; where things lie may differ from host to host."""
    places = {"data": {"train", "validation", "cache_dir"}, "training": {"run_dir", "compile_cache_dir"}}
    if isinstance(config.objective, ClassificationSection):
        places["objective"] = {"test"}
    if isinstance(config.objective, DocumentsSection):
        places["objective"] = {"instructions"}
    return config.model_dump_json(exclude=places | {"model": {"source", "tokenizer"}})


def check_model(config: RunConfig, base: BaseModel) -> None:
    """Refuse a tokenizer or lengths that the model has no embeddings for."""
    # Some published BARTs have a mask token beyond their table, which no text becomes.
    beyond = 1 if isinstance(config.objective, SequenceSection) else 0
    if base.tokenizer.vocab_size > base.config.vocab_size + beyond:
        raise UserError(
            f"model.tokenizer has {base.tokenizer.vocab_size} tokens and {config.model.source} embeds "
            f"{base.config.vocab_size}; name the tokenizer that belongs to the model"
        )
    if isinstance(config.objective, SequenceSection) and config.objective.target_length > base.config.longest_text:
        raise UserError(
            f"objective.target_length {config.objective.target_length} is more than the {base.config.longest_text} "
            f"positions of {config.model.source}; lower it"
        )
    if config.data.max_length > base.config.longest_text:
        raise UserError(
            f"data.max_length {config.data.max_length} is more than the {base.config.longest_text} positions of "
            f"{config.model.source}; lower it"
        )


def run_objective(config: RunConfig, base: BaseModel, examples: Examples) -> Objective:
    """What the run minimises, over what it has read."""
    if isinstance(config.objective, SupervisedSection | GrpoSection):
        prompts = examples.records if isinstance(config.objective, GrpoSection) else ()
        check_answers_fit(config, [*prompts, *examples.to_answer], cast(TrainingTokenizer, base.tokenizer))
    return objective_of(base.config, config, examples.class_counts)


def examples_with_reference(
    objective: Preference, config: RunConfig, base: BaseModel, examples: Examples, mesh: Mesh
) -> Examples:
    """The examples with what the weights that the run starts from say of them."""
    random = json.dumps([base.config.to_json(), config.training.seed])
    name = base.fingerprint() if base.fingerprint is not None else random
    load = partial(first_params, objective, config, base, mesh)
    stores = [examples.train] + ([examples.validation] if examples.validation is not None else [])
    train, *validation = with_reference(stores, objective, name, load, mesh)
    return replace(examples, train=train, validation=validation[0] if validation else None)


def plan_updates(config: RunConfig, run: RunDirectory, examples: Examples, mesh: Mesh) -> TrainingData:
    """The updates of the run: the same ones where it is resumed with other micro-batches."""
    training = config.training
    settings = replace(PlanSettings.of(config), micro_batch_rows=run.planned_micro_batch_rows(config))
    return TrainingData(
        examples.train,
        settings,
        epochs=training.epochs,
        steps=training.steps,
        held=held_rows(mesh, training.micro_batch_rows),
        micro_batch_rows=training.micro_batch_rows,
    )


def warn_of_padding(config: RunConfig, data: RunData, say: Callable[[str], None]) -> None:
    """Say so where most of what is computed would be padding."""
    if data.pad_share > 0.5:
        training = config.training
        say(
            f"warning: {data.pad_share:.0%} of what is computed is padding; an update of {training.batch_size} "
            f"{training.batch_unit} does not fill training.micro_batch_rows {training.micro_batch_rows} rows of "
            f"data.max_length {config.data.max_length} tokens: lower either"
        )


def check_resources(
    config: RunConfig,
    base: BaseModel,
    data: RunData,
    state_shapes: TrainState,
    checkpoints: Checkpoints,
    run: RunDirectory,
    say: Callable[[str], None],
) -> None:
    """Refuse a run that its disk or the memory of its devices cannot hold."""
    need = estimate_memory(base.config, config, data.rows, data.row_lengths[-1], state_shapes)
    check_disk(run.path, need.checkpoint, len(checkpoints.complete), config)
    check_memory(need, config, say)


def first_state(
    objective: Objective, config: RunConfig, base: BaseModel, steps: int, state_shapes: TrainState
) -> TrainState:
    """The state before the first update.

    It is placed as a restored one is, so that both run the very same program; the parameters are not copied.
    """
    shardings = shardings_of(state_shapes)
    params = base.load_params(model_params(shardings)) if base.load_params is not None else None
    # What is frozen in another dtype than it is read in, or trained in another, cannot be taken over in place.
    donated = 0 if config.adapter is None else ()
    first = jax.jit(partial(init_state, objective, config, steps), out_shardings=shardings, donate_argnums=donated)
    return first(params)


def first_params(objective: Objective, config: RunConfig, base: BaseModel, mesh: Mesh) -> Params:
    """All parameters before the first update; moments, which may not fit beside those of the run, are not made."""
    shardings = model_params(shardings_of(abstract_state(objective, config, 1, mesh)))
    params = base.load_params(shardings) if base.load_params is not None else None

    def first(params: Params | None) -> Params:
        return model_params(init_state(objective, config, 1, params))

    donated = 0 if config.adapter is None else ()
    found: Params = jax.jit(first, out_shardings=shardings, donate_argnums=donated)(params)
    return found


def first_of_adapter(
    objective: Objective,
    config: RunConfig,
    base: BaseModel,
    data: RunData,
    state_shapes: TrainState,
) -> TrainState:
    """The first state where parameters are frozen: checkpoints do not hold these, so the base model is read again."""
    if not state_shapes["frozen"]:
        return {"frozen": {}}
    return first_state(objective, config, base, data.steps, state_shapes)


def shardings_of(state_shapes: TrainState) -> TrainState:
    """How each array of a state lies on the devices: a tree like it."""
    return jax.tree.map(lambda shape: shape.sharding, state_shapes)
