"""One update as a pure jitted function: (state, batch) -> (state, metrics)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mentallama_jax.config import RunConfig
from mentallama_jax.models.adapters import AdaptedConfig, adapted_params
from mentallama_jax.models.module import Params, init_params, merge_params, split_params
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES
from mentallama_jax.training.objectives.objective import BatchArrays, Objective
from mentallama_jax.training.optimizer import learning_rate_schedule, make_optimizer

TrainState = dict[str, Any]
"""{"params": the parameters that are trained, "frozen": the others ({} where there are none), both nested dicts,
"opt_state": optax state of the trained ones, "step": int32 scalar, updates done}."""
Metrics = dict[str, jax.Array]
LossSums = tuple[jax.Array, dict[str, jax.Array]]
"""The loss summed over targets, and further sums by name."""


def init_state(objective: Objective, config: RunConfig, total_steps: int, params: Params | None = None) -> TrainState:
    """The state before the first update: the given parameters, or random ones from `training.seed`.

    Of an adapted model the given parameters are those of its base.
    """
    dtype = jnp.dtype(config.model.parameter_dtype)
    key = jax.random.key(config.training.seed)
    if isinstance(objective.model, AdaptedConfig):
        params = adapted_params(objective.model, params, key, dtype)
    else:
        params = init_params(objective.model, key, dtype) if params is None else params
        params = jax.tree.map(lambda x: jnp.asarray(x, dtype), params)
    trained, frozen = split_params(params, objective.is_trained)
    optimizer = make_optimizer(config.optimizer, learning_rate_schedule(config.optimizer, total_steps), objective.model)
    opt_state = optimizer.init(trained)
    return {"params": trained, "frozen": frozen, "opt_state": opt_state, "step": jnp.zeros((), jnp.int32)}


def model_params(state: TrainState) -> Params:
    """All parameters of the model, trained and frozen, as one nested dict."""
    return merge_params(state["params"], state["frozen"])


def accumulated_gradients(
    objective: Objective, trainable: Params, frozen: Params, batch: BatchArrays, key: jax.Array | None = None
) -> tuple[LossSums, Params, jax.Array]:
    """LossSums, gradient of the loss sum (fp32, of the trainable parameters) and weight of a whole update.

    Micro-batches are summed, never averaged, so that how the rows are cut does not change the result. Those
    past `micro_batches` are padding and are not computed.
    """
    weight = objective.weight(batch)
    gradient_of = jax.value_and_grad(
        lambda trainable, micro, key: objective.loss(trainable, frozen, micro, key, training=True), has_aux=True
    )
    arrays = {name: value for name, value in batch.items() if name != MICRO_BATCHES}
    if next(iter(arrays.values())).shape[0] == 1:
        sums, gradients = gradient_of(trainable, {name: value[0] for name, value in arrays.items()}, key)
        return sums, jax.tree.map(lambda g: g.astype(jnp.float32), gradients), weight

    def add(index: jax.Array, carry: tuple[LossSums, Params]) -> tuple[LossSums, Params]:
        micro = {name: jax.lax.dynamic_index_in_dim(value, index, keepdims=False) for name, value in arrays.items()}
        own_key = None if key is None else jax.random.fold_in(key, index)
        sums, gradients = gradient_of(trainable, micro, own_key)
        total = jax.tree.map(jnp.add, carry[0], sums)
        return total, jax.tree.map(lambda total, g: total + g.astype(jnp.float32), carry[1], gradients)

    first = {name: jax.ShapeDtypeStruct(value.shape[1:], value.dtype) for name, value in arrays.items()}
    sums_shapes = jax.eval_shape(gradient_of, trainable, first, key)[0]
    zeros = (
        jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), sums_shapes),
        jax.tree.map(lambda p: jnp.zeros_like(p, jnp.float32), trainable),
    )
    sums, gradients = jax.lax.fori_loop(0, batch[MICRO_BATCHES], add, zeros)
    return sums, gradients, weight


def make_train_step(
    objective: Objective, config: RunConfig, total_steps: int, state_shardings: Any = None
) -> Callable[[TrainState, BatchArrays], tuple[TrainState, Metrics]]:
    """The jitted update; the state handed in is donated.

    `state_shardings` (see `training.mesh_placement`) keeps the new state where the old one was; on one device there is
    no need for it. Call the step inside the `parallel.mesh.use_mesh` of those shardings.

    Metrics are fp32 scalars: `loss` (mean a target; nats a token for language models), `target_tokens` (the weight that
    sums are divided by), `grad_norm` (before clipping), `learning_rate`, and what else the objective sums up.
    """
    schedule = learning_rate_schedule(config.optimizer, total_steps)
    optimizer = make_optimizer(config.optimizer, schedule, objective.model)

    def train_step(state: TrainState, batch: BatchArrays) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(config.training.seed), state["step"]) if objective.draws else None
        (loss, extras), gradients, weight = accumulated_gradients(
            objective, state["params"], state["frozen"], batch, key
        )
        gradients = jax.tree.map(lambda g: g / weight, gradients)
        updates, opt_state = optimizer.update(gradients, state["opt_state"], state["params"])
        metrics = {
            "loss": loss / weight,
            "target_tokens": weight,
            "grad_norm": optax.tree.norm(gradients),
            "learning_rate": jnp.asarray(schedule(state["step"]), jnp.float32),
            **{name: total / weight for name, total in extras.items()},
        }
        params = optax.apply_updates(state["params"], updates)
        new = {"params": params, "frozen": state["frozen"], "opt_state": opt_state, "step": state["step"] + 1}
        return new, metrics

    return jax.jit(train_step, donate_argnums=0, out_shardings=(state_shardings, None))


def make_eval_step(objective: Objective) -> Callable[[Params, Params, BatchArrays], tuple[LossSums, jax.Array]]:
    """The jitted (trained parameters, frozen ones, batch of one micro-batch) -> (sums, weight)."""

    def eval_step(params: Params, frozen: Params, batch: BatchArrays) -> tuple[LossSums, jax.Array]:
        arrays = {name: value[0] for name, value in batch.items() if name != MICRO_BATCHES}
        return objective.loss(params, frozen, arrays, None, training=False), objective.weight(arrays)

    return jax.jit(eval_step)
