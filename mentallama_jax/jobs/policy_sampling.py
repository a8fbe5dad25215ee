"""What a run that learns from its own answers asks of the engine and of classifiers: samples and rewards."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import jax

from mentallama_jax.config import GrpoSection, RunConfig
from mentallama_jax.evaluation.label_readers import RULES, label_of
from mentallama_jax.evaluation.rewards import CONSISTENCY, Reward, of_right_labels, open_rewards
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer
from mentallama_jax.generation.answers_while_training import holding
from mentallama_jax.generation.engine import Engine, Settings
from mentallama_jax.generation.sampling import Sampling
from mentallama_jax.generation.stop_strings import without_end
from mentallama_jax.imhi.predictions import answer_to
from mentallama_jax.imhi.prompts import encode_prompt, stop_ids
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.jobs.reward_model import reward_of_model
from mentallama_jax.models.adapters import adapted_config
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.models.module import Params
from mentallama_jax.scorers.label_classifier import LabelClassifier, open_classifiers, read_explanations
from mentallama_jax.training.data.rollouts import SampledAnswer
from mentallama_jax.training.policy_watch import PolicyTools
from mentallama_jax.training.preflight import ANSWERS_AT_ONCE

_ON_ACCELERATORS = 64
"""Answers that are sampled together where there is more than a CPU."""


def policy_tools(config: RunConfig, model: LlamaConfig, tokenizer: Tokenizer) -> PolicyTools:
    """The sampler and the rewards of a run.

    Raises:
        UserError: a reward that there is not.
    """
    assert isinstance(config.objective, GrpoSection)
    of_folders = {
        CONSISTENCY: lambda folder: of_right_labels(classifier_consistency(folder)),
        "model": reward_of_model,
    }
    rewards = open_rewards(config.objective.rewards, of_folders)
    return PolicyTools(EngineSampler(config, model, tokenizer), rewards)


class EngineSampler:
    """Samples with the engine, which holds the weights while it does; see `rollouts.Sampler`."""

    def __init__(self, config: RunConfig, model: LlamaConfig, tokenizer: Tokenizer) -> None:
        """Make an engine of the model; what it compiles stays for all updates.

        An adapter stays beside the frozen weights: merged into weights of few bits, small updates would be rounded
        away, and others would answer than learn.
        """
        self._config, self._tokenizer = config, tokenizer
        self._engine = Engine(adapted_config(model, config.adapter), config.model.compute_dtype)

    def __call__(
        self, params: Params, records: Sequence[Record], names: Sequence[str], count: int, *, temperature: float
    ) -> list[SampledAnswer]:
        """Return `count` answers to each record, side by side; see `rollouts.Sampler`."""
        data, longest = self._config.data, self._config.evaluation.max_new_tokens
        prompts = [
            tuple(encode_prompt(record, data.style, self._tokenizer, data.max_length - longest).tokens)
            for record in records
        ]
        at_once = ANSWERS_AT_ONCE if jax.default_backend() == "cpu" else _ON_ACCELERATORS
        settings = Settings(longest, Sampling(temperature), self._config.training.seed, at_once)
        found: dict[tuple[int, int], SampledAnswer] = {}
        ends = stop_ids(data.style, self._tokenizer)
        with holding(self._engine, params):
            for batch in self._engine.samples(prompts, names, settings, ends, count=count):
                for (place, sample), answer in batch.items():
                    text = self._tokenizer.decode(without_end(answer)).strip()
                    found[place, sample] = SampledAnswer(prompts[place], answer.tokens, answer.ended, text)
        return [found[place, sample] for place in range(len(prompts)) for sample in range(count)]


def classifier_consistency(folder: str) -> Reward:
    """Whether a classifier of explanations reads the label that the answer states; 0 without label or explanation."""

    def consistency(records: Sequence[Record], texts: Sequence[str]) -> list[float | None]:
        present = {record.dataset for record in records}
        classifiers = _classifiers(folder, tuple(name for name in TASKS if name in present))
        rows = [answer_to(record, text) for record, text in zip(records, texts, strict=True)]
        read, _ = read_explanations(classifiers, rows)
        stated = [label_of(row, RULES) for row in rows]
        return [float(label is not None and label == own) for label, own in zip(read, stated, strict=True)]

    return consistency


@lru_cache(maxsize=4)
def _classifiers(folder: str, datasets: tuple[str, ...]) -> dict[str, LabelClassifier]:
    return open_classifiers(Path(folder), [TASKS[name] for name in datasets])
