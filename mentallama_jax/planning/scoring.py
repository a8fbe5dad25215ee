"""What scoring pairs of texts needs on chips that are not here: the program of BARTScore, compiled, timed, priced."""

import math
from dataclasses import dataclass

from mentallama_jax.errors import UserError
from mentallama_jax.models.bart import BartConfig
from mentallama_jax.models.t5 import T5Config
from mentallama_jax.planning.compilation import Compiled, Job, PairRows, compile_job
from mentallama_jax.planning.cost import KERNEL_EFFICIENCY, StepTime, step_time
from mentallama_jax.planning.prices import Price, Rent
from mentallama_jax.planning.recipe import Assumptions
from mentallama_jax.planning.topologies import Topology
from mentallama_jax.scorers.bart_score import ROOM, ROWS_OF_A_DEVICE
from mentallama_jax.scorers.packed_texts import MOST_TEXTS

FP32_PASSES = 6
"""Products of bf16 parts that one product of full fp32 takes on a TPU; the compiler's cycles hold them already."""
MEAN_TOKENS = 113.0
"""Tokens of the longer text of a pair, for explanations of 107 and 92 tokens on average, as those of the benchmark."""


@dataclass(frozen=True, slots=True)
class ScorePlan:
    """Everything that a report says of scoring.

    Times are those of a batch, as (lower, upper).

    Attributes:
        source: the model, as it was named.
        model: its shape.
        topology: one slice.
        work: a batch.
        pairs: how many there are.
        mean_tokens: of the longer text of a pair.
        compiled: what the compiler says.
        time: of a batch; None where it does not fit.
        price: of a chip.
    """

    source: str
    model: BartConfig | T5Config
    topology: Topology
    work: PairRows
    pairs: int
    mean_tokens: float
    compiled: Compiled
    time: StepTime | None
    price: Price

    @property
    def fits(self) -> bool:
        """Whether it fits into the memory of each device."""
        return self.compiled.fits and self.time is not None

    @property
    def pairs_of_a_row(self) -> float:
        """Pairs that share a row, on average."""
        return max(1.0, min(float(MOST_TEXTS), Assumptions().fill * self.work.room / self.mean_tokens))

    @property
    def batches(self) -> int:
        """Batches that the pairs make."""
        return math.ceil(self.pairs / (self.pairs_of_a_row * self.work.rows))

    @property
    def model_flops(self) -> float:
        """Operations that the model itself needs for a batch, padding too, on one device."""
        rows = self.work.rows / self.topology.devices
        return rows * self.work.room * flops_per_place(self.model, self.work.room)

    @property
    def seconds(self) -> tuple[float, float]:
        """Seconds of a batch, (lower, upper)."""
        return (self.time.lower, self.time.upper) if self.time else (math.inf, math.inf)

    @property
    def pairs_per_second(self) -> tuple[float, float]:
        """Over all chips, (at the upper, at the lower time)."""
        lower, upper = (self.pairs_of_a_row * self.work.rows / seconds for seconds in self.seconds)
        return upper, lower

    @property
    def rent(self) -> Rent:
        """Time and money of all pairs."""
        lower, upper = (seconds * self.batches for seconds in self.seconds)
        return Rent((lower, upper), self.topology.chips, self.price)


def make_score_plan(
    source: str,
    model: BartConfig | T5Config,
    topology: Topology,
    pairs: int,
    mean_tokens: float,
    price: Price,
    cache_dir: str | None = None,
    kernel_efficiency: float = KERNEL_EFFICIENCY,
) -> ScorePlan:
    """Plan the scores of pairs, as `jobs.open_scorers` computes them: parameters on every device, rows cut.

    Args:
        source: the model, as it was named.
        model: its shape.
        topology: one slice of TPUs.
        pairs: how many there are.
        mean_tokens: of the longer text of a pair.
        price: of a chip.
        cache_dir: where compiled figures are kept.
        kernel_efficiency: see `cost.step_time`.

    Raises:
        UserError: GPUs, several slices, texts longer than a row, or no TPU compiler.
    """
    if topology.is_gpu:
        raise UserError(
            f"{topology.name}: scoring in full fp32 is planned by the compiler alone, which there is none of for GPUs"
        )
    if topology.slices > 1:
        raise UserError(f"{topology.name}, {topology.slices} slices: pairs are scored within one")
    if mean_tokens > ROOM:
        raise UserError(f"--mean-tokens {mean_tokens:g}: rows of pairs have {ROOM} tokens; give at most that")
    work = PairRows(ROWS_OF_A_DEVICE * topology.devices, ROOM)
    compiled = compile_job(Job(model, None, topology, work, cache_dir))
    program = compiled.program
    time = None if program is None else step_time(program, topology, kernel_efficiency / FP32_PASSES)
    return ScorePlan(source, model, topology, work, pairs, mean_tokens, compiled, time, price)


def flops_per_place(model: BartConfig | T5Config, room: int) -> float:
    """Operations of a place of a row: its source token through the encoder, and its target token through the decoder.

    Each weight of a matrix product costs 2, the head included; the decoder's own attention counts at half of
    room x room, that of the encoder and that to the source at all of it.
    """
    D = model.hidden_size
    if isinstance(model, BartConfig):
        width = D
        feed_forward = 2 * D * model.encoder_intermediate, 2 * D * model.decoder_intermediate
    else:
        width = model.num_heads * model.head_dim
        feed_forward = ((3 if model.gated else 2) * D * model.intermediate_size,) * 2
    encoder_layer = 2 * (4 * D * width + feed_forward[0]) + 4 * room * width
    decoder_layer = 2 * (8 * D * width + feed_forward[1]) + (2 + 4) * room * width
    head = 2 * D * model.vocab_size
    return float(model.encoder_layers * encoder_layer + model.decoder_layers * decoder_layer + head)
