"""Cross-entropy of the class of each text: fine-tuning of an encoder.

Where the classes are those of several data sets, a text has the labels of its own alone: the others are masked.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mentallama_jax.config import ClassificationSection, RunConfig
from mentallama_jax.models.adapters import AdaptedConfig
from mentallama_jax.models.bert import BertConfig
from mentallama_jax.models.module import Params, bind, merge_params
from mentallama_jax.training.data.batch_spec import CLASSIFIED_TEXTS, BatchSpec
from mentallama_jax.training.objectives.objective import BatchArrays, everything

CONFUSION = "confusion"
"""Among the sums of an evaluation: [C, C] fp32, the texts of each class (rows) that were taken for each (columns)."""


_NEVER = -1e30
"""A logit whose probability is 0, and whose product with 0 is no NaN."""


@dataclass(frozen=True, slots=True)
class Classification:
    """Cross-entropy (nats) of the classes of the texts in packed rows; see `objective.Objective`.

    A text counts as much as its class weighs, in the loss and in what the loss is divided by, as in torch.

    Attributes:
        model: the shape, with as many classes as there are weights.
        config: the run, for dtypes and for what the backward pass recomputes.
        class_weights: of each class, above 0.
        trained: (path of a parameter) -> whether it is trained.
        groups: of each class a number that the classes of its data set share; () where all are of one.
    """

    model: BertConfig
    config: RunConfig
    class_weights: tuple[float, ...]
    trained: Callable[[tuple[str, ...]], bool] = everything
    groups: tuple[int, ...] = ()
    batch_spec: BatchSpec = CLASSIFIED_TEXTS

    @property
    def draws(self) -> bool:
        """Whether anything is dropped."""
        of_adapter = self.model.adapter.dropout if isinstance(self.model, AdaptedConfig) else 0.0
        return max(self.model.dropout, self.model.classifier_dropout, of_adapter) > 0

    def is_trained(self, path: tuple[str, ...]) -> bool:
        """Return whether the parameter at this path is trained."""
        return self.trained(path)

    def weight(self, batch: BatchArrays) -> jax.Array:
        """Return the sum of the class weights of all texts, fp32."""
        return jnp.sum(self._weights(batch["labels"]))

    def loss(
        self, trainable: Params, frozen: Params, batch: BatchArrays, key: jax.Array | None, *, training: bool
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the weighed sum of the cross-entropy (nats, fp32) of the texts of one micro-batch [rows, T].

        Beside it, in training `accuracy`, the weights of the texts that are right; else `confusion`, see `CONFUSION`.
        """
        section = self.config.model
        model = bind(self.model, merge_params(trainable, frozen))
        inner, head = jax.random.split(key) if key is not None and training else (None, None)
        hidden_BTD, _ = model.hidden(
            batch["tokens"],
            batch["positions"],
            batch["segment_ids"],
            dtype=jnp.dtype(section.compute_dtype),
            remat=section.remat,
            key=inner,
        )
        logits_BTC = model.class_logits(hidden_BTD, head)
        labels_BT = batch["labels"]
        truth_BTC = jax.nn.one_hot(labels_BT, self.model.num_labels, dtype=jnp.float32)  # zeros where there is none
        if len(set(self.groups)) > 1:
            logits_BTC = self._own(logits_BTC, labels_BT)
        losses_BT = -jnp.sum(truth_BTC * jax.nn.log_softmax(logits_BTC), axis=-1)
        weights_BT = self._weights(labels_BT)
        found_BT = jnp.argmax(logits_BTC, axis=-1)
        total = jnp.sum(weights_BT * losses_BT)
        if training:
            return total, {"accuracy": jnp.sum(weights_BT * (found_BT == labels_BT))}
        found_BTC = jax.nn.one_hot(found_BT, self.model.num_labels, dtype=jnp.float32)
        return total, {CONFUSION: jnp.einsum("BTC,BTE->CE", truth_BTC, found_BTC)}

    def _own(self, logits_BTC: jax.Array, labels_BT: jax.Array) -> jax.Array:
        """The logits, those of other data sets too low to count; where no text begins, as they are."""
        groups_C = jnp.asarray(self.groups)
        group_BT = groups_C[jnp.maximum(labels_BT, 0)]
        own_BTC = (group_BT[..., None] == groups_C) | (labels_BT < 0)[..., None]
        return jnp.where(own_BTC, logits_BTC, _NEVER)

    def _weights(self, labels: jax.Array) -> jax.Array:
        """The weight of each place: that of its class, or 0 where no text begins; fp32."""
        weights = jnp.asarray(self.class_weights, jnp.float32)[jnp.maximum(labels, 0)]
        return jnp.where(labels >= 0, weights, 0)


def class_weights(
    objective: ClassificationSection, counts_C: NDArray[np.int64], groups: tuple[int, ...] = ()
) -> tuple[float, ...]:
    """The weight of each class by the training rows that it has.

    `balanced` gives a class rows / (classes that occur x rows of the class), as scikit-learn does, rows and classes of
    its own data set; one that does not occur weighs 1.
    """
    if objective.class_weights == "none":
        return (1.0,) * len(counts_C)
    groups_C = np.array(groups or (0,) * len(counts_C))
    found = []
    for count, group in zip(counts_C, groups_C, strict=True):
        own = counts_C[groups_C == group]
        found.append(int(own.sum()) / (int(np.count_nonzero(own)) * int(count)) if count else 1.0)
    return tuple(found)
