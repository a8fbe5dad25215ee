"""Processes that tune an adapter, by pairs and by rewards are killed at random moments, and end as if left alone."""

import random
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_preference import write_pairs
from test_resume import Run, outcome

from mentallama_jax.formats.hf_folder import save_model
from mentallama_jax.formats.load import load_model_config
from mentallama_jax.jobs.open_model import open_model
from mentallama_jax.models.module import init_params

KILLS = 3
REWARD = """
def variety(records, texts):
    return [sum(map(ord, text)) % 101 / 100 for text in texts]
"""
PREPARE = """
import json, sys
sys.path.insert(0, {folder!r})
from mentallama_jax.jobs.policy_sampling import EngineSampler
sample = EngineSampler.__call__
def noted(self, params, records, names, count, *, temperature):
    found = sample(self, params, records, names, count, temperature=temperature)
    with open({samples!r}, "a") as stream:
        stream.write(json.dumps([names, count, temperature, [one.tokens for one in found]]) + "\\n")
    return found
EngineSampler.__call__ = noted
"""
ADAPTER = {"rank": 4, "alpha": 8.0, "base_dtype": "float32"}
DPO = {
    "objective": {"kind": "dpo", "beta": 0.5},
    "training": {"epochs": None, "steps": 16, "batch_size": 4, "micro_batch_rows": 2},
    "evaluation": {"every_steps": 5, "max_rows": None, "metric": "rewards/accuracies"},
}
GRPO = {
    "data": {"datasets": ["dreaddit"], "max_rows": 6},
    "objective": {
        "kind": "grpo",
        "num_generations": 2,
        "num_iterations": 2,
        "beta": 0.04,
        "rewards": {"own_reward:variety": 1.0, "label": 1.0},
    },
    "training": {"epochs": None, "steps": 12, "batch_size": 4, "micro_batch_rows": 2},
    "evaluation": {"every_steps": 5, "max_rows": 3, "generate_rows": 3, "max_new_tokens": 12, "metric": "reward"},
}
KINDS = {
    "lora": {"adapter": {**ADAPTER, "dropout": 0.1}, "training": {"epochs": 3}},
    "dpo": DPO,
    "dpo of an adapter": {**DPO, "adapter": ADAPTER},
    "grpo": GRPO,
    "grpo of an adapter": {**GRPO, "adapter": {**ADAPTER, "base_dtype": "int4", "dora": True}},
}


@pytest.fixture(scope="module")
def base(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model and its weights."""
    folder = tmp_path_factory.mktemp("base") / "model"
    config = load_model_config(tiny_model)
    save_model(folder, config, init_params(config, jax.random.key(3)), {})
    return folder


def samples_in(path: Path) -> list[str]:
    """What was sampled, each line once; the last one may have been cut."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return sorted({line for line in lines if line.endswith("\n")})


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_random_moments_it_learns_and_samples_the_same(kind, base, tiny_values, tmp_path) -> None:
    (tmp_path / "own_reward.py").write_text(REWARD)
    sections = {
        "model": {"source": str(base), "weights": "pretrained"},
        "optimizer": {"learning_rate": 1e-2},
        "checkpoint": {"every_steps": 3, "keep_last": 1},
    } | KINDS[kind]
    if sections.get("objective", {}).get("kind") == "dpo":
        files = {name: [write_pairs(tmp_path / f"{name}.jsonl", 8)] for name in ("train", "validation")}
        sections = {**sections, "data": {**files, "max_rows": None, "max_length": 320}}
    runs, samples, prepare = {}, {}, {}
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir(exist_ok=True)
        folder, samples[name] = tmp_path / name / "run", tmp_path / name / "samples.jsonl"
        runs[name] = Run(folder, tiny_values(folder, **sections))
        prepare[name] = PREPARE.format(folder=str(tmp_path), samples=str(samples[name]))
    status, _, err = runs["whole"].finish(prepare["whole"])
    assert status == 0, err
    updates, chance = runs["whole"].updates(), random.Random(kind)
    for number in range(KILLS):
        process = runs["killed"].start(prepare["killed"])
        after = chance.randint(number * (updates - 2) // KILLS + 1, (number + 1) * (updates - 2) // KILLS)
        runs["killed"].wait_for(after, process)
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        assert "Traceback" not in outcome(process)[2]
        assert runs["killed"].updates() < updates
    status, _, err = runs["killed"].finish(prepare["killed"])
    assert status == 0, err
    assert "resuming after update" in err
    assert runs["killed"].figures() == runs["whole"].figures()
    assert samples_in(samples["killed"]) == samples_in(samples["whole"])
    assert bool(samples_in(samples["whole"])) == kind.startswith("grpo")
    for which in ("best", "last"):
        mine, theirs = (open_model(str(run.folder), checkpoint=which) for run in runs.values())
        assert mine.update == theirs.update
        jax.tree.map(np.testing.assert_array_equal, *(each.load_params(jnp.float32, None) for each in (mine, theirs)))
