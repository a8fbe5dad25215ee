"""The card of an export: its head, its tables, its usage."""

import ast
import re

import yaml

from mentallama_jax.formats.model_card import ModelCard, render_card

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


def test_the_usage_is_a_program_with_the_prompt_of_the_model():
    (program,) = re.findall(r"```python\n(.*?)```", render_card(CARD, 10, "float32"), re.DOTALL)
    tree = ast.parse(program)
    values = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}
    assert ast.literal_eval(values["prompt"]) == CARD.prompt
    assert ast.literal_eval(values["folder"]) == CARD.name
    assert "add_special_tokens=False" in program
    plain = render_card(ModelCard("x", "b", False, prompt="Consider this post:"), 1, "float32")
    assert "add_special_tokens=True" in plain
    assert "apply_chat_template" not in plain
    assert "apply_chat_template" in render_card(CARD, 1, "float32", "{{ messages }}")
