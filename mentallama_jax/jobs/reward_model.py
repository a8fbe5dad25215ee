"""A reward model: a classifier that tells preferred answers from rejected ones, tuned as every classifier is.

The two answers of a pair become two records of a task of their own, `preferred`, with the labels yes and no. What the
classifier reads begins with the answer, as a text that is too long loses its end. Its probability of yes is the reward.
It is a classifier of single answers, not of pairs: both answers to a prompt are seen as often, so that a prompt tells
nothing.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.answer_pairs import FaultyPair
from mentallama_jax.evaluation.rewards import Reward
from mentallama_jax.files import atomic_folder, write_jsonl
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import read_tasks
from mentallama_jax.imhi.wording import instruction_query
from mentallama_jax.scorers.label_classifier import LabelClassifier, open_classifiers

TASK = "preferred"
TASK_FILE = f"""\
# Whether an answer is the preferred one of a pair: what a reward model learns.
name: {TASK}
kind: preference of answers
source: pairs of answers
language: en
licence: that of the posts in the pairs
question: Is this answer the preferred one?
labels:
  yes:
    sentence: Yes, this answer is preferred.
  no:
    sentence: No, this answer is rejected.
high_risk:
  labels: []
  reason: it is about answers, not about people
"""


def write_reward_data(folder: Path, pairs: Sequence[FaultyPair]) -> None:
    """Write what a reward model is tuned on: `records.jsonl` and the task file `preferred.yaml`; a new folder.

    Raises:
        UserError: the folder exists and is not empty.
    """
    with atomic_folder(folder) as new:
        (new / f"{TASK}.yaml").write_text(TASK_FILE, encoding="utf-8")
        write_jsonl(
            new / "records.jsonl",
            (
                {
                    "id": f"{pair.id}/{label}",
                    "dataset": TASK,
                    "post": judged_text(pair.prompt, answer),
                    "label": label,
                }
                for pair in pairs
                for answer, label in ((pair.chosen, "yes"), (pair.rejected, "no"))
            ),
        )


def judged_text(prompt: str, answer: str) -> str:
    """What the reward model reads of an answer."""
    return f"{answer}\n\n{prompt}"


def reward_of_model(folder: str) -> Reward:
    """The probability, by the classifier in a run, that an answer is the preferred one."""

    def reward(records: Sequence[Record], texts: Sequence[str]) -> list[float | None]:
        classifier = _opened(folder)
        judged = [judged_text(instruction_query(record), text) for record, text in zip(records, texts, strict=True)]
        found, _ = classifier.log_probabilities(judged)
        return [float(value) for value in np.exp(found[:, classifier.task.labels.index("yes")])]

    return reward


@lru_cache(maxsize=2)
def _opened(folder: str) -> LabelClassifier:
    tasks = [task for task in read_tasks(folder) if task.name == TASK]
    if not tasks:
        raise UserError(
            f"objective.rewards model:{folder}: keeps no task {TASK}; give the run of a classifier that was tuned on "
            "what `mentallama data pairs --reward-data` writes"
        )
    return open_classifiers(Path(folder), tasks)[TASK]
