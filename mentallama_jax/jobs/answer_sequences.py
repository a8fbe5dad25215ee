"""Lets encoder-decoders answer questions about posts; `jobs.answer` writes their predictions as those of all models."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import jax
from jax.sharding import Mesh

from mentallama_jax.config import Style
from mentallama_jax.errors import UserError
from mentallama_jax.generation.beam_search import BeamSearch
from mentallama_jax.generation.engine import Settings
from mentallama_jax.generation.resumable import params_fingerprint
from mentallama_jax.generation.sequence_answers import SourceReading, answer_sequences, score_sequences
from mentallama_jax.generation.sequence_engine import SequenceEngine
from mentallama_jax.imhi.pair_texts import specials_of
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.records import Record
from mentallama_jax.jobs.answer import PLAINLY, Manner, Questions, signature_of_questions
from mentallama_jax.jobs.open_sequence import OpenedSequence
from mentallama_jax.models.module import abstract_params, param_dimensions
from mentallama_jax.parallel.mesh import use_mesh
from mentallama_jax.parallel.rules import tree_shardings

_MAX_LENGTH = 512
"""Tokens of a source where nobody says it: what T5 was trained with, and half of what BART was."""


@dataclass(frozen=True, slots=True)
class Writing:
    """How targets are written.

    Attributes:
        beams: hypotheses of each source; 1 writes greedily, or at random where the temperature is above 0.
        length_penalty: exponent of the length that the score of a beam is divided by.
        no_repeat_ngram: n-grams of this size occur once in an answer; 0 for no rule.
    """

    beams: int = 1
    length_penalty: float = 1.0
    no_repeat_ngram: int = 0

    @property
    def search(self) -> BeamSearch | None:
        """The beam search; None where there is one beam."""
        return BeamSearch(self.beams, self.length_penalty) if self.beams > 1 else None


@dataclass(frozen=True)
class SequenceAnswerer:
    """An encoder-decoder that is ready to answer; see `answer.AnyAnswerer`.

    Attributes:
        opened: where it comes from.
        engine: holds its weights.
        reading: how records become sources.
        style_reason: why this style.
        writing: how targets are written.
        dtype: of weights and activations.
        weights: fingerprint of the parameters.
        mesh: of devices that share the work; None for one device.
    """

    opened: OpenedSequence
    engine: SequenceEngine
    reading: SourceReading
    style_reason: str
    writing: Writing
    dtype: str
    weights: str
    mesh: Mesh | None = field(repr=False)

    @property
    def style(self) -> Style:
        """How a record becomes a prompt."""
        return self.reading.style

    def answers(
        self,
        records: Sequence[Record],
        settings: Settings,
        *,
        score_labels: bool = False,
        manner: Manner = PLAINLY,
    ) -> Iterator[list[Prediction]]:
        """Answer records a batch at a time; iterate inside `on_mesh()`.

        Raises:
            UserError: a manner other than the plain one, or a temperature with beams; see
                `generation.sequence_answers`.
        """
        if asked := ", ".join(manner.signature()):
            raise UserError(
                f"{self.opened.source}: an encoder-decoder answers the question that it was tuned on, in its words; "
                f"other ways of asking ({asked}) are for a LLaMA"
            )
        if score_labels:
            return score_sequences(self.engine, self.reading, records, settings)
        if settings.sampling.temperature and self.writing.search:
            raise UserError("--beams: a beam search takes the likeliest answer, without a temperature; set it to 0")
        return answer_sequences(
            self.engine, self.reading, records, settings, self.writing.search, self.writing.no_repeat_ngram
        )

    def on_mesh(self) -> AbstractContextManager[Any]:
        """The context in which the model computes."""
        return use_mesh(self.mesh) if self.mesh else nullcontext()

    def signature(
        self, questions: Questions, settings: Settings, *, score_labels: bool, manner: Manner = PLAINLY
    ) -> dict[str, Any]:
        """All that decides the answers, as plain JSON values; versions and names besides."""
        if score_labels:
            answers: dict[str, Any] = {"mode": "score-labels", "chosen_by": "sum of log-probabilities"}
        else:
            seed = settings.seed if settings.sampling.temperature else None
            answers = {
                "mode": "generate",
                "max_new_tokens": settings.max_new_tokens,
                "end_ids": [self.engine.config.end_id],
                "sampling": asdict(settings.sampling) | {"seed": seed},
                **asdict(self.writing),
            }
        model = self.opened.identity | {"weights": self.weights, "tokenizer": self.opened.tokenizer.fingerprint}
        asked = {"dtype": self.dtype, "style": self.style, "max_length": self.reading.max_length}
        return model | asked | answers | manner.signature() | signature_of_questions(questions)


def open_sequence_answerer(
    opened: OpenedSequence,
    *,
    style: Style | None = None,
    max_length: int | None = None,
    dtype: str | None = None,
    mesh: Mesh | None = None,
    writing: Writing | None = None,
) -> SequenceAnswerer:
    """Read an encoder-decoder onto the devices, ready to answer.

    Args:
        opened: see `open_sequence.open_sequence`.
        style: how a record becomes a prompt; by default as the run was trained, for other models completion.
        max_length: tokens of a prompt; by default as trained, else 512; never more than the model has positions for.
        dtype: of weights and activations; by default float32 on CPU, bfloat16 elsewhere.
        mesh: of devices that share the work.
        writing: how targets are written; by default greedily.

    Raises:
        UserError: a style with a chat, too few positions, or a model that does not divide along the mesh.
    """
    config, run = opened.config, opened.run
    if style not in (None, "plain", "completion"):
        raise UserError(f"--style {style}: an encoder-decoder has no chat; give completion or plain")
    if max_length and max_length > config.longest_text:
        raise UserError(f"--max-length {max_length}: the model has {config.longest_text} positions; give at most that")
    reason = "as asked" if style else "as trained" if run else "as encoder-decoders are tuned"
    used = style or (run.data.style if run else "completion")
    longest = max_length or (run.data.max_length if run else _MAX_LENGTH)
    dtype = dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
    shardings = None
    if mesh is not None:
        try:
            shardings = tree_shardings(mesh, param_dimensions(config), abstract_params(config))
        except ValueError as error:
            raise UserError(f"mesh: {error}; change tensor or fsdp") from None
    params = opened.load_params(dtype, shardings)
    opening = specials_of(opened.tokenizer, config.end_id, opened.source).opening
    engine = SequenceEngine(config, dtype, opening)
    engine.update(params)
    reading = SourceReading(opened.tokenizer, used, min(longest, config.longest_text))
    weights = params_fingerprint(params)
    return SequenceAnswerer(opened, engine, reading, reason, writing or Writing(), dtype, weights, mesh)
