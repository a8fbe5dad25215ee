"""Models with small trained matrices beside frozen weights: what is adapted, first values, and merging.

An adapted model is a config like that of its base, with an `Adapter` more; `module` serves both. Its parameters are
those of the base, and beside a projection such as `layers.attention.query` the dict `layers.attention.query_adapter`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx, traverse_util

from mentallama_jax.config import AdapterSection
from mentallama_jax.errors import UserError
from mentallama_jax.models.bart import Bart, BartConfig
from mentallama_jax.models.bert import Bert, BertConfig, RobertaConfig
from mentallama_jax.models.llama import Llama, LlamaConfig
from mentallama_jax.models.low_rank import ADAPTER, SCALE, LowRank, column_lengths
from mentallama_jax.models.module import Params, init_params
from mentallama_jax.models.projections import Path, projections_of
from mentallama_jax.models.quantised import dense, in_groups, quantise, quantise_in_groups
from mentallama_jax.models.registry import SequenceConfig, TrainedConfig
from mentallama_jax.models.t5 import T5, T5Config

ALL_LINEAR = "all-linear"
_QUANTISED: Mapping[str, Callable[[jax.Array, int], tuple[jax.Array, jax.Array]]] = {
    "int8": quantise,
    "int4": quantise_in_groups,
}
_HEADS = ("pooler", "pooler_bias", "classifier", "classifier_bias")
"""What an adapted classifier trains whole: its classes are new."""


@dataclass(frozen=True, slots=True)
class AdaptedProjection:
    """One projection of all layers, with the rank of its matrices and what their product is multiplied by."""

    path: Path
    inputs: int
    rank: int
    scale: float


@dataclass(frozen=True, slots=True)
class Adapter:
    """What is added to a model.

    Attributes:
        projections: that are adapted.
        dropout: of their inputs, in training.
        rslora: whether the scale is alpha over the root of the rank.
        dora: whether the lengths of columns are learnt apart.
        base_dtype: of the frozen weights.
        quantised: the projections whose frozen weights are in int8 or int4, with how many axes each contracts.
    """

    projections: tuple[AdaptedProjection, ...]
    dropout: float
    rslora: bool
    dora: bool
    base_dtype: str
    quantised: tuple[tuple[Path, int], ...] = ()


class AdaptedConfig:
    """What the configs of adapted models share."""

    __slots__ = ()
    adapter: Adapter

    @property
    def base(self) -> TrainedConfig:
        """The config of the same model without its adapter."""
        for kind, adapted_kind in _ADAPTED.items():
            if type(self) is adapted_kind:
                return kind(**{field.name: getattr(self, field.name) for field in fields(kind)})
        raise TypeError(type(self).__name__)


@dataclass(frozen=True, slots=True)
class AdaptedLlama(AdaptedConfig, LlamaConfig):
    """A LLaMA with an adapter."""

    adapter: Adapter

    def build(self, rngs: nnx.Rngs, dtype: Any) -> Llama:
        """Make the module with random parameters."""
        return _attached(LlamaConfig.build(self, rngs, dtype), self.adapter, rngs, dtype)


@dataclass(frozen=True, slots=True)
class AdaptedBert(AdaptedConfig, BertConfig):
    """BERT with an adapter."""

    adapter: Adapter

    def build(self, rngs: nnx.Rngs, dtype: Any) -> Bert:
        """Make the module with random parameters."""
        return _attached(BertConfig.build(self, rngs, dtype), self.adapter, rngs, dtype)


@dataclass(frozen=True, slots=True)
class AdaptedRoberta(AdaptedConfig, RobertaConfig):
    """RoBERTa with an adapter."""

    adapter: Adapter

    def build(self, rngs: nnx.Rngs, dtype: Any) -> Bert:
        """Make the module with random parameters."""
        return _attached(RobertaConfig.build(self, rngs, dtype), self.adapter, rngs, dtype)


@dataclass(frozen=True, slots=True)
class AdaptedBart(AdaptedConfig, BartConfig):
    """A BART with an adapter."""

    adapter: Adapter

    def build(self, rngs: nnx.Rngs, dtype: Any) -> Bart:
        """Make the module with random parameters."""
        return _attached(BartConfig.build(self, rngs, dtype), self.adapter, rngs, dtype)


@dataclass(frozen=True, slots=True)
class AdaptedT5(AdaptedConfig, T5Config):
    """A T5 with an adapter."""

    adapter: Adapter

    def build(self, rngs: nnx.Rngs, dtype: Any) -> T5:
        """Make the module with random parameters."""
        return _attached(T5Config.build(self, rngs, dtype), self.adapter, rngs, dtype)


_ADAPTED: Mapping[type[Any], Callable[..., Any]] = {
    LlamaConfig: AdaptedLlama,
    BertConfig: AdaptedBert,
    RobertaConfig: AdaptedRoberta,
    BartConfig: AdaptedBart,
    T5Config: AdaptedT5,
}
Adaptable = TypeVar("Adaptable", bound=LlamaConfig | BertConfig | SequenceConfig)
_Module = TypeVar("_Module", bound=nnx.Module)


def adapted_config(model: Adaptable, section: AdapterSection | None) -> Adaptable:
    """The config of a model with the adapter that a config section asks for; the same one where there is none.

    Raises:
        UserError: a target or a pattern that matches nothing, or layers that would have different ranks.
    """
    if section is None:
        return model
    made: Adaptable = _ADAPTED[type(model)](
        **{field.name: getattr(model, field.name) for field in fields(model)}, adapter=adapter_of(model, section)
    )
    return made


def adapter_of(model: TrainedConfig, section: AdapterSection) -> Adapter:
    """The adapter that a config section asks for, its targets found in the model.

    Raises:
        UserError: as `adapted_config`.
    """
    known = projections_of(model)
    chosen = {path: one for path, one in known.items() if _is_target(one.name, section.targets)}
    for target in section.targets:
        if target != ALL_LINEAR and not any(_is_target(one.name, (target,)) for one in known.values()):
            raise UserError(
                f"adapter.targets: {target!r:.60} is no projection that can be adapted; there are: "
                f"{', '.join(dict.fromkeys(one.name.rpartition('.')[2] for one in known.values()))}, and {ALL_LINEAR}"
            )
    for key, patterns in (("rank_pattern", section.rank_pattern), ("alpha_pattern", section.alpha_pattern)):
        for pattern in patterns:
            if not any(_is_target(one.name, (pattern,)) for one in chosen.values()):
                raise UserError(f"adapter.{key}: {pattern!r:.60} is none of the adapted projections; name one of these")
    projections = []
    for path, one in chosen.items():
        rank = _by_pattern(one.name, section.rank_pattern, section.rank)
        alpha = _by_pattern(one.name, section.alpha_pattern, section.alpha)
        projections.append(AdaptedProjection(path, one.inputs, rank, scale_of(alpha, rank, section.rslora)))
    quantised = tuple((path, one.inputs) for path, one in known.items()) if section.base_dtype in _QUANTISED else ()
    return Adapter(tuple(projections), section.dropout, section.rslora, section.dora, section.base_dtype, quantised)


def scale_of(alpha: float, rank: int, rslora: bool) -> float:
    """What the product of two small matrices is multiplied by."""
    return alpha / rank**0.5 if rslora else alpha / rank


def _is_target(name: str, targets: tuple[str, ...]) -> bool:
    return any(target == ALL_LINEAR or name == target or name.endswith(f".{target}") for target in targets)


def _by_pattern(name: str, patterns: Mapping[str, Any], default: Any) -> Any:
    return next((value for pattern, value in patterns.items() if _is_target(name, (pattern,))), default)


def frozen_dtype(section: AdapterSection | None, parameter_dtype: str) -> Any:
    """The dtype that the weights of a base are read in: of int8 and int4 ones, that which they are made from."""
    return jnp.dtype(parameter_dtype if section is None else _float_dtype(section.base_dtype))


def _float_dtype(base_dtype: str) -> str:
    """The dtype of what is frozen and not quantised."""
    return "bfloat16" if base_dtype in _QUANTISED else base_dtype


def is_adapter(path: Path) -> bool:
    """Whether a parameter of an adapted model is trained: it is the adapter's, or a classifier's."""
    return any(part.endswith(ADAPTER) for part in path) or path[0] in _HEADS


def adapted_params(model: Any, base: Params | None, key: jax.Array, dtype: Any) -> Params:
    """The first parameters of an adapted model.

    Args:
        model: an adapted config.
        base: parameters of its base, in any dtype; None makes random ones.
        key: of random numbers, those of the adapter too: the same key gives the same numbers.
        dtype: of what is trained; the other parameters get the dtype that the adapter asks for.

    Returns:
        All parameters. The adapter adds nothing yet: its second matrices are zero, and DoRA's lengths as they are.
    """
    adapter: Adapter = model.adapter
    if base is None:
        base = init_params(model.base, key, jnp.dtype(dtype))
    frozen_dtype = jnp.dtype(_float_dtype(adapter.base_dtype))
    flat = {
        path: jnp.asarray(value, dtype if is_adapter(path) else frozen_dtype)
        for path, value in traverse_util.flatten_dict(base).items()
    }
    for path, inputs in adapter.quantised:
        whole, scales = _QUANTISED[adapter.base_dtype](flat[path], inputs)
        flat[path], flat[_beside(path, SCALE)] = whole, scales
    for number, one in enumerate(adapter.projections):
        weight = flat[one.path]
        layers, *shape = weight.shape
        fan_in = 1
        for length in shape[: one.inputs]:
            fan_in *= length
        own = jax.random.fold_in(jax.random.fold_in(key, 1), number)
        bound = fan_in**-0.5  # that of torch's kaiming_uniform with a = sqrt 5, as PEFT begins
        a = jax.random.uniform(own, (layers, *shape[: one.inputs], one.rank), jnp.float32, -bound, bound).astype(dtype)
        b = jnp.zeros((layers, one.rank, *shape[one.inputs :]), dtype)
        flat[(*_beside(one.path, ADAPTER), "a")], flat[(*_beside(one.path, ADAPTER), "b")] = a, b
        if adapter.dora:
            lengths = partial(column_lengths, scale=one.scale, inputs=one.inputs)
            flat[(*_beside(one.path, ADAPTER), "magnitude")] = jax.vmap(lengths)(_dense(flat, one.path), a, b).astype(
                dtype
            )
    return traverse_util.unflatten_dict(flat)


def merged_params(model: Any, params: Params) -> Params:
    """The parameters of the base model with the adapter merged into them, computed in fp32; `params` without one.

    Args:
        model: a config, adapted or not.
        params: all its parameters.

    Returns:
        Those of `model.base`, in the dtype of the frozen ones (bfloat16 where they are in int8 or int4).
    """
    if not isinstance(model, AdaptedConfig):
        return params
    flat = traverse_util.flatten_dict(params)
    plain = {
        path: value
        for path, value in flat.items()
        if not any(part.endswith(ADAPTER) for part in path) and not _is_scale(model.adapter, path)
    }
    plain |= {path: _dense(flat, path) for path, _ in model.adapter.quantised}
    for one in model.adapter.projections:
        own = [flat.get((*_beside(one.path, ADAPTER), name)) for name in ("a", "b", "magnitude")]
        merge = partial(merged_weight, scale=one.scale, inputs=one.inputs)
        plain[one.path] = jax.vmap(merge)(plain[one.path], *(value for value in own if value is not None))
    return traverse_util.unflatten_dict(plain)


def merged_weight(
    weight: jax.Array,
    a: jax.Array,
    b: jax.Array,
    magnitude: jax.Array | None = None,
    *,
    scale: float,
    inputs: int,
) -> jax.Array:
    """The projection of one layer with its adapter merged into it, computed in fp32, in the dtype of `weight`."""
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    whole = weight.astype(jnp.float32) + scale * jnp.tensordot(a, b, 1, precision="highest")
    if magnitude is not None:
        whole *= magnitude.astype(jnp.float32) / column_lengths(weight, a, b, scale, inputs)
    return whole.astype(weight.dtype)


def _dense(flat: Mapping[Path, jax.Array], path: Path) -> jax.Array:
    """The stacked weights of a projection as floats."""
    weight, scales = flat[path], flat.get(_beside(path, SCALE))
    if scales is None:
        return weight
    if in_groups(weight, scales):
        return dense(weight, scales)
    inputs = weight.ndim - scales.ndim
    return weight.astype(scales.dtype) * jnp.expand_dims(scales, tuple(range(1, 1 + inputs)))


def _beside(path: Path, ending: str) -> Path:
    return (*path[:-1], path[-1] + ending)


def _is_scale(adapter: Adapter, path: Path) -> bool:
    return any(path == _beside(quantised, SCALE) for quantised, _ in adapter.quantised)


def _attached(module: _Module, adapter: Adapter, rngs: nnx.Rngs, dtype: Any) -> _Module:
    """The module, with the parts of an adapter as further attributes of its own modules."""
    for path, inputs in adapter.quantised:
        owner, weight = _owner(module, path)
        names = weight.get_metadata("dimensions")
        own = _QUANTISED[adapter.base_dtype]
        shape = jax.eval_shape(lambda weight, own=own, inputs=inputs: own(weight, inputs), weight[...])[1].shape
        if len(shape) == weight.ndim:  # the groups are not cut: there need not be as many as devices
            kept = tuple(None if axis == inputs else name for axis, name in enumerate(names))
        else:
            kept = (names[0], *(None if name == "width" else name for name in names[1 + inputs :]))
        setattr(owner, path[-1] + SCALE, nnx.Param(jnp.ones(shape, dtype), dimensions=kept))
    for one in adapter.projections:
        owner, weight = _owner(module, one.path)
        matrices = LowRank(
            weight,
            inputs=one.inputs,
            rank=one.rank,
            scale=one.scale,
            dropout=adapter.dropout,
            dora=adapter.dora,
            rngs=rngs,
            dtype=dtype,
        )
        setattr(owner, one.path[-1] + ADAPTER, matrices)
    return module


def _owner(module: Any, path: Path) -> tuple[Any, nnx.Param[jax.Array]]:
    for part in path[:-1]:
        module = getattr(module, part)
    return module, getattr(module, path[-1])
