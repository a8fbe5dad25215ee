"""What the step asks of an objective."""

from typing import Any, Protocol

import jax

from mentallama_jax.models.module import Params
from mentallama_jax.training.data.batch_spec import BatchSpec

BatchArrays = dict[str, jax.Array]
"""The arrays of a `BatchSpec`, [micro-batches, ...] each, and `micro_batches`, an int32 scalar: how many of the leading
micro-batches hold examples. `training.mesh_placement` makes it from the arrays of a host."""


class Objective(Protocol):
    """A sum over examples or tokens that training makes small, and the number that it is divided by.

    Sums are added up over micro-batches and devices and divided once, so how an update is cut changes nothing.
    """

    @property
    def model(self) -> Any:
        """The config of the model, a `models.module.ModelConfig`."""

    @property
    def batch_spec(self) -> BatchSpec:
        """The arrays that it reads."""

    @property
    def draws(self) -> bool:
        """Whether `loss` draws random numbers in training (dropout), and so wants a key."""

    def is_trained(self, path: tuple[str, ...]) -> bool:
        """Return whether the parameter at this path is trained; the others stay as they are."""

    def weight(self, batch: BatchArrays) -> jax.Array:
        """Return what the loss of a batch, or of a micro-batch, is divided by: its number of targets, fp32."""

    def loss(
        self, trainable: Params, frozen: Params, batch: BatchArrays, key: jax.Array | None, *, training: bool
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Compute one micro-batch.

        Args:
            trainable: parameters that the gradient is taken of.
            frozen: the model's other parameters.
            batch: the arrays of one micro-batch, without `micro_batches`.
            key: for random numbers; None where none are drawn.
            training: whether this is a step of training, not of an evaluation.

        Returns:
            The loss summed over targets (fp32), and further sums by name, which are divided by the same weight and
            logged.
        """


def everything(path: tuple[str, ...]) -> bool:
    """Return True: every parameter is trained."""
    return True
