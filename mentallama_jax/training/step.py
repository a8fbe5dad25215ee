"""One update as a pure jitted function: (state, batch) -> (state, metrics)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mentallama_jax.config import RunConfig
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params, bind, init_params
from mentallama_jax.training.loss import cross_entropy_sum, next_token_targets
from mentallama_jax.training.optimizer import learning_rate_schedule, make_optimizer

TrainState = dict[str, Any]
"""{"params": nested dict, "opt_state": optax state, "step": int32 scalar, updates done}."""
Batch = dict[str, jax.Array]
"""`tokens`, `segment_ids`, `positions`, `loss_mask` int32 [micro-batches, rows, T], and `micro_batches` int32 scalar:
how many of the leading micro-batches hold examples. `training.mesh_placement` makes it from the arrays of a host."""
Metrics = dict[str, jax.Array]


def init_state(
    model_config: LlamaConfig, config: RunConfig, total_steps: int, params: Params | None = None
) -> TrainState:
    """The state before the first update: the given parameters, or random ones from `training.seed`."""
    dtype = jnp.dtype(config.model.parameter_dtype)
    if params is None:
        params = init_params(model_config, jax.random.key(config.training.seed), dtype)
    params = jax.tree.map(lambda x: jnp.asarray(x, dtype), params)
    optimizer = make_optimizer(config.optimizer, learning_rate_schedule(config.optimizer, total_steps))
    return {"params": params, "opt_state": optimizer.init(params), "step": jnp.zeros((), jnp.int32)}


def loss_sum(
    params: Params, model_config: LlamaConfig, config: RunConfig, batch: Batch, *, unpacked: bool = False
) -> jax.Array:
    """Summed cross-entropy (nats, fp32) of the target tokens of one micro-batch [m, T].

    `unpacked` is the caller's word that no row holds two examples; see `models.attention`.
    """
    model = bind(model_config, params)
    hidden_BTD = model.hidden(
        batch["tokens"],
        batch["positions"],
        batch["segment_ids"],
        dtype=jnp.dtype(config.model.compute_dtype),
        remat=config.model.remat,
        offload=config.model.offload,
        unpacked=unpacked,
    )
    targets_BT, mask_BT = next_token_targets(batch)
    return cross_entropy_sum(hidden_BTD, model.head_DV(), targets_BT, mask_BT)


def accumulated_gradients(
    params: Params, model_config: LlamaConfig, config: RunConfig, batch: Batch
) -> tuple[jax.Array, Params, jax.Array]:
    """Loss sum, gradient of the sum (fp32) and number of target tokens of a whole update.

    Micro-batches are summed, never averaged, so that how the rows are cut does not change the result. Those
    past `micro_batches` are padding and are not computed.
    """
    count = jnp.sum(next_token_targets(batch)[1])
    unpacked = config.data.layout == "bucketed"  # of training batches; those of an evaluation are packed all the same
    gradient_of = jax.value_and_grad(
        lambda params, micro: loss_sum(params, model_config, config, micro, unpacked=unpacked)
    )
    arrays = {key: value for key, value in batch.items() if key != "micro_batches"}
    if batch["tokens"].shape[0] == 1:
        loss, gradients = gradient_of(params, {key: value[0] for key, value in arrays.items()})
        return loss, jax.tree.map(lambda g: g.astype(jnp.float32), gradients), count

    def add(index: jax.Array, carry: tuple[jax.Array, Params]) -> tuple[jax.Array, Params]:
        micro = {key: jax.lax.dynamic_index_in_dim(value, index, keepdims=False) for key, value in arrays.items()}
        loss, gradients = gradient_of(params, micro)
        return carry[0] + loss, jax.tree.map(lambda total, g: total + g.astype(jnp.float32), carry[1], gradients)

    zeros = jax.tree.map(lambda p: jnp.zeros_like(p, jnp.float32), params)
    loss, gradients = jax.lax.fori_loop(0, batch["micro_batches"], add, (jnp.float32(0), zeros))
    return loss, gradients, count


def make_train_step(
    model_config: LlamaConfig, config: RunConfig, total_steps: int, state_shardings: Any = None
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The jitted update; the state handed in is donated.

    `state_shardings` (see `training.mesh_placement`) keeps the new state where the old one was; on one device there is
    no need for it. Call the step inside the `parallel.mesh.use_mesh` of those shardings.

    Metrics are fp32 scalars: `loss` (mean nats a target token), `target_tokens`, `grad_norm` (before
    clipping) and `learning_rate`.
    """
    schedule = learning_rate_schedule(config.optimizer, total_steps)
    optimizer = make_optimizer(config.optimizer, schedule)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        loss, gradients, count = accumulated_gradients(state["params"], model_config, config, batch)
        gradients = jax.tree.map(lambda g: g / count, gradients)
        updates, opt_state = optimizer.update(gradients, state["opt_state"], state["params"])
        metrics = {
            "loss": loss / count,
            "target_tokens": count,
            "grad_norm": optax.tree.norm(gradients),
            "learning_rate": jnp.asarray(schedule(state["step"]), jnp.float32),
        }
        params = optax.apply_updates(state["params"], updates)
        return {"params": params, "opt_state": opt_state, "step": state["step"] + 1}, metrics

    return jax.jit(train_step, donate_argnums=0, out_shardings=(state_shardings, None))


def make_eval_step(
    model_config: LlamaConfig, config: RunConfig
) -> Callable[[Params, Batch], tuple[jax.Array, jax.Array]]:
    """The jitted (params, batch of one micro-batch) -> (loss sum in nats, number of target tokens)."""

    def eval_step(params: Params, batch: Batch) -> tuple[jax.Array, jax.Array]:
        arrays = {key: value[0] for key, value in batch.items() if key != "micro_batches"}
        return loss_sum(params, model_config, config, arrays), jnp.sum(next_token_targets(arrays)[1])

    return jax.jit(eval_step)
