"""The card of an export: its head, its tables, its usage, which is run."""

import ast
import re
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from small_models import TINY, random_params

from mentallama_jax.formats.hf_folder import save_hf
from mentallama_jax.formats.model_card import ModelCard, render_card
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer
from mentallama_jax.imhi.prompts import EXAMPLE, encode_prompt, example_prompt
from mentallama_jax.models.llama import forward

SCORES = {
    "datasets": {
        "DR": {"n": 40, "accuracy": 0.8, "accuracy_interval": [0.65, 0.9], "weighted_f1": 0.75, "unparsed": 1},
        "SAD": {"n": 9, "accuracy": 0.5, "accuracy_interval": None, "weighted_f1": 0.5, "unparsed": 0},
    },
    "signature": {"model": "m|x", "sampling": {"temperature": 0.0, "seed": 1}, "files": ["a", "b"]},
}
CARD = ModelCard(
    "my \"model\"", "some/base", True, recipe={"updates": 3}, scores=SCORES, licence="apache-2.0", style="chatml",
    prompt="<|im_start|>user\nIt's a post.<|im_end|>\n",
)  # fmt: skip


def test_the_head_is_yaml_with_name_base_and_licence():
    text = render_card(CARD, 10, "float32")
    head = yaml.safe_load(text.split("---")[1])
    assert head["model_name"] == CARD.name
    assert (head["base_model"], head["license"]) == ("some/base", "apache-2.0")
    local = render_card(ModelCard("x", "folder", False), 10, "float32")
    assert "base_model" not in yaml.safe_load(local.split("---")[1])


def test_scores_have_intervals_and_the_signature_is_a_table():
    text = render_card(CARD, 10, "float32")
    assert "| DR | 40 | 0.8000 (0.650 to 0.900) | 0.7500 |  | 1 |" in text
    assert "| SAD | 9 | 0.5000 | 0.5000 |  | 0 |" in text
    for row in ("| files | a, b |", "| model | m\\|x |", "| sampling.seed | 1 |", "| sampling.temperature | 0.0 |"):
        assert row in text
    assert '{"' not in text  # no JSON


def program_in(card: str) -> str:
    (program,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    return program


def test_the_usage_is_a_program_with_the_prompt_of_the_model():
    program = program_in(render_card(CARD, 10, "float32"))
    tree = ast.parse(program)
    values = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}
    assert ast.literal_eval(values["prompt"]) == CARD.prompt
    assert ast.literal_eval(values["folder"]) == CARD.name
    assert "add_special_tokens=False)  # the prompt has its own" in program
    plain = render_card(ModelCard("x", "b", False, prompt="Consider this post:"), 1, "float32")
    assert "add_special_tokens=True)\n" in plain
    assert "apply_chat_template" not in plain
    assert "apply_chat_template" in render_card(CARD, 1, "float32", "{{ messages }}")


def test_each_kind_of_model_is_loaded_by_what_loads_it():
    targets = program_in(render_card(replace(CARD, pipeline="text2text-generation"), 1, "float32"))
    assert "model = AutoModelForSeq2SeqLM.from_pretrained(folder)" in targets
    assert "decode(answer[0], " in targets
    adapter = program_in(render_card(replace(CARD, library="peft"), 1, "float32"))
    ast.parse(adapter)
    assert "tokenizer = AutoTokenizer.from_pretrained('some/base')" in adapter
    assert "model = AutoPeftModelForCausalLM.from_pretrained(folder)" in adapter


@pytest.mark.parametrize("style", ["plain", "completion", "llama2-chat"])
def test_the_usage_asks_the_very_tokens_and_prints_the_likeliest_answer(
    style: str,
    tokenizer: Tokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The program is run as it stands beside the folder, and its first tokens are those of our own model."""
    pytest.importorskip("torch", reason="the extra parity is not installed")
    config = replace(TINY, max_positions=1024, num_layers=1)
    params = random_params(config)
    card = ModelCard("my-export", "some/base", True, style=style, prompt=example_prompt(style, tokenizer))
    save_hf(tmp_path / card.name, config, params, tokenizer, card=card)
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(program_in((tmp_path / card.name / "README.md").read_text("utf-8")), found)
    answer = found["answer"][0].tolist()
    length = found["tokens"]["input_ids"].shape[1]
    assert found["tokens"]["input_ids"][0].tolist() == encode_prompt(EXAMPLE, style, tokenizer, 999).tokens
    printed = found["tokenizer"].decode(answer[length:], skip_special_tokens=True)
    assert capsys.readouterr().out.rstrip("\n") == printed.rstrip("\n")
    tokens = np.array([answer[: length + 8]], np.int32)
    places = np.arange(tokens.shape[1])[None]
    logits = forward(params, config, jnp.asarray(tokens), places, np.ones_like(tokens))
    assert np.argmax(logits[0, length - 1 : -1], axis=-1).tolist() == answer[length : length + 8]
