"""Tunes an encoder-decoder on answers."""

from collections.abc import Sequence

from mentallama_jax.config import RunConfig, SequenceSection
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.correctness import label_rows, pooled_f1
from mentallama_jax.evaluation.label_readers import RULES
from mentallama_jax.formats.tokenizers.encoder_tokenizer import EncoderTokenizer
from mentallama_jax.generation.beam_search import BeamSearch
from mentallama_jax.generation.engine import Settings
from mentallama_jax.generation.sequence_answers import SourceReading, answer_sequences
from mentallama_jax.generation.sequence_engine import SequenceEngine
from mentallama_jax.imhi.pair_texts import specials_of
from mentallama_jax.imhi.records import Record
from mentallama_jax.jobs.open_sequence import base_sequence_model
from mentallama_jax.models.module import Params
from mentallama_jax.models.registry import encoder_decoder
from mentallama_jax.terminal import Console
from mentallama_jax.training.interruption import StopRequest
from mentallama_jax.training.loop import TrainResult, train
from mentallama_jax.training.preflight import ANSWERS_AT_ONCE
from mentallama_jax.training.setup import BaseModel
from mentallama_jax.training.validation import LabelF1


def tune_sequence_model(
    config: RunConfig, stop: StopRequest | None = None, console: Console | None = None, *, extend: bool = False
) -> TrainResult:
    """Tune an encoder-decoder, or resume the run in `config.training.run_dir`.

    Args:
        config: the run; its objective is a `SequenceSection`.
        stop: listens to signals already; by default training begins to listen.
        console: where progress is shown; standard error by default.
        extend: whether a run may be made longer than it was started.

    Raises:
        UserError: see `training.loop.train`.
    """
    base = base_sequence_model(config)
    label_f1 = _label_f1(config, base) if config.evaluation.generate_rows else None
    return train(config, base, label_f1, console=console, stop=stop, extend=extend)


def _label_f1(config: RunConfig, base: BaseModel) -> LabelF1:
    """Answers by beams or greedily, and the weighted F1 of their labels, all data sets together."""
    if config.mesh.sequence > 1:
        raise UserError(
            f"mesh.sequence {config.mesh.sequence}: answers for label_f1 are generated token by token, which cannot be "
            "cut; set mesh.sequence=1 or evaluation.generate_rows=0"
        )
    assert isinstance(config.objective, SequenceSection)
    assert isinstance(base.tokenizer, EncoderTokenizer)
    model, tokenizer = encoder_decoder(base.config, config.model.source), base.tokenizer
    opening = specials_of(tokenizer, model.end_id, config.model.source).opening
    engine = SequenceEngine(model, config.model.compute_dtype, opening)
    settings = Settings(config.evaluation.max_new_tokens, batch_size=ANSWERS_AT_ONCE)
    reading = SourceReading(tokenizer, config.data.style, config.data.max_length)
    search = BeamSearch(config.objective.beams) if config.objective.beams > 1 else None

    def label_f1(params: Params, records: Sequence[Record]) -> float:
        engine.update(params)
        by_id = {row.id: row for rows in answer_sequences(engine, reading, records, settings, search) for row in rows}
        engine.release()
        answers = [by_id[record.id] for record in records]
        return pooled_f1(label_rows(answers, RULES))

    return label_f1
