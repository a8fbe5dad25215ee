"""From counted operations and bytes to seconds: plain formulas, each with its assumption stated."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mentallama_jax.models.bart import BartConfig
from mentallama_jax.models.bert import BertConfig
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.registry import SequenceConfig, TrainedConfig
from mentallama_jax.planning.hlo import Collective, Kernel, Program
from mentallama_jax.planning.topologies import Topology

KERNEL_EFFICIENCY = 0.5
"""Share of the peak that attention kernels are taken to reach; a fit to no chip, so `plan` lets you set it."""
HOP_SECONDS = 1e-6
"""Seconds of one step of a ring between neighbours, a figure in common use for planning; a fit to no chip."""
_MATMULS = {"fwd": 2, "dkv": 4, "dq": 3}
"""Matrix products of [T, T] in an attention kernel, by a word of its name: scores and output; scores, gradients of the
values, of the probabilities and of the keys; scores, gradients of the probabilities and of the queries."""
_RING = {"all-gather": 1, "reduce-scatter": 1, "all-reduce": 2, "all-to-all": 1, "collective-permute": 1}


def model_flops_per_token(
    model: TrainedConfig, row_length: int, target_length: int = 0, *, frozen: bool = False
) -> float:
    """Operations that training needs for a token, nothing recomputed: forward, and twice that backward.

    Each weight of a matrix product costs 2 forward (an embedding is a look-up and costs nothing, the head of a LLaMA
    counts; pooler and classifier are for the first token of a text alone and do not); causal attention counts at half
    of T x T for a whole row, so 2 x T x heads x width a layer and token forward, and that of an encoder at all of it.
    Of an encoder-decoder all that a row of sources and the row of `target_length` targets beside it need is counted for
    the tokens of the sources.
    Where weights are `frozen` beside an adapter, backward costs them as much as forward; the adapter's own products,
    less than a hundredth, do not count.
    """
    passes = 2.0 if frozen else 3.0
    if isinstance(model, SequenceConfig):
        weights, attention = _pair_flops(model, row_length, target_length)
        return (passes * weights + 3.0 * attention) / row_length
    width = model.head_dim * (2 * model.num_heads + 2 * model.num_kv_heads)
    encoder = isinstance(model, BertConfig)
    weights = model.num_layers * model.hidden_size * (width + (2 if encoder else 3) * model.intermediate_size)
    weights += 0 if encoder else model.hidden_size * model.vocab_size
    attention = model.num_layers * (4 if encoder else 2) * row_length * model.num_heads * model.head_dim
    return passes * 2 * weights + 3.0 * attention


def _pair_flops(model: SequenceConfig, sources: int, targets: int) -> tuple[float, float]:
    """Operations of a forward pass over a row of sources and one of targets: with weights, and of attention itself."""
    D = model.hidden_size
    if isinstance(model, BartConfig):
        widths, gates = (D, D), 2
        inner = (model.encoder_intermediate, model.decoder_intermediate)
    else:
        widths, gates = (model.num_heads * model.head_dim,) * 2, 3 if model.gated else 2
        inner = (model.intermediate_size,) * 2
    encoder = 2 * sources * D * (4 * widths[0] + gates * inner[0])
    decoder = 2 * targets * D * (6 * widths[1] + gates * inner[1]) + 2 * sources * D * 2 * widths[1]
    head = 2 * targets * D * model.vocab_size
    weights = model.encoder_layers * encoder + model.decoder_layers * decoder + head
    attention = model.encoder_layers * 4 * sources * sources * widths[0]
    attention += model.decoder_layers * (2 * targets * targets + 4 * targets * sources) * widths[1]
    return float(weights), float(attention)


def prefill_flops_per_token(model: LlamaConfig, prompt: int) -> float:
    """Operations that a token of a prompt needs; of the prompt's tokens only the last one meets the head."""
    head = 2 * model.hidden_size * model.vocab_size
    return model_flops_per_token(model, prompt) / 3 - head * (prompt - 1) / prompt


def decode_flops_per_token(model: LlamaConfig, prompt: int, new_tokens: int) -> float:
    """Operations that a new token needs, on average over an answer.

    It sees the prompt and half of the answer: as in the middle of a row twice as long.
    """
    return model_flops_per_token(model, 2 * prompt + new_tokens) / 3


def attention_flops(kernels: Sequence[Kernel]) -> float:
    """Operations of all launches of attention kernels; kernels of other kinds count nothing.

    Of causal attention half of the square of scores is counted, of bidirectional attention the whole; both sides of
    cross-attention are taken to be equally long.
    All work on the heads of the queries, which the outputs of a kernel for fewer keys do not show. A backward pass
    without a kernel for the queries computes them in that for the keys, with one product more.
    """
    known = [(kernel, word) for kernel in kernels for word in _MATMULS if word in kernel.name and len(kernel.shape) > 2]
    heads = max((kernel.shape[-3] for kernel, _ in known), default=0)
    fused = not any(word == "dq" for _, word in known)
    total = 0.0
    for kernel, word in known:
        *outer, _, length, width = kernel.shape
        batch = outer[-1] if outer else 1
        matmuls = _MATMULS[word] + (word == "dkv" and fused)
        squares = 2 if kernel.is_bidirectional else 1
        total += float(kernel.times * matmuls * squares * batch * heads * length * length * width)
    return total


def link_bytes(collective: Collective) -> float:
    """Bytes that one device sends, in a ring: the whole array, times (n - 1) / n, once or (all-reduce) twice."""
    n = collective.group
    if collective.kind == "collective-permute":
        return float(collective.result_bytes)
    whole = collective.result_bytes * (n if collective.kind == "reduce-scatter" else 1)
    return _RING[collective.kind] * whole * (n - 1) / n


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of one run of the program on one device.

    Attributes:
        compiled: by the compiler's cycles; for GPUs, matrix products at half of the peak.
        kernels: attention kernels at a stated share of the peak.
        links: bytes over the published speed of all links of a chip, none of them idle.
        network: bytes between slices or nodes over the network's speed.
        memory: of generation, bytes that must come from memory over its bandwidth, which cycles may not show.
        copied: of generation, those bytes of them over the bandwidth that the program's cycles do not show, as copies
            bring them beside other work.
        latency: of generation, the steps of all rings at `HOP_SECONDS`; its messages are short.
    """

    compiled: float
    kernels: float
    links: float
    network: float
    memory: float = 0.0
    copied: float = 0.0
    latency: float = 0.0

    @property
    def compute(self) -> float:
        """Seconds without communication."""
        return self.compiled + self.kernels

    @property
    def communication(self) -> float:
        """Links and network, one after the other."""
        return self.links + self.network

    @property
    def lower(self) -> float:
        """Seconds where computation, memory and communication hide behind the longest of them; no latency."""
        return max(self.compute, self.memory, self.communication)

    @property
    def upper(self) -> float:
        """None of it hidden; what is read within an instruction is in its cycles and counts once."""
        return max(self.compute + self.copied, self.memory) + self.communication + self.latency


def step_time(program: Program, topology: Topology, kernel_efficiency: float = KERNEL_EFFICIENCY) -> StepTime:
    """The time of a program; collectives along `data` cross the network where there are several slices."""
    chip = topology.chip
    share = topology.devices // topology.chips
    outside = [c for c in program.collectives if topology.slices > 1 and {"data", "?"} & set(c.axes)]
    inside = [c for c in program.collectives if c not in outside]
    return StepTime(
        compiled=program.cycles / chip.clock if chip.clock else program.matmul_flops / (0.5 * chip.peak_flops),
        kernels=attention_flops(program.kernels) / (kernel_efficiency * chip.peak_flops / share),
        links=sum(link_bytes(c) for c in inside) / chip.link_bytes * share,
        network=sum(link_bytes(c) for c in outside) / chip.network_bytes * share,
    )


def generation_time(
    program: Program, topology: Topology, memory_bytes: float, kernel_efficiency: float = KERNEL_EFFICIENCY
) -> StepTime:
    """The time of a part of `generate` on a device, which must read `memory_bytes` for it."""
    steps = sum(one.times * _RING[one.kind] * (one.group - 1) for one in program.collectives)
    bandwidth = topology.chip.memory_bandwidth * topology.chips / topology.devices
    time = step_time(program, topology, kernel_efficiency)
    return replace(
        time, memory=memory_bytes / bandwidth, copied=program.copied_beside / bandwidth, latency=steps * HOP_SECONDS
    )
