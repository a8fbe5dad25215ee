"""Group-relative policy optimisation: answers that the model samples become likelier as they are better than others."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from mentallama_jax.config import GrpoSection, RunConfig
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params, bind, merge_params
from mentallama_jax.training.data.batch_spec import SAMPLED_ANSWERS, BatchSpec
from mentallama_jax.training.log_probabilities import members_of, token_log_probabilities
from mentallama_jax.training.loss import next_token_targets
from mentallama_jax.training.objectives.objective import BatchArrays, everything
from mentallama_jax.training.objectives.policy_losses import TokenFigures, token_losses


@dataclass(frozen=True, slots=True)
class Policy:
    """The clipped loss of sampled answers in packed rows; see `objective.Objective`.

    Attributes:
        model: the shape.
        config: the run; its objective is a `GrpoSection`.
        trained: (path of a parameter) -> whether it is trained.
    """

    model: LlamaConfig
    config: RunConfig
    trained: Callable[[tuple[str, ...]], bool] = everything
    batch_spec: BatchSpec = SAMPLED_ANSWERS
    draws: bool = False

    @property
    def objective(self) -> GrpoSection:
        """The keys of the objective."""
        assert isinstance(self.config.objective, GrpoSection)
        return self.config.objective

    def is_trained(self, path: tuple[str, ...]) -> bool:
        """Return whether the parameter at this path is trained."""
        return self.trained(path)

    def weight(self, batch: BatchArrays) -> jax.Array:
        """Return the number of tokens that are learnt from, fp32, at least 1."""
        return jnp.maximum(jnp.sum(next_token_targets(batch)[1]), 1)

    def log_probabilities(self, params: Params, batch: BatchArrays) -> jax.Array:
        """The log-probability (nats, fp32, [B, T]) of the token behind each position, 0 where it is not learnt from.

        Args:
            params: of the whole model.
            batch: the arrays of one micro-batch.
        """
        section = self.config.model
        model = bind(self.model, params)
        hidden_BTD = model.hidden(
            batch["tokens"],
            batch["positions"],
            batch["segment_ids"],
            dtype=jnp.dtype(section.compute_dtype),
            remat=section.remat,
            offload=section.offload,
        )
        if self.objective.temperature != 1:  # in fp32: bfloat16 knows no temperature such as 0.7
            hidden_BTD = (hidden_BTD.astype(jnp.float32) / self.objective.temperature).astype(hidden_BTD.dtype)
        targets_BT, mask_BT = next_token_targets(batch)
        return token_log_probabilities(hidden_BTD, model.head_DV(), targets_BT) * mask_BT

    def loss(
        self, trainable: Params, frozen: Params, batch: BatchArrays, key: jax.Array | None, *, training: bool
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the summed loss of the tokens of one micro-batch [rows, T], and sums of what is logged of them."""
        now_BT = self.log_probabilities(merge_params(trainable, frozen), batch)
        mask_BT = next_token_targets(batch)[1]
        # The first update after sampling has the weights that sampled: TRL does not compute them twice either.
        old_BT = jax.lax.stop_gradient(now_BT)
        if self.objective.num_iterations > 1:
            old_BT = batch["old_log_probabilities"]
        figures = TokenFigures(now_BT, old_BT, batch["reference_log_probabilities"], batch["advantages"], mask_BT)
        most = now_BT.shape[1] // 2 + 1
        found = token_losses(figures, members_of(batch["segment_ids"], most), self.objective)
        extras = {"logps": now_BT, "ratio": found.ratios, "clip_ratio": found.clipped}
        if self.objective.beta:
            extras["kl"] = found.divergences
        total = jnp.sum(found.losses * batch["token_weights"] * mask_BT)
        return total, {name: jnp.sum(values * mask_BT) for name, values in extras.items()}
