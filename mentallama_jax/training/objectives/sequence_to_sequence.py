"""Cross-entropy of the answers that an encoder-decoder writes about what it reads."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from mentallama_jax.config import RunConfig
from mentallama_jax.models.adapters import AdaptedConfig
from mentallama_jax.models.attention import Places
from mentallama_jax.models.encoder_decoder import EncoderDecoder
from mentallama_jax.models.module import Params, bind, merge_params
from mentallama_jax.models.registry import SequenceConfig
from mentallama_jax.training.data.batch_spec import BatchSpec
from mentallama_jax.training.loss import cross_entropy_sum
from mentallama_jax.training.objectives.objective import BatchArrays, everything


@dataclass(frozen=True, slots=True)
class SequenceToSequence:
    """Cross-entropy (nats) of the target tokens of packed pairs; see `objective.Objective`.

    The decoder reads `start_id` and then the target without its last token; each token of the target counts, its end
    token and, in a BART, the `<s>` in front of it included.

    Attributes:
        model: the shape.
        config: the run, for dtypes and for what the backward pass recomputes.
        batch_spec: of rows of pairs, see `batch_spec.paired_texts`.
        trained: (path of a parameter) -> whether it is trained. The biases of a BART's output, which published models
            do not train, have a gradient of zero.
    """

    model: SequenceConfig
    config: RunConfig
    batch_spec: BatchSpec
    trained: Callable[[tuple[str, ...]], bool] = everything

    @property
    def draws(self) -> bool:
        """Whether anything is dropped."""
        of_adapter = self.model.adapter.dropout if isinstance(self.model, AdaptedConfig) else 0.0
        return max(self.model.dropout, of_adapter) > 0

    def is_trained(self, path: tuple[str, ...]) -> bool:
        """Return whether the parameter at this path is trained."""
        return self.trained(path)

    def weight(self, batch: BatchArrays) -> jax.Array:
        """Return the number of target tokens, fp32."""
        return jnp.sum(batch["target_segment_ids"] != 0, dtype=jnp.float32)

    def loss(
        self, trainable: Params, frozen: Params, batch: BatchArrays, key: jax.Array | None, *, training: bool
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the summed cross-entropy (nats, fp32) of the target tokens of one micro-batch of rows."""
        section = self.config.model
        model: EncoderDecoder = bind(self.model, merge_params(trainable, frozen))  # type: ignore[assignment]
        sources = Places(batch["positions"], batch["segment_ids"])
        targets = Places(batch["target_positions"], batch["target_segment_ids"])
        wanted_BT = batch["target_tokens"]
        read_BT = jnp.where(targets.positions_BT == 0, self.model.start_id, jnp.roll(wanted_BT, 1, axis=1))
        dtype, key = jnp.dtype(section.compute_dtype), key if training else None
        memory_BSD = model.encode(batch["tokens"], sources, dtype=dtype, remat=section.remat, key=key)
        hidden_BTD = model.decode(read_BT, targets, memory_BSD, sources, dtype=dtype, remat=section.remat, key=key)
        scaled_BTD, head_DV, bias_V = model.head_product(hidden_BTD)
        mask_BT = (targets.segment_ids_BT != 0).astype(jnp.float32)
        return cross_entropy_sum(scaled_BTD, head_DV, wanted_BT, mask_BT, bias_V), {}
