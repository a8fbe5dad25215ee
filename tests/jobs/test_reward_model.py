"""A reward model from pairs: its records are read as those of any task, and a tuned one is a reward."""

from pathlib import Path

import numpy as np
import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.answer_pairs import FaultyPair
from mentallama_jax.evaluation.rewards import open_rewards
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import own_tasks
from mentallama_jax.imhi.wording import instruction_query
from mentallama_jax.jobs import reward_model
from mentallama_jax.jobs.reward_model import TASK, reward_of_model, write_reward_data

PAIR = FaultyPair("r#0", "dreaddit", "wrong_label", "the prompt", "the good answer", "the bad answer")
RECORD = Record("r", "dreaddit", "My chest is tight.", "yes")


def test_the_records_of_pairs_are_those_of_a_task_of_its_own(tmp_path: Path) -> None:
    write_reward_data(tmp_path / "reward", [PAIR])
    with own_tasks([tmp_path / "reward" / "preferred.yaml"]) as (task,):
        read = read_records([str(tmp_path / "reward" / "records.jsonl")])
        assert read.problems == []
        assert [(record.dataset, record.label) for record in read.records] == [(TASK, "yes"), (TASK, "no")]
        assert task.labels == ("yes", "no")
    assert [record.post for record in read.records] == [
        "the good answer\n\nthe prompt",
        "the bad answer\n\nthe prompt",
    ]


def test_the_reward_is_the_probability_of_yes_of_the_answer_before_its_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    class Classifier:
        class task:
            labels = ("yes", "no")

        def log_probabilities(self, texts):
            assert texts == [f"good\n\n{instruction_query(RECORD)}", f"bad\n\n{instruction_query(RECORD)}"]
            return np.log([[0.75, 0.25], [0.125, 0.875]]), np.zeros(2)

    monkeypatch.setattr(reward_model, "_opened", lambda folder: Classifier())
    rewards = open_rewards({"model:runs/reward": 1.0}, {"model": reward_of_model})
    np.testing.assert_allclose(rewards.of([RECORD] * 2, ["good", "bad"])[:, 0], [0.75, 0.125])


def test_a_folder_without_a_reward_model_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere"):
        reward_of_model(str(tmp_path / "nowhere"))([RECORD], ["good"])
