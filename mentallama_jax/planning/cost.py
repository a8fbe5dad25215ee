"""From counted operations and bytes to seconds: plain formulas, each with its assumption stated."""

from dataclasses import dataclass

from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.planning.hlo import Collective, Kernel, Program
from mentallama_jax.planning.topologies import Topology

KERNEL_EFFICIENCY = 0.5
"""Share of the peak that attention kernels are taken to reach; a fit to no chip, so `plan` lets you set it."""
_MATMULS = (("fwd", 2), ("dkv", 5), ("bwd", 5), ("dq", 3))
"""Matrix products of [T, T] in an attention kernel, by a word of its name: scores and output; backward all five."""
_RING = {"all-gather": 1, "reduce-scatter": 1, "all-reduce": 2, "all-to-all": 1, "collective-permute": 1}


def model_flops_per_token(model: LlamaConfig, row_length: int) -> float:
    """Operations that training needs for a token, nothing recomputed: forward, and twice that backward.

    Each weight of a matrix product costs 2 forward (the embedding is a look-up and costs nothing, the head counts);
    causal attention counts at half of T x T for a whole row, so 2 x T x heads x width a layer and token forward.
    """
    width = model.head_dim * (2 * model.num_heads + 2 * model.num_kv_heads)
    weights = model.num_layers * model.hidden_size * (width + 3 * model.intermediate_size)
    weights += model.hidden_size * model.vocab_size
    attention = model.num_layers * 2 * row_length * model.num_heads * model.head_dim
    return 3.0 * (2 * weights + attention)


def kernel_flops(kernel: Kernel) -> float:
    """Operations of all launches of an attention kernel, the causal half counted; 0 for a kernel of another kind."""
    matmuls = next((count for word, count in _MATMULS if word in kernel.name), 0)
    if not matmuls or len(kernel.shape) < 4:
        return 0.0
    *_, batch, heads, length, width = kernel.shape
    return float(kernel.times * matmuls * batch * heads * length * length * width)


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
    """

    compiled: float
    kernels: float
    links: float
    network: float

    @property
    def compute(self) -> float:
        """Without communication."""
        return self.compiled + self.kernels

    @property
    def communication(self) -> float:
        """Links and network, one after the other."""
        return self.links + self.network

    @property
    def lower(self) -> float:
        """All communication hidden behind computation, or the reverse."""
        return max(self.compute, self.communication)

    @property
    def upper(self) -> float:
        """None of it hidden."""
        return self.compute + self.communication


def step_time(program: Program, topology: Topology, kernel_efficiency: float = KERNEL_EFFICIENCY) -> StepTime:
    """The time of a program; collectives along `data` cross the network where there are several slices."""
    chip = topology.chip
    share = topology.devices // topology.chips
    outside = [c for c in program.collectives if topology.slices > 1 and {"data", "?"} & set(c.axes)]
    inside = [c for c in program.collectives if c not in outside]
    return StepTime(
        compiled=program.cycles / chip.clock if chip.clock else program.matmul_flops / (0.5 * chip.peak_flops),
        kernels=sum(kernel_flops(k) for k in program.kernels) / (kernel_efficiency * chip.peak_flops / share),
        links=sum(link_bytes(c) for c in inside) / chip.link_bytes * share,
        network=sum(link_bytes(c) for c in outside) / chip.network_bytes * share,
    )
