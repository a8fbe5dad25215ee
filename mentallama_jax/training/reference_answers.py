"""What the weights that a run starts from say of pairs: computed once, kept on disk by content."""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mentallama_jax.config import RunConfig
from mentallama_jax.errors import UserError
from mentallama_jax.files import write_json
from mentallama_jax.models.module import Params
from mentallama_jax.parallel.processes import any_says, writes_files
from mentallama_jax.terminal import Console
from mentallama_jax.training.data.batch_spec import MICRO_BATCHES
from mentallama_jax.training.data.batches import evaluation_batches
from mentallama_jax.training.data.packing import pack_rows
from mentallama_jax.training.data.tokens import TokenStore
from mentallama_jax.training.mesh_placement import held_rows, place_batch
from mentallama_jax.training.objectives.preference import Preference

_BLOCK = 256
"""Pairs that are kept together: what is lost at most where it is stopped."""


def with_reference(
    stores: Sequence[TokenStore],
    objective: Preference,
    model_name: str,
    load: Callable[[], Params],
    mesh: Mesh,
) -> list[TokenStore]:
    """Give each store the log-probabilities of its answers under the weights that the run starts from.

    They are kept in `data.cache_dir`, a file for some hundred pairs, under a name that tokens, weights and dtypes
    decide; so what was computed before a stop is not computed again, nor in another run over the same pairs.

    Args:
        stores: of pairs.
        objective: computes them.
        model_name: tells the weights from all others.
        load: reads the weights; called only where some log-probabilities are not known.
        mesh: of all devices.

    Raises:
        UserError: they are not finite, or the cache cannot be written.
    """
    folder = Path(objective.config.data.cache_dir).expanduser()
    blocks = [
        (number, slice(start, min(start + _BLOCK, len(store))))
        for number, store in enumerate(stores)
        for start in range(0, len(store), _BLOCK)
    ]
    paths = [
        folder / f"{_key(stores[number], part, objective.config, model_name)}.reference.json" for number, part in blocks
    ]
    found = [_read(path, part.stop - part.start) for path, (_, part) in zip(paths, blocks, strict=True)]
    missing = [place for place, values in enumerate(found) if any_says(int(values is None))]
    if missing:
        params = load()
        compute = _Computing(objective, mesh)
        console = Console(stderr=True, quiet=not writes_files())
        columns = (TextColumn("Reference"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
            for place in progress.track(missing):
                number, part = blocks[place]
                values = compute(params, _part(stores[number], part))
                _write(paths[place], values)
                found[place] = values
    filled = []
    for number, store in enumerate(stores):
        parts = [values for values, (owner, _) in zip(found, blocks, strict=True) if owner == number]
        filled.append(replace(store, reference=np.concatenate([part for part in parts if part is not None])))
    return filled


class _Computing:
    """Computes the log-probabilities of both answers of pairs."""

    def __init__(self, objective: Preference, mesh: Mesh) -> None:
        self._mesh, self._spec = mesh, objective.batch_spec
        self._rows = objective.config.training.micro_batch_rows
        self._length = objective.config.data.max_length

        def sums(params: Params, batch: dict[str, jax.Array]) -> jax.Array:
            return objective.answer_sums(params, batch)[0]

        self._sums = jax.jit(sums, out_shardings=NamedSharding(mesh, PartitionSpec()))

    def __call__(self, params: Params, store: TokenStore) -> NDArray[np.float32]:
        """Float32 [pairs, 2], nats."""
        packed = pack_rows(store.lengths, self._length)
        batches = evaluation_batches(store, self._rows, self._length, held=held_rows(self._mesh, self._rows))
        found = np.empty((len(store), 2), np.float32)
        for number, batch in enumerate(batches):
            placed = place_batch(batch.arrays, self._rows, self._mesh, self._spec)
            arrays = {name: value[0] for name, value in placed.items() if name != MICRO_BATCHES}
            sums_BP2 = np.asarray(self._sums(params, arrays))
            for row, examples in enumerate(packed[number * self._rows : (number + 1) * self._rows]):
                found[examples] = sums_BP2[row, : len(examples)]
        if not np.isfinite(found).all():
            raise UserError("the weights that the run starts from are bad: their log-probabilities are not finite")
        return found


def _part(store: TokenStore, part: slice) -> TokenStore:
    offsets = store.offsets[part.start : part.stop + 1]
    whole = slice(int(offsets[0]), int(offsets[-1]))
    assert store.middles is not None
    return TokenStore(
        store.key,
        store.ids[part],
        store.tokens[whole],
        offsets - offsets[0],
        store.targets[whole],
        store.truncated[part],
        middles=store.middles[part],
    )


def _key(store: TokenStore, part: slice, config: RunConfig, model_name: str) -> str:
    own = _part(store, part)
    weights = config.model.parameter_dtype if config.adapter is None else f"frozen {config.adapter.base_dtype}"
    digest = hashlib.sha256(json.dumps([model_name, config.model.compute_dtype, weights]).encode())
    assert own.middles is not None
    for values in (own.tokens, own.offsets, own.targets, own.middles):
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _read(path: Path, count: int) -> NDArray[np.float32] | None:
    """What is kept there; None where it is absent or damaged."""
    try:
        kept: Any = json.loads(path.read_bytes())
        values = np.array(kept["log_probabilities"], np.float32)
        whole = kept["sum"] == math.fsum(values.ravel().tolist())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return values if whole and values.shape == (count, 2) and np.isfinite(values).all() else None


def _write(path: Path, values: NDArray[np.float32]) -> None:
    if not writes_files():
        return
    try:
        write_json(path, {"log_probabilities": values.tolist(), "sum": math.fsum(values.ravel().tolist())})
    except OSError as error:
        raise UserError(
            f"{path.parent}: log-probabilities cannot be kept ({error.strerror or error}); name another folder with "
            "data.cache_dir"
        ) from None
