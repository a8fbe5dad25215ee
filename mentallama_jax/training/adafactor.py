"""Adafactor (Shazeer and Stern 2018), with the learning rate given and no first moment, as T5 is usually tuned.

The second moment of a matrix is kept as the means of its rows and of its columns; that of a vector is kept whole. What
is a matrix is said by names: what stands below `layers` is stacked and each layer has its own, and heads with their
width are one dimension. Clipping, too, is by matrix, so that updates are those of transformers' `Adafactor` with
`scale_parameter=False, relative_step=False`.

Shape suffixes: L layers (none where a parameter is not stacked), I rows, J columns.
"""

from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

from mentallama_jax.models.module import Params
from mentallama_jax.parallel.rules import Names

_DECAY = 0.8
_EPSILON = 1e-30
_CLIP = 1.0


class AdafactorState(NamedTuple):
    """Second moments, fp32; each nested dict has the paths of the parameters that it is of.

    Attributes:
        done: int32 scalar, updates done.
        rows: [L, I], means over columns, of matrices.
        columns: [L, J], means over rows, of matrices.
        whole: [L, I], of vectors.
    """

    done: jax.Array
    rows: Params
    columns: Params
    whole: Params


class View(NamedTuple):
    """How a parameter is taken for a matrix or a vector of each layer: names and sizes of its dimensions.

    Attributes:
        stacked: the dimension of layers, or nothing.
        within: of one layer, two for a matrix and one for a vector.
    """

    stacked: tuple[tuple[str | None, int], ...]
    within: tuple[tuple[str | None, int], ...]

    @classmethod
    def of(cls, path: tuple[str, ...], names: Names, shape: tuple[int, ...]) -> "View":
        """The view of the parameter at a path, whose dimensions have these names.

        Raises:
            ValueError: it is neither a matrix nor a vector.
        """
        first = 1 if "layers" in path else 0
        before: str | None = None
        within: list[tuple[str | None, int]] = []
        for name, size in zip(names[first:], shape[first:], strict=True):
            if name is None and before == "heads":
                within[-1] = ("heads", within[-1][1] * size)  # heads and their width are one dimension
            else:
                within.append((name, size))
            before = name  # what stands behind the width, such as the rank of an adapter, is a dimension of its own
        if len(within) not in (1, 2):
            raise ValueError(f"{'.'.join(path)}: a parameter of dimensions {names} is neither a matrix nor a vector")
        return cls(tuple(zip(names[:first], shape[:first], strict=True)), tuple(within))

    @property
    def is_matrix(self) -> bool:
        """Whether its second moment is factored."""
        return len(self.within) == 2

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the view."""
        return tuple(size for _, size in (*self.stacked, *self.within))

    def moment(self, side: str) -> tuple[Names, tuple[int, ...]]:
        """Names and sizes of the dimensions of a moment: that of `rows`, of `columns`, or of a vector (`whole`)."""
        kept = (*self.stacked, self.within[-1] if side == "columns" else self.within[0])
        return tuple(name for name, _ in kept), tuple(size for _, size in kept)


def moment_names(side: str, path: tuple[str, ...], names: Names, shape: tuple[int, ...]) -> Names:
    """The names of the dimensions of a moment of a parameter; `side` is the field of `AdafactorState`."""
    return View.of(path, names, shape).moment(side)[0]


def scale_by_adafactor(dimensions: Params) -> optax.GradientTransformation:
    """Gradients to updates of about unit size, before the learning rate.

    Args:
        dimensions: the names of the dimensions of every parameter, see `models.module.param_dimensions`.
    """
    names = traverse_util.flatten_dict(dimensions)

    def init(params: optax.Params) -> AdafactorState:
        flat: dict[Any, Any] = traverse_util.flatten_dict(params)
        views = {path: View.of(path, names[path], value.shape) for path, value in flat.items()}

        def zeros(side: str, matrices: bool) -> Params:
            shapes = {path: view.moment(side)[1] for path, view in views.items() if view.is_matrix == matrices}
            return traverse_util.unflatten_dict({path: jnp.zeros(shape) for path, shape in shapes.items()})

        return AdafactorState(
            jnp.zeros((), jnp.int32), zeros("rows", True), zeros("columns", True), zeros("whole", False)
        )

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdafactorState]:
        assert isinstance(state, AdafactorState)
        done = state.done + 1
        kept = 1 - done.astype(jnp.float32) ** -_DECAY
        rows, columns, whole = (traverse_util.flatten_dict(side) for side in state[1:])
        flat: dict[Any, jax.Array] = traverse_util.flatten_dict(updates)
        for path, gradient in flat.items():
            view = View.of(path, names[path], gradient.shape)
            seen = gradient.astype(jnp.float32).reshape(view.shape)
            squares = jnp.square(seen) + _EPSILON
            if view.is_matrix:
                rows_LI = kept * rows[path] + (1 - kept) * jnp.mean(squares, axis=-1)
                columns_LJ = kept * columns[path] + (1 - kept) * jnp.mean(squares, axis=-2)
                rows[path], columns[path] = rows_LI, columns_LJ
                shares_LI = rows_LI / jnp.mean(rows_LI, axis=-1, keepdims=True)
                scaled = seen * jax.lax.rsqrt(shares_LI)[..., None] * jax.lax.rsqrt(columns_LJ)[..., None, :]
            else:
                whole[path] = kept * whole[path] + (1 - kept) * squares
                scaled = seen * jax.lax.rsqrt(whole[path])
            axes = tuple(range(len(view.stacked), len(view.shape)))
            size = jnp.sqrt(jnp.sum(jnp.square(scaled), axis=axes, keepdims=True) / prod(n for _, n in view.within))
            flat[path] = (scaled / jnp.maximum(1, size / _CLIP)).reshape(gradient.shape)
        sides = (traverse_util.unflatten_dict(side) for side in (rows, columns, whole))
        return traverse_util.unflatten_dict(flat), AdafactorState(done, *sides)

    return optax.GradientTransformation(init, update)
