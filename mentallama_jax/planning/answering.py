"""What answering the benchmark needs on chips that are not here: the program of `generate`, compiled, timed, priced."""

import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh

from mentallama_jax.config import MeshSection, RunConfig
from mentallama_jax.errors import UserError
from mentallama_jax.generation.cache_moves import STEPS, places_for
from mentallama_jax.generation.lowering import pack_width
from mentallama_jax.generation.placement import abstract_model, axes_of_hosts
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.quantised import SCALE_DTYPE
from mentallama_jax.parallel.mesh import mesh_sizes
from mentallama_jax.planning.compilation import Answers, Compiled, Job, compile_job
from mentallama_jax.planning.cost import (
    KERNEL_EFFICIENCY,
    StepTime,
    decode_flops_per_token,
    generation_time,
    prefill_flops_per_token,
)
from mentallama_jax.planning.hlo import Collective, Program
from mentallama_jax.planning.plan import with_overrides
from mentallama_jax.planning.prices import Price, Rent
from mentallama_jax.planning.topologies import Topology
from mentallama_jax.training.preflight import tree_bytes

TEST_POSTS = 19353
"""Posts of the benchmark's whole test split."""


@dataclass(frozen=True, slots=True)
class Bytes:
    """Bytes of the weights and the cache on one device.

    Attributes:
        weights: held.
        cache: of the tokens of full prompts and answers; what is held has a few places more.
        read: from memory for each step of the loop: all weights that its products use, gathered along `fsdp`, and the
            cache of those tokens.
    """

    weights: int
    cache: int
    read: int


@dataclass(frozen=True, slots=True)
class AnswerPlan:
    """Everything that a report says of answering; times as (lower, upper)."""

    model: LlamaConfig
    config: RunConfig
    topology: Topology
    mesh: dict[str, int]
    answers: Answers
    posts: int
    bytes: Bytes
    compiled: Compiled
    prefill: StepTime | None
    token: StepTime | None
    price: Price

    @property
    def fits(self) -> bool:
        """Whether it fits into the memory of each device."""
        return self.compiled.fits and self.token is not None

    @property
    def pack(self) -> int:
        """Tokens of a pack of prompts, all rows of it together."""
        return self.mesh["data"] * self.mesh["fsdp"] * pack_width(self.answers.prompt)

    @property
    def prefill_flops(self) -> float:
        """Operations that the model itself needs for the prompts of a pack, on one device."""
        return self.pack / self.topology.devices * prefill_flops_per_token(self.model, self.answers.prompt)

    @property
    def token_flops(self) -> float:
        """Operations that the model itself needs for one token of each row, on one device, on average."""
        answers = self.answers
        each = decode_flops_per_token(self.model, answers.prompt, answers.new_tokens)
        return answers.rows / self.topology.devices * each

    @property
    def seconds(self) -> tuple[float, float]:
        """Seconds of a batch whose answers are all of full length, its prompts read in packs; no draft is right."""
        if self.prefill is None or self.token is None:
            return math.inf, math.inf
        steps, packs = self.answers.new_tokens, self.answers.rows * self.answers.prompt / self.pack
        lower, upper = ((getattr(self.prefill, end), getattr(self.token, end)) for end in ("lower", "upper"))
        return packs * lower[0] + steps * lower[1], packs * upper[0] + steps * upper[1]

    @property
    def tokens_per_second(self) -> tuple[float, float]:
        """New tokens a second and chip, (at the upper, at the lower time)."""
        tokens = self.answers.rows * self.answers.new_tokens / self.topology.chips
        lower, upper = (tokens / seconds for seconds in self.seconds)
        return upper, lower

    @property
    def batches(self) -> int:
        """Batches that the posts make."""
        return math.ceil(self.posts / self.answers.rows)

    @property
    def rent(self) -> Rent:
        """Time and money of all posts."""
        lower, upper = (seconds * self.batches for seconds in self.seconds)
        return Rent((lower, upper), self.topology.chips, self.price)


def make_answer_plan(
    model: LlamaConfig,
    config: RunConfig,
    topology: Topology,
    answers: Answers,
    posts: int,
    price: Price,
    cache_dir: str | None = None,
    kernel_efficiency: float = KERNEL_EFFICIENCY,
) -> AnswerPlan:
    """Plan the answers to posts: for TPUs by the compiler, for GPUs by formulas alone.

    On several hosts a config that says nothing of the mesh is planned on the one that `generate` takes there.

    Args:
        model: its shape.
        config: of a run, for the mesh and the dtype of weights and activations.
        topology: one slice or node.
        answers: a batch; its rows are raised to what divides along the mesh, as `generate` does.
        posts: how many there are.
        price: of a chip.
        cache_dir: where compiled figures are kept.
        kernel_efficiency: see `cost.step_time`.

    Raises:
        UserError: several slices, too few positions, a mesh that `generate` refuses, or no TPU compiler.
    """
    if topology.slices > 1:
        raise UserError(f"{topology.name}, {topology.slices} slices or nodes: answers are generated within one")
    if answers.prompt + answers.new_tokens > model.max_positions:
        raise UserError(
            f"{answers.prompt} + {answers.new_tokens} tokens: the model has {model.max_positions} positions"
        )
    if not topology.is_one_host and config.mesh == MeshSection():
        dtype, devices = config.model.compute_dtype, topology.devices
        axes = axes_of_hosts(model, dtype, devices, topology.host_devices, topology.device_memory)
        config = with_overrides(config, mesh=axes.model_dump())
    mesh = mesh_sizes(config.mesh, topology.devices, topology.slices)
    parts = mesh["data"] * mesh["fsdp"]
    answers = replace(answers, rows=math.ceil(answers.rows / parts) * parts)
    held = device_bytes(model, config, mesh, answers)
    if topology.is_gpu:
        compiled = _estimate(model, topology, mesh, answers, held)
    else:
        compiled = compile_job(Job(model, config, topology, answers, cache_dir))
    prefill = token = None
    if compiled.program is not None and compiled.loop is not None:
        prefill = generation_time(compiled.program, topology, held.read - held.cache, kernel_efficiency)
        token = generation_time(compiled.loop, topology, held.read, kernel_efficiency)
        visits = [generation_time(one, topology, 0, kernel_efficiency) for one in compiled.visit]
        token = replace(
            token,
            compiled=token.compiled + sum(one.compute for one in visits) / STEPS,
            copied=token.copied + sum(one.copied for one in visits) / STEPS,
        )
    return AnswerPlan(model, config, topology, mesh, answers, posts, held, compiled, prefill, token, price)


def device_bytes(model: LlamaConfig, config: RunConfig, mesh: dict[str, int], answers: Answers) -> Bytes:
    """Weights and cache of a device, by their shapes.

    Raises:
        UserError: the mesh cuts tokens, or a dimension of the model does not divide along it.
    """
    dtype = jnp.dtype(config.model.compute_dtype)
    abstract = AbstractMesh(tuple(mesh.values()), tuple(mesh))
    weights = abstract_model(model, abstract, dtype, int8_weights=answers.int8_weights)  # type: ignore[arg-type]
    held = sum(_shard_bytes(leaf) for leaf in jax.tree.leaves(weights))
    used = tree_bytes(weights) - (0 if model.tie_embeddings else tree_bytes(weights.embedding_VD))
    head = model.head_dim * dtype.itemsize if not answers.int8_cache else model.head_dim + SCALE_DTYPE.itemsize
    row = 2 * model.num_layers * model.num_kv_heads * head * (answers.prompt + answers.new_tokens)
    cache = row * answers.rows // (mesh["data"] * mesh["fsdp"] * mesh["tensor"])
    return Bytes(held, cache, used // mesh["tensor"] + cache)


def _shard_bytes(array: Any) -> int:
    return math.prod(array.sharding.shard_shape(array.shape)) * array.dtype.itemsize


def _estimate(model: LlamaConfig, topology: Topology, mesh: dict[str, int], answers: Answers, held: Bytes) -> Compiled:
    """Where there is no compiler: operations, weights, cache, a pack and one layer of it, sums along `tensor`.

    Along `fsdp` the weights are gathered before the first token of a loop and held, as the compiler for TPUs does it.
    """
    parts = mesh["data"] * mesh["fsdp"]
    rows, width = answers.rows // parts, pack_width(answers.prompt)
    gathered = held.read - held.cache if mesh["fsdp"] > 1 else 0

    def part(tokens: int, flops_per_token: float, read: int) -> Program:
        collectives = []
        if mesh["tensor"] > 1:  # after attention and after the feed-forward part of each layer
            sums = 2 * model.num_layers
            summed = sums * tokens * model.hidden_size * 2
            collectives.append(Collective("all-reduce", ("tensor",), mesh["tensor"], sums, summed, 0, 0))
        flops = parts * tokens * flops_per_token / topology.devices
        return Program(flops, 0, {}, tuple(collectives), (), {}, (), copied_beside=read)

    prefill = part(width, prefill_flops_per_token(model, answers.prompt), held.read - held.cache)
    if gathered:
        gathers = Collective("all-gather", ("fsdp",), mesh["fsdp"], model.num_layers, gathered, 0, 0)
        prefill = replace(prefill, collectives=(gathers, *prefill.collectives))
    sizes = 4 * model.hidden_size + 3 * (model.intermediate_size + model.num_heads * model.head_dim) // mesh["tensor"]
    packed = 2 * (model.num_layers * 2 * model.num_kv_heads * model.head_dim // mesh["tensor"] + sizes) * width
    cache = held.cache * places_for(answers.prompt + answers.new_tokens - 1) // (answers.prompt + answers.new_tokens)
    temporaries = packed + 4 * rows * (1 + answers.drafts) * model.vocab_size + gathered
    each = decode_flops_per_token(model, answers.prompt, answers.new_tokens)
    return Compiled(
        fits=held.weights + cache + temporaries <= topology.device_memory,
        arguments=held.weights + cache,
        temporaries=temporaries,
        program=prefill,
        loop=part(rows * (1 + answers.drafts), each, held.read),
    )
