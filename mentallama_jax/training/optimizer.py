"""AdamW (Loshchilov and Hutter 2019) from optax, or Adafactor, with a linear warm-up."""

import math
from decimal import Decimal
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mentallama_jax.config import OptimizerSection
from mentallama_jax.models.low_rank import cast_floats
from mentallama_jax.models.module import ModelConfig, Params, param_dimensions
from mentallama_jax.training.adafactor import scale_by_adafactor


def learning_rate_schedule(config: OptimizerSection, total_steps: int) -> optax.Schedule:
    """Learning rate of update 0, 1, ...: linear up to the peak, then cosine, linear or constant.

    The warm-up takes ceil(warmup_fraction * total_steps) updates; its first is already above 0, and the
    update after it has the peak. The decay would reach `final_fraction` of the peak one update after the
    last, so that no update is spent on a learning rate of 0.
    """
    warmup = math.ceil(Decimal(repr(config.warmup_fraction)) * total_steps)  # floats make 8 of 0.07 x 100
    after = max(total_steps - warmup, 1)
    peak, final = config.learning_rate, config.learning_rate * config.final_fraction
    if config.schedule == "cosine":
        decay = optax.cosine_decay_schedule(peak, after, alpha=config.final_fraction)
    elif config.schedule == "linear":
        decay = optax.linear_schedule(peak, final, after)
    else:
        decay = optax.constant_schedule(peak)
    if warmup == 0:
        return decay
    rise = optax.linear_schedule(peak / (warmup + 1), peak, warmup)
    return optax.join_schedules([rise, decay], [warmup])


def decays(params: Params) -> Params:
    """True for what weight decay acts on: every matrix and embedding; False for scales and biases."""
    return jax.tree.map_with_path(lambda path, _: not path[-1].key.endswith(("scale", "bias")), params)


def make_optimizer(
    config: OptimizerSection, schedule: optax.Schedule, model: ModelConfig[Any]
) -> optax.GradientTransformation:
    """Clipping by global norm, then AdamW or Adafactor.

    AdamW's first moment has `first_moment_dtype`, its second is fp32 whatever dtype the parameters have. Weight decay
    of both is decoupled.
    """
    clip = optax.identity() if config.clip_norm is None else optax.clip_by_global_norm(config.clip_norm)
    if config.name == "adafactor":
        decay = optax.add_decayed_weights(config.weight_decay, decays) if config.weight_decay else optax.identity()
        scale = scale_by_adafactor(param_dimensions(model))
        return optax.chain(clip, scale, decay, optax.scale_by_learning_rate(schedule))
    adamw = optax.adamw(
        schedule,
        b1=config.beta1,
        b2=config.beta2,
        eps=config.epsilon,
        weight_decay=config.weight_decay,
        mask=decays,
        mu_dtype=jnp.dtype(config.first_moment_dtype),
    )
    # optax keeps a second moment in the dtype of its parameter, and bfloat16 rounds steps of 0.1 % away.
    in_float32 = optax.GradientTransformation(lambda params: adamw.init(cast_floats(params, jnp.float32)), adamw.update)
    return optax.chain(clip, in_float32)
