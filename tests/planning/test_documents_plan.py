"""Plans of continued pre-training: the program of tuning on other arrays; hours need to know how much text there is."""

import json

import pytest

from mentallama_jax.cli.main import main
from mentallama_jax.config import load_config
from mentallama_jax.errors import UserError
from mentallama_jax.planning.recipe import recipe_of_documents

CONFIG = "configs/continued-pretraining.yaml"
STEPS = ["training.epochs=null", "training.steps=4000"]


def plans(capsys, *arguments: str) -> list[dict]:
    assert main(["plan", *arguments, "--topology", "h100-8", "--json"]) in (0, 1)
    return json.loads(capsys.readouterr().out)


def test_steps_say_how_much_text_is_trained_on():
    recipe = recipe_of_documents(load_config(CONFIG, STEPS), None, None)
    assert (recipe.updates, recipe.rows, recipe.row_length) == (4000, 256, 2048)
    assert recipe.tokens == pytest.approx(256 * 2048, rel=0.02)
    assert recipe.source == f"assumed: 4,000 updates, {4000 * recipe.tokens:,.0f} tokens of text"


def test_pieces_say_it_too():
    recipe = recipe_of_documents(load_config(CONFIG), 100_000, 1024.0)
    assert recipe.updates == pytest.approx(100_000 * 1024 / recipe.tokens, rel=0.01)


def test_without_either_nothing_is_made_up():
    with pytest.raises(UserError, match="the size of the text decides the hours: give --data"):
        recipe_of_documents(load_config(CONFIG), None, None)


def test_the_step_is_that_of_tuning(capsys):
    """The same memory, operations and time as instruction tuning in rows of as many tokens."""
    given = ["mesh.fsdp=8", "training.micro_batch_rows=8", "training.batch_size=256", "training.batch_unit=rows"]
    documents = plans(capsys, CONFIG, *STEPS, *given)[0]
    tuning = plans(capsys, "configs/llama2-7b.yaml", *STEPS, *given, "optimizer.beta2=0.95")[0]
    for key in documents.keys() - {"recipe", "config", "overrides"}:
        if isinstance(documents[key], int | float) and not isinstance(documents[key], bool):
            assert documents[key] == pytest.approx(tuning[key], rel=0.02), key


def test_the_text_itself_is_surveyed(capsys, tmp_path):
    (tmp_path / "a.txt").write_text("The river is quiet this evening. " * 300)
    given = ["model.source=toy", "model.tokenizer=sample", "model.weights=random", f"data.train=[{tmp_path}]"]
    given += ["data.validation=[]", "data.drop_posts_in=[]", f"data.cache_dir={tmp_path}/cache", "data.max_length=128"]
    given += ["objective.instructions=[]", "objective.instruction_share=0", "training.batch_size=4", "mesh.fsdp=1"]
    assert main(["plan", CONFIG, *given, "--data", "--topology", "h100-1", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)[0]
    text = json.dumps(plan)
    pieces = int(text.partition(" examples")[0].rpartition(" ")[2])
    assert pieces > 20
    assert '"updates": ' + str(-(-pieces // 4)) in text
