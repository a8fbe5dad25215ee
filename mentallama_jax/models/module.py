"""What every model offers, whatever its architecture: random parameters, their shapes, their shardings, and a module.

Parameters live outside the module as one nested dict of arrays. A new architecture is a frozen config of the protocol
`ModelConfig`, with a row in `registry`; the functions here then serve it.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, fields
from functools import lru_cache
from typing import Any, ClassVar, Protocol, Self, TypeVar, cast

import jax
import jax.numpy as jnp
from flax import nnx, traverse_util

Params = dict[str, Any]
"""A nested dict of arrays: names of modules, then names of their parameters."""
Module = TypeVar("Module", bound=nnx.Module)
ModuleCo = TypeVar("ModuleCo", bound=nnx.Module, covariant=True)


class ModelConfig(Protocol[ModuleCo]):
    """The shape of a model: frozen and hashable. Each parameter of its module carries the metadata `dimensions`."""

    model_type: ClassVar[str]
    """The key of `registry.MODEL_CONFIGS`."""

    def build(self, rngs: nnx.Rngs, dtype: Any) -> ModuleCo:
        """Make the module with random parameters; each is an `nnx.Param` with the names of its `dimensions`."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values, `model_type` among them, for `from_json`."""

    def __hash__(self) -> int:
        """Return the same number for equal configs: what is derived from a config is kept."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return what `to_json` described.

        Raises:
            ValueError: names the key that is missing, unknown or wrong.
        """


class DescribedConfig:
    """Plain values and back, for a config that is a dataclass of plain values; `may_be_zero` names whole numbers."""

    __slots__ = ()
    model_type: ClassVar[str]
    may_be_zero: ClassVar[tuple[str, ...]] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values, `model_type` among them, for `from_json`."""
        return {"model_type": self.model_type, **asdict(cast(Any, self))}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return what `to_json` described.

        Raises:
            ValueError: names the key that is missing, unknown or wrong.
        """
        return cls(**values_of_fields(cls, values, may_be_zero=cls.may_be_zero))


def init_params(config: ModelConfig[Any], key: jax.Array, dtype: Any = jnp.float32) -> Params:
    """Random parameters of a model as a nested dict."""
    return nnx.to_pure_dict(nnx.state(config.build(nnx.Rngs(params=key), dtype)))


@lru_cache(maxsize=16)
def _skeleton(config: ModelConfig[Any], dtype: Any) -> tuple[nnx.GraphDef[Any], nnx.State[Any, Any]]:
    return nnx.split(nnx.eval_shape(lambda: config.build(nnx.Rngs(params=jax.random.key(0)), dtype)))


def abstract_params(config: ModelConfig[Any], dtype: Any = jnp.float32) -> Params:
    """The nested dict of `jax.ShapeDtypeStruct` that `init_params` would return, without any memory."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), nnx.to_pure_dict(_skeleton(config, jnp.dtype(dtype))[1])
    )


def param_dimensions(config: ModelConfig[Any]) -> Params:
    """The nested dict of the names of each parameter's dimensions, as `parallel.rules` knows them."""
    flat = nnx.to_flat_state(_skeleton(config, jnp.dtype(jnp.float32))[1])
    return traverse_util.unflatten_dict({path: param.get_metadata("dimensions") for path, param in flat})


def bind(config: ModelConfig[Module], params: Params) -> Module:
    """The module around these parameters (arrays or tracers of any float dtype)."""
    graphdef, state = _skeleton(config, jnp.dtype(jnp.float32))
    state = jax.tree.map(lambda x: x, state)
    nnx.replace_by_pure_dict(state, params)
    return cast(Module, nnx.merge(graphdef, state))


def count_params(config: ModelConfig[Any]) -> int:
    """How many numbers the model holds (a tied head counts once)."""
    return sum(leaf.size for leaf in jax.tree.leaves(abstract_params(config)))


def split_params(params: Params, is_trained: Callable[[tuple[str, ...]], bool]) -> tuple[Params, Params]:
    """Divide parameters into those that are trained and those that stay frozen.

    Args:
        params: of a model, arrays or shapes.
        is_trained: says it of a parameter by its path, such as ("layers", "attention", "query").

    Returns:
        The trained and the frozen parameters, each a nested dict of the same paths, without empty parts.
    """
    flat = traverse_util.flatten_dict(params)
    trained = {path: leaf for path, leaf in flat.items() if is_trained(path)}
    frozen = {path: leaf for path, leaf in flat.items() if path not in trained}
    return traverse_util.unflatten_dict(trained), traverse_util.unflatten_dict(frozen)


def merge_params(trained: Params, frozen: Params) -> Params:
    """All parameters of a model again, from the two parts of `split_params`.

    Raises:
        ValueError: a parameter stands in both parts.
    """
    if not frozen:
        return trained
    first, second = traverse_util.flatten_dict(trained), traverse_util.flatten_dict(frozen)
    if both := sorted(first.keys() & second.keys()):
        raise ValueError(f"{'.'.join(both[0])} is trained and frozen at once")
    return traverse_util.unflatten_dict(first | second)


def values_of_fields(config: type[Any], values: Mapping[str, Any], may_be_zero: Collection[str] = ()) -> dict[str, Any]:
    """The values for the fields of a config class, each of the kind of its field; `model_type` is left out.

    Args:
        config: the class, a dataclass.
        values: as `to_json` gives them.
        may_be_zero: whole numbers that need not be positive.

    Raises:
        ValueError: names the key that is missing, unknown or wrong.
    """
    given = {name: value for name, value in values.items() if name != "model_type"}
    kinds: dict[str, Any] = {field.name: field.type for field in fields(config)}
    if wrong := sorted(given.keys() ^ kinds.keys()):
        what = "missing" if wrong[0] in kinds else f"no key of a {config.model_type} model"
        raise ValueError(f"{wrong[0]!r:.60} is {what}")
    for name, value in given.items():
        number = type(value) is int or (type(value) is float and math.isfinite(value))
        right = {
            int: type(value) is int and value >= (0 if name in may_be_zero else 1),
            float: number,
            bool: isinstance(value, bool),
        }.get(kinds[name], value is None or isinstance(value, dict | str))
        if not right:
            raise ValueError(f"{name} is {value!r:.60}")
    return given
