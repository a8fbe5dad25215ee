"""The configs of the paper's other systems: what they tune, and that a plan can be made of each."""

import json
from pathlib import Path

import pytest

from mentallama_jax.cli.main import main
from mentallama_jax.config import load_config
from mentallama_jax.imhi.tasks import TASKS, held_out
from mentallama_jax.jobs.open_shape import trained_shape
from mentallama_jax.models.module import count_params
from mentallama_jax.models.presets import ENCODER_PRESETS

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
BERT, ROBERTA = 109_482_240, 124_645_632
"""Parameters of the published encoders, pooler included."""
ENCODERS = {"bert": BERT, "mentalbert": BERT, "roberta": ROBERTA, "mentalroberta": ROBERTA}
EVERY_LABEL = sum(len(task.labels) for task in TASKS.values())


@pytest.mark.parametrize(("name", "encoder"), ENCODERS.items())
@pytest.mark.parametrize(("ending", "labels"), [("", 2), ("-all", EVERY_LABEL)])
def test_a_config_of_an_encoder_has_its_published_size_and_a_class_a_label(name, encoder, ending, labels):
    config = load_config(CONFIGS / f"classifier-{name}{ending}.yaml")
    shape = trained_shape(config)
    assert count_params(shape) == encoder + 768 * labels + labels
    assert shape.num_labels == labels
    assert config.data.max_length == shape.longest_text


def test_the_shape_of_roberta_is_of_its_own_kind():
    assert ENCODER_PRESETS["roberta-base"].model_type == "roberta"
    assert count_params(ENCODER_PRESETS["roberta-base"]) == ROBERTA


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        *((f"classifier-{name}", TASKS["DR"].sizes[0]) for name in ENCODERS),
        *((f"classifier-{name}-all", sum(task.sizes[0] for task in TASKS.values())) for name in ENCODERS),
        *((name, 72_093) for name in ("llama2-7b-completion", "llama2-chat-7b-completion")),
        ("single-dataset", TASKS["DR"].sizes[0]),
        ("imhi-general", sum(task.sizes[0] for name, task in TASKS.items() if name not in held_out())),
    ],
)
def test_a_plan_can_be_made_of_each(name, rows, capsys):
    command = ["plan", str(CONFIGS / f"{name}.yaml"), "--topology", "h100-8", "training.micro_batch_rows=8", "--json"]
    assert main(command) == 0
    (plan,) = json.loads(capsys.readouterr().out)
    assert plan["fits"]
    assert f"{rows:,} examples" in plan["recipe"]["source"]
