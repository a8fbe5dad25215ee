"""Before the first step: will the checkpoints fit on the disk, and the run into the memory?

The memory figures are estimates, made from shapes alone before anything is loaded or compiled. State and
gradients are counted exactly, so what exceeds the memory by those alone is an error; the activations are good to
a factor of about 1.7, so what exceeds it only with them is a warning.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from mentallama_jax.config import GrpoSection, RunConfig, SavedTensor
from mentallama_jax.errors import UserError
from mentallama_jax.host_memory import available_memory
from mentallama_jax.imhi.prompts import PromptTokenizer, encode_prompt
from mentallama_jax.imhi.records import Record
from mentallama_jax.models.bert import BertConfig
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.quantised import stored_bits
from mentallama_jax.models.registry import SequenceConfig, TrainedConfig
from mentallama_jax.models.remat import saved_tensors
from mentallama_jax.parallel.mesh import AXES
from mentallama_jax.storage import AnyPath, RemotePath
from mentallama_jax.training.data.tokens import TokenStore
from mentallama_jax.training.loss import CHUNK_TOKENS
from mentallama_jax.training.sequence_memory import sequence_activations

ANSWERS_AT_ONCE = 16
"""Rows that an evaluation of label F1 decodes together."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes of a training step and of an evaluation on one device, and of a checkpoint of all devices.

    Attributes:
        params: trained and frozen.
        moments: of the optimizer.
        gradients: of what is trained.
        activations: about.
        checkpoint: of all devices together.
        answers: weights in the dtype of the computation and cache, while answers are generated; 0 where none are.
    """

    params: int
    moments: int
    gradients: int
    activations: int
    checkpoint: int
    answers: int = 0

    @property
    def certain(self) -> int:
        """What is held whatever the rows: parameters, moments, and gradients or, at another time, answers."""
        return self.params + self.moments + max(self.gradients, self.answers)

    @property
    def total(self) -> int:
        """All that is held at one time."""
        return self.params + self.moments + max(self.gradients + self.activations, self.answers)


def estimate_memory(
    model: TrainedConfig, config: RunConfig, rows: int, row_length: int, abstract_state: Any
) -> MemoryEstimate:
    """Estimate what a training step holds on each device.

    Args:
        model: shape of the model.
        config: the run.
        rows: of an update; more than one micro-batch means that gradients are accumulated in a second copy.
        row_length: tokens of the longest row.
        abstract_state: the train state as `jax.ShapeDtypeStruct`, with the shardings of a mesh or without any.
    """
    trained, frozen = abstract_state["params"], abstract_state["frozen"]
    whole = tree_bytes(trained) + tree_bytes(abstract_state["opt_state"])
    params = _device_bytes(trained) + _device_bytes(frozen)
    if isinstance(config.objective, GrpoSection) and config.objective.beta and config.adapter is None:
        params *= 2  # the weights that the run starts from are held too
    moments = _device_bytes(abstract_state["opt_state"])
    count = _device_numbers(trained)
    weights = count + _device_numbers(frozen)
    place = jax.tree.leaves(trained)[0].sharding
    devices = place.mesh.shape if isinstance(place, NamedSharding) else dict.fromkeys(AXES, 1)
    micro_rows = config.training.micro_batch_rows
    width = jnp.dtype(config.model.compute_dtype).itemsize
    parts = devices["data"] * devices["fsdp"] * devices["sequence"]
    tokens = -(-micro_rows * row_length // parts)
    compute = jnp.dtype(config.model.compute_dtype)
    casts = width * sum(_device_numbers(part) for part in _cast_parts(abstract_state, compute))
    gradients = 4 * count * (2 if rows > micro_rows else 1)
    if isinstance(model, SequenceConfig):
        kept = sequence_activations(model, config, micro_rows / parts, row_length, devices["tensor"])
        held = weights * width if config.evaluation.generate_rows else 0
        return MemoryEstimate(params, moments, gradients, kept + casts, whole, held)
    heads = (model.num_heads + 2 * model.num_kv_heads) * model.head_dim
    scores = 2 * 4 * tokens * row_length * model.num_heads // devices["tensor"]
    split = (2 * heads + 3 * model.intermediate_size) // devices["tensor"]
    layer = tokens * (4 * model.hidden_size + split) * width + scores
    saved = saved_tensors(config.model.remat)
    if saved is None:
        kept = model.num_layers * layer
    else:
        on_device = 0 if config.model.offload else saved_width(model, saved, devices["tensor"])
        kept = 2 * layer + model.num_layers * tokens * (model.hidden_size + on_device) * width
    if isinstance(model, BertConfig):
        logits = tokens * (3 * 4 * model.num_labels + 2 * model.hidden_size * width)  # and the pooler's
    else:
        logits = 3 * 4 * min(tokens, CHUNK_TOKENS) * model.vocab_size // devices["tensor"]
    answers = 0
    if config.evaluation.generate_rows or isinstance(config.objective, GrpoSection):
        rows_held = -(-ANSWERS_AT_ONCE // (devices["data"] * devices["fsdp"]))
        groups = model.num_kv_heads * model.head_dim // devices["tensor"]
        cache = 2 * model.num_layers * rows_held * config.data.max_length * groups
        answers = _engine_bytes(trained, frozen, width) + cache * width
    return MemoryEstimate(params, moments, gradients, kept + logits + casts, whole, answers)


def saved_width(model: LlamaConfig | BertConfig, saved: Sequence[SavedTensor], tensor: int) -> int:
    """Numbers that the saved tensors of a layer hold for a token, where `tensor` devices share them."""
    heads, groups = model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    shared = {
        "attention": heads,
        "query": heads,
        "key": groups,
        "value": groups,
        "gate": model.intermediate_size,
        "up": model.intermediate_size,
    }
    whole = {"middle": model.hidden_size}
    return sum(shared[name] // tensor if name in shared else whole[name] for name in saved)


def check_memory(need: MemoryEstimate, config: RunConfig, say: Callable[[str], None]) -> None:
    """Compare the estimate with the memory of the device that trains, and a checkpoint with that of the host.

    Raises:
        UserError: parameters, moments and gradients alone do not fit.
    """
    device = jax.local_devices()[0]  # of another process's devices nothing is known
    limit = (device.memory_stats() or {}).get("bytes_limit", 0)
    host = available_memory()
    if not limit:  # the CPU is the host, which also holds the copy that a checkpoint is written from
        sharing = jax.local_device_count()
        where = "the host" if sharing == 1 else f"each of {sharing} devices on the host"
        _check(need, need.checkpoint // jax.device_count(), host // sharing, where, config, say)
        return
    _check(need, 0, limit, device.device_kind, config, say)
    share = need.checkpoint // jax.process_count()
    if share > host:
        say(
            f"warning: a checkpoint passes through host memory as a copy of {size(share)}, and {size(host)} "
            "are free; run on a machine with more memory"
        )


def check_disk(run_dir: AnyPath, checkpoint_bytes: int, existing: int, config: RunConfig) -> None:
    """Make sure that the disk holds the checkpoints that will exist at one time: the last ones, the best, a new one.

    Args:
        run_dir: where they go; on a bucket there is always room.
        checkpoint_bytes: of one.
        existing: how many are there already.
        config: says how many are kept.

    Raises:
        UserError: it does not.
    """
    if isinstance(run_dir, RemotePath):
        return
    last = config.checkpoint.keep_last
    copies = last + 2
    need = checkpoint_bytes * max(copies - existing, 1)
    free = shutil.disk_usage(run_dir).free
    if need > free:
        raise UserError(
            f"{run_dir}: {copies} checkpoints of {size(checkpoint_bytes)} (last {last}, best "
            f"and the one being written) need {size(need)} more and {size(free)} are free; make room, or name "
            f"a training.run_dir on a larger disk{', or lower checkpoint.keep_last' if last > 1 else ''}"
        )


def check_answers_fit(config: RunConfig, records: Sequence[Record], tokenizer: PromptTokenizer) -> None:
    """Make sure that the prompts of the records to answer and the answers fit into a row, a post being cut if need be.

    Args:
        config: the run.
        records: what the model answers while it is trained; none where it answers nothing.
        tokenizer: the one that they will be answered with.

    Raises:
        UserError: `evaluation.max_new_tokens` leaves no room for a prompt.
    """
    room = config.data.max_length - config.evaluation.max_new_tokens
    # A post can be cut to nothing, so one record of each question is enough.
    for record in {(record.dataset, record.aspect): replace(record, post="") for record in records}.values():
        try:
            if room < 1:
                raise UserError("no room is left for a prompt")
            encode_prompt(record, config.data.style, tokenizer, room)
        except UserError as error:
            otherwise = "" if isinstance(config.objective, GrpoSection) else ", or set evaluation.generate_rows=0"
            raise UserError(
                f"evaluation.max_new_tokens {config.evaluation.max_new_tokens} of data.max_length "
                f"{config.data.max_length} tokens leave {max(room, 0)} for the prompt of {record.id}: {error}; lower "
                f"evaluation.max_new_tokens or raise data.max_length{otherwise}"
            ) from None


def warn_of_cut_prompts(config: RunConfig, store: TokenStore, say: Callable[[str], None]) -> None:
    """Say how many posts lose their end so that an answer of the model fits behind them, however short the gold one."""
    room = config.data.max_length - config.evaluation.max_new_tokens
    cut = int(np.count_nonzero(store.lengths - store.target_counts + store.truncated > room))
    if cut:
        say(
            f"training: {cut} of {len(store)} posts lose their end where the model answers: "
            f"evaluation.max_new_tokens {config.evaluation.max_new_tokens} leave {room} tokens of data.max_length "
            f"{config.data.max_length} for a prompt"
        )


def tree_bytes(tree: Any) -> int:
    """Bytes of all arrays of a tree, abstract or not."""
    return sum(leaf.size * stored_bits(leaf.dtype) // 8 for leaf in jax.tree.leaves(tree))


def _cast_parts(state: Any, dtype: Any) -> list[Any]:
    """The parameters that a step casts to the dtype of the computation: those of floats in another one."""
    leaves = jax.tree.leaves((state["params"], state["frozen"]))
    return [leaf for leaf in leaves if leaf.dtype != dtype and jnp.issubdtype(leaf.dtype, jnp.floating)]


def tree_numbers(tree: Any) -> int:
    """Numbers of all arrays of a tree, abstract or not."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _device_bytes(tree: Any) -> int:
    """Bytes of a tree on one device."""
    return sum(math.prod(_device_shape(leaf)) * stored_bits(leaf.dtype) // 8 for leaf in jax.tree.leaves(tree))


def _engine_bytes(trained: Any, frozen: Any, width: int) -> int:
    """Bytes of the copy of the weights that answers, on one device: floats have `width` bytes, whole numbers stay."""
    leaves = jax.tree.leaves((trained, frozen))
    bits = [8 * width if jnp.issubdtype(leaf.dtype, jnp.floating) else stored_bits(leaf.dtype) for leaf in leaves]
    return sum(_device_numbers(leaf) * each // 8 for leaf, each in zip(leaves, bits, strict=True))


def _device_numbers(tree: Any) -> int:
    """Numbers of a tree on one device."""
    return sum(math.prod(_device_shape(leaf)) for leaf in jax.tree.leaves(tree))


def _device_shape(leaf: Any) -> tuple[int, ...]:
    return leaf.shape if leaf.sharding is None else leaf.sharding.shard_shape(leaf.shape)


def size(count: float) -> str:
    """Such as `27.0 GB` or `1.2 MB` (powers of 1000)."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _check(
    need: MemoryEstimate, extra: int, limit: int, where: str, config: RunConfig, say: Callable[[str], None]
) -> None:
    parts = (
        f"parameters {size(need.params)}, moments {size(need.moments)}, gradients {size(need.gradients)}, "
        f"activations about {size(need.activations)}"
        + (f"; while answers are generated {size(need.answers)} beside the first two" if need.answers else "")
        + (f"; a checkpoint's copy {size(extra)}" if extra else "")
    )
    if need.certain > limit:
        raise UserError(
            f"{where} has {size(limit)} of memory free and training needs {size(need.total + extra)} ({parts}); "
            "use a larger device, a smaller model.source, or optimizer.first_moment_dtype=bfloat16"
        )
    if need.total + extra > limit:
        changes = [f"training.micro_batch_rows below {config.training.micro_batch_rows}"] * (
            config.training.micro_batch_rows > 1
        )
        changes += ["model.remat=full"] * (config.model.remat != "full")
        changes += [f"data.max_length below {config.data.max_length}"]
        say(
            f"warning: {where} has {size(limit)} of memory free and training may need {size(need.total + extra)} "
            f"({parts}); if it runs out: {', or '.join(changes)}"
        )
