"""Next-token cross-entropy of the answers: instruction tuning of a causal language model."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from mentallama_jax.config import RunConfig
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params, bind, merge_params
from mentallama_jax.training.data.batch_spec import PACKED_TOKENS, BatchSpec
from mentallama_jax.training.loss import cross_entropy_sum, next_token_targets
from mentallama_jax.training.objectives.objective import BatchArrays, everything


@dataclass(frozen=True, slots=True)
class Supervised:
    """Cross-entropy (nats) of the target tokens of packed rows; see `objective.Objective`.

    Attributes:
        model: the shape.
        config: the run, for dtypes and for what the backward pass recomputes.
        trained: (path of a parameter) -> whether it is trained.
        draws: whether an adapter drops some of its inputs.
    """

    model: LlamaConfig
    config: RunConfig
    trained: Callable[[tuple[str, ...]], bool] = everything
    batch_spec: BatchSpec = PACKED_TOKENS
    draws: bool = False

    def is_trained(self, path: tuple[str, ...]) -> bool:
        """Return whether the parameter at this path is trained."""
        return self.trained(path)

    def weight(self, batch: BatchArrays) -> jax.Array:
        """Return the number of target tokens, fp32."""
        return jnp.sum(next_token_targets(batch)[1])

    def loss(
        self, trainable: Params, frozen: Params, batch: BatchArrays, key: jax.Array | None, *, training: bool
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the summed cross-entropy (nats, fp32) of the target tokens of one micro-batch [rows, T]."""
        section = self.config.model
        model = bind(self.model, merge_params(trainable, frozen))
        hidden_BTD = model.hidden(
            batch["tokens"],
            batch["positions"],
            batch["segment_ids"],
            dtype=jnp.dtype(section.compute_dtype),
            remat=section.remat,
            offload=section.offload,
            # Of training batches alone: those of an evaluation are packed whatever the layout.
            unpacked=training and self.config.data.layout == "bucketed",
            key=key if training else None,
        )
        targets_BT, mask_BT = next_token_targets(batch)
        return cross_entropy_sum(hidden_BTD, model.head_DV(), targets_BT, mask_BT), {}
