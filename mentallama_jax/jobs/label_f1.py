"""Measures the label F1 of a LLaMA in training by answering records, on all devices of all hosts."""

import time
from collections.abc import Sequence

from mentallama_jax.config import RunConfig
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.correctness import label_rows, pooled_f1
from mentallama_jax.evaluation.label_readers import RULES
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer
from mentallama_jax.generation.answers import answer_records
from mentallama_jax.generation.answers_while_training import holding
from mentallama_jax.generation.engine import Engine, Settings
from mentallama_jax.imhi.records import Record
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params
from mentallama_jax.training.preflight import ANSWERS_AT_ONCE


class GeneratedLabelF1:
    """Greedy answers, their labels read by the templates, and the weighted F1 of all data sets together."""

    def __init__(self, config: RunConfig, model: LlamaConfig, tokenizer: Tokenizer) -> None:
        """Make an engine of the model; what it compiles stays for all evaluations.

        Raises:
            UserError: the mesh cuts tokens.
        """
        if config.mesh.sequence > 1:
            raise UserError(
                f"mesh.sequence {config.mesh.sequence}: answers for label_f1 are generated token by token, which "
                "cannot be cut; set mesh.sequence=1 or evaluation.generate_rows=0"
            )
        self._config, self._tokenizer = config, tokenizer
        self._engine = Engine(model, config.model.compute_dtype)
        self._seconds = self._busy = 0.0

    def __call__(self, params: Params, records: Sequence[Record]) -> float:
        """Return the figure of these weights; the same on every process."""
        data, longest = self._config.data, self._config.evaluation.max_new_tokens
        settings = Settings(longest, batch_size=ANSWERS_AT_ONCE)
        began, busy = time.monotonic(), self._engine.busy_seconds
        with holding(self._engine, params):
            answers = answer_records(
                self._engine,
                self._tokenizer,
                records,
                style=data.style,
                max_length=data.max_length,
                settings=settings,
            )
        figure = pooled_f1(label_rows(answers, RULES))
        self._seconds, self._busy = time.monotonic() - began, self._engine.busy_seconds - busy
        return figure

    def clock(self) -> dict[str, float]:
        """Return the seconds of the last measurement, and the share of them in which a place for an answer was idle.

        It is the mean over all places of all devices: they wait for programs to be compiled, for weights to be laid
        out, for labels to be read, and for the last answers once there are no more prompts.
        """
        idle = 1 - self._busy / self._seconds if self._seconds else 0.0
        return {"label_f1_seconds": round(self._seconds, 3), "label_f1_idle": round(max(idle, 0.0), 4)}
