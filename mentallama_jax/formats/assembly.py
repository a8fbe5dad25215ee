"""Builds the stacked, sharded parameters from a file's tensors, one tensor at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import printable
from mentallama_jax.formats.architectures.known_architectures import architecture_of
from mentallama_jax.formats.architectures.parameter_names import Parameter, name_problems
from mentallama_jax.models.finite import unfit
from mentallama_jax.models.module import ModelConfig, Params
from mentallama_jax.models.registry import AnyModelConfig
from mentallama_jax.terminal import Console


class TensorFile(Protocol):
    """A checkpoint on disk: shapes are known at once, values are read one tensor at a time."""

    origin: str
    """Names the checkpoint in errors."""
    table: str
    """Which column of the name table it uses: "hf" or "gguf"."""
    shapes: dict[str, tuple[int, ...]]
    """Shapes by the names in the file."""
    unreadable: dict[str, str]
    """Name -> why `read` could not give it, as a message."""

    def read(self, name: str, parameter: Parameter) -> np.ndarray[Any, Any]:
        """The tensor `name`, which is (a layer of) `parameter`, in its stored float type, rotary pairs half-split."""


def assemble(
    file: TensorFile, config: ModelConfig[Any], dtype: Any, sharding: Sharding | dict[str, Any] | None = None
) -> Params:
    """Read a checkpoint into the nested dict of parameters.

    Each layer's tensor is placed into its stacked parameter on the devices before the next one is read, so the host
    holds its shards plus the tensor in hand, whatever the size of the model.

    Args:
        file: where the tensors come from.
        config: the model; every tensor is checked against it before any is read.
        dtype: of the parameters.
        sharding: one for all parameters, a nested dict of one for each, or None for the first device.

    Raises:
        UserError: a tensor is missing, unknown or misshapen, or it holds NaN, infinity or a number beyond `dtype`.
    """
    names = check_names(file, config)
    entries = list(architecture_of(config).names.entries(config))
    params: Params = {}
    with _progress(f"reading {file.origin}", total=sum(count for _, _, count in entries)) as advance:
        for parameter, shape, count in entries:
            place = params
            for key in parameter.path[:-1]:
                place = place.setdefault(key, {})
            target = _sharding_of(parameter, sharding)
            read = (
                parameter.to_ours(
                    _read(file, names[parameter.name(file.table, layer)], parameter, dtype, advance), shape
                )
                for layer in range(count)
            )
            if parameter.stacked:
                place[parameter.path[-1]] = _stack(read, shape, count, dtype, target)
            else:
                place[parameter.path[-1]] = _put(next(read), target, dtype)
    return params


def fitted(config: AnyModelConfig, file: TensorFile) -> AnyModelConfig:
    """The config with what only the weights tell, such as how many classes there are."""
    architecture = architecture_of(config)
    try:
        names = architecture.names.own_names(file.shapes)
    except ValueError:
        return config  # `check_names` says what is wrong
    found: AnyModelConfig = architecture.fit(config, {own: file.shapes[name] for own, name in names.items()})
    return found


def check_names(file: TensorFile, config: ModelConfig[Any]) -> dict[str, str]:
    """Refuse a checkpoint that is not exactly this model.

    Returns:
        Name as in the table of names -> name as in the file, of each tensor of the model.

    Raises:
        UserError: names up to three missing, unknown and misshapen tensors, with the nearest known name; one that is
            there under two names, or in a form that cannot be read; or tied tensors that differ.
    """
    table = architecture_of(config).names
    layers = max(count for _, _, count in table.entries(config))
    if layers > len(file.shapes):  # before a name is made for each of them
        raise UserError(f"{file.origin}: {layers} layers are asked for, but it holds {len(file.shapes)} tensors")
    try:
        names = table.own_names(file.shapes)
    except ValueError as error:
        raise UserError(f"{file.origin}: {error}; which one counts?") from None
    for name in names.values():
        if name in file.unreadable:
            raise UserError(file.unreadable[name])
    found = {own: file.shapes[name] for own, name in names.items()}
    for copy, original in table.ties(config):
        _check_tie(file, names, found, copy, original)
    problems = name_problems(found, table.foreign_shapes(config, file.table))
    if problems:
        raise UserError(f"{file.origin}: " + "; ".join(problems))
    return names


def _check_tie(
    file: TensorFile,
    names: dict[str, str],
    found: dict[str, tuple[int, ...]],
    copy: Parameter,
    original: Parameter,
) -> None:
    """Take a tied tensor that the file holds all the same out of `found`; refuse one that differs from its original."""
    one, other = copy.name(file.table, 0), original.name(file.table, 0)
    if one not in found or found[one] != found.get(other):
        return
    if not np.array_equal(file.read(names[one], copy), file.read(names[other], original)):
        raise UserError(
            f"{file.origin}: {one} differs from {other} though tie_word_embeddings is true; "
            "set it to false in config.json to use both"
        )
    del found[one]


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr, silent where that is no terminal, by the first process; the value is called once a tensor."""
    console = Console(stderr=True, quiet=jax.process_index() != 0)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(printable(title), total=total)
        yield lambda: progress.advance(task)


def _read(
    file: TensorFile, name: str, parameter: Parameter, dtype: Any, advance: Callable[[], None]
) -> np.ndarray[Any, Any]:
    tensor = file.read(name, parameter)
    if problem := unfit(tensor, dtype):
        cure = "take another dtype" if "cannot hold" in problem else "the weights are damaged; take another copy"
        raise UserError(f"{file.origin}: {name} {problem}; {cure}")
    advance()
    return tensor


def _sharding_of(parameter: Parameter, sharding: Sharding | dict[str, Any] | None) -> Sharding:
    if sharding is None:
        return SingleDeviceSharding(jax.local_devices()[0])
    place: Any = sharding
    for key in parameter.path:
        if isinstance(place, Sharding):
            break
        place = place[key]
    return place


def _put(tensor: np.ndarray[Any, Any], sharding: Sharding, dtype: Any = None) -> jax.Array:
    """Place a tensor, by default in its own type; each process copies out the parts of its own devices only."""

    def part(index: tuple[slice, ...] | None) -> np.ndarray[Any, Any]:
        return np.ascontiguousarray(tensor[index], dtype)

    return jax.make_array_from_callback(tensor.shape, sharding, part)


def _stack(
    layers: Iterator[np.ndarray[Any, Any]], shape: tuple[int, ...], count: int, dtype: Any, sharding: Sharding
) -> jax.Array:
    layer_sharding = sharding
    if isinstance(sharding, NamedSharding):
        layer_sharding = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[1:]))
    stack = jnp.zeros((count, *shape), dtype, device=sharding)
    place = jax.jit(_place_layer, donate_argnums=0, out_shardings=sharding)
    for index in range(count):
        # Nothing names the layer, and the wait lets go of it, before the next one is read.
        stack = jax.block_until_ready(place(stack, _put(next(layers), layer_sharding), index))
    return stack


def _place_layer(stack: jax.Array, layer: jax.Array, index: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_index_in_dim(stack, layer.astype(stack.dtype), index, 0)
