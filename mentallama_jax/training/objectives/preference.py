"""Direct preference optimisation: of two answers to a prompt, the chosen one is to gain more than the rejected one."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from mentallama_jax.config import DpoSection, RunConfig
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params, bind, merge_params
from mentallama_jax.training.data.batch_spec import PREFERENCE_PAIRS, BatchSpec
from mentallama_jax.training.log_probabilities import members_of, segment_sums, token_log_probabilities
from mentallama_jax.training.loss import next_token_targets
from mentallama_jax.training.objectives.objective import BatchArrays, everything
from mentallama_jax.training.objectives.preference_losses import PAIR_LOSSES, PairFigures


@dataclass(frozen=True, slots=True)
class Preference:
    """A loss of pairs that share packed rows, two segments each; see `objective.Objective`.

    Attributes:
        model: the shape.
        config: the run; its objective is a `DpoSection`.
        trained: (path of a parameter) -> whether it is trained.
    """

    model: LlamaConfig
    config: RunConfig
    trained: Callable[[tuple[str, ...]], bool] = everything
    batch_spec: BatchSpec = PREFERENCE_PAIRS
    draws: bool = False

    @property
    def objective(self) -> DpoSection:
        """The keys of the objective."""
        assert isinstance(self.config.objective, DpoSection)
        return self.config.objective

    @property
    def compares(self) -> bool:
        """See `DpoSection.compares`."""
        return self.objective.compares

    def is_trained(self, path: tuple[str, ...]) -> bool:
        """Return whether the parameter at this path is trained."""
        return self.trained(path)

    def weight(self, batch: BatchArrays) -> jax.Array:
        """Return the number of pairs, fp32; for `sft` that of the target tokens of chosen answers."""
        is_chosen = batch["segment_ids"] % 2 == 1
        if not self.compares:
            return jnp.maximum(jnp.sum(next_token_targets(batch)[1] * is_chosen), 1)
        begins = (batch["positions"] == 0) & (batch["segment_ids"] > 0) & ~is_chosen
        return jnp.maximum(jnp.sum(begins.astype(jnp.float32)), 1)

    def answer_sums(self, params: Params, batch: BatchArrays) -> tuple[jax.Array, jax.Array]:
        """The summed log-probabilities (nats) and the target tokens of both answers of each pair.

        Args:
            params: of the whole model.
            batch: the arrays of one micro-batch.

        Returns:
            fp32 [B, P, 2] each, pair p of a row, chosen and rejected; 0 where a row has no such pair.
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
        targets_BT, mask_BT = next_token_targets(batch)
        found_BT = token_log_probabilities(hidden_BTD, model.head_DV(), targets_BT) * mask_BT
        members_BTS = members_of(batch["segment_ids"], most_answers(targets_BT.shape[1]))
        return _pairs(segment_sums(found_BT, members_BTS)), _pairs(segment_sums(mask_BT, members_BTS))

    def loss(
        self, trainable: Params, frozen: Params, batch: BatchArrays, key: jax.Array | None, *, training: bool
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the summed loss of the pairs of one micro-batch [rows, T], and TRL's figures of rewards."""
        sums_BP2, tokens_BP2 = self.answer_sums(merge_params(trainable, frozen), batch)
        objective = self.objective
        if not self.compares:
            return -jnp.sum(sums_BP2[..., 0]), {}
        members_BTS = members_of(batch["segment_ids"], most_answers(batch["tokens"].shape[1]))
        reference_BP2 = _pairs(segment_sums(batch["reference"], members_BTS))
        is_pair_BP = tokens_BP2[..., 1] > 0
        pairs = figures_of(sums_BP2, reference_BP2, jnp.maximum(tokens_BP2, 1))
        compared = pairs.per_token() if objective.length_normalised else pairs
        losses_BP = PAIR_LOSSES[objective.loss_type](compared, objective.beta, objective.label_smoothing)
        chosen, rejected = objective.beta * pairs.chosen_gain, objective.beta * pairs.rejected_gain
        extras = {
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/margins": chosen - rejected,
            "rewards/accuracies": (chosen > rejected).astype(jnp.float32),
            "logps/chosen": pairs.chosen,
            "logps/rejected": pairs.rejected,
        }

        def over_pairs(values_BP: jax.Array) -> jax.Array:
            return jnp.sum(jnp.where(is_pair_BP, values_BP, 0))

        return over_pairs(losses_BP), {name: over_pairs(values) for name, values in extras.items()}


def most_answers(length: int) -> int:
    """How many answers a row of so many tokens can hold, an even number: each with its prompt has at least 2 tokens."""
    return 2 * (length // 4 + 1)


def figures_of(sums_P2: jax.Array, reference_P2: jax.Array, tokens_P2: jax.Array) -> PairFigures:
    """The figures of pairs, from arrays [..., 2] of chosen and rejected."""
    return PairFigures(
        sums_P2[..., 0],
        sums_P2[..., 1],
        reference_P2[..., 0],
        reference_P2[..., 1],
        tokens_P2[..., 0],
        tokens_P2[..., 1],
    )


def _pairs(values_BS: jax.Array) -> jax.Array:
    return values_BS.reshape(values_BS.shape[0], -1, 2)
