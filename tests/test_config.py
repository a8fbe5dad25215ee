"""The shipped configs, and what a config refuses."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mentallama_jax import config as config_module
from mentallama_jax.config import RunConfig, known_keys, load_config, parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.imhi.tasks import HELD_OUT, task_named

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
REFERENCE = ROOT / "configs" / "llama2-7b.yaml"
PAPER = ("llama2-7b", "llama2-chat-7b", "llama2-chat-13b", "imhi-general")
LEAVES = [key for key in known_keys() if not any(other.startswith(f"{key}.") for other in known_keys())]
MINIMAL = {"model": {"source": "toy"}, "data": {"train": ["sample"]}, "training": {"run_dir": "run", "steps": 1}}


def leaf_lines(path: Path) -> Iterator[tuple[str, str, str]]:
    """(dotted key, comment behind it, line above it) of each leaf key of a shipped file."""
    section, above = "", ""
    for line in path.read_text("utf-8").splitlines():
        if found := re.match(r"(\w+):", line):
            section = found[1]
        elif found := re.match(r"  (\w+):[^#]*(?:  # (.*))?$", line):
            yield f"{section}.{found[1]}", found[2] or "", above.strip()
        above = line


def documented_keys() -> dict[str, str]:
    """Attribute docstrings of config.py, as `section.key` -> text."""
    sections = {field.annotation: name for name, field in RunConfig.model_fields.items()}
    texts = {}
    for node in ast.parse(Path(config_module.__file__).read_text("utf-8")).body:
        section = sections.get(getattr(config_module, node.name)) if isinstance(node, ast.ClassDef) else None
        if section is None:
            continue
        for field, text in zip(node.body, node.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                texts[f"{section}.{field.target.id}"] = ast.literal_eval(text.value)
    return texts


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_loads(path: Path) -> None:
    config = load_config(path)
    assert parse_config(config.model_dump(mode="json"), "run directory") == config


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_key_says_why(path: Path) -> None:
    bare = [key for key, comment, above in leaf_lines(path) if not comment and not above.startswith("#")]
    assert bare == []


def test_the_line_reader_of_this_test_sees_every_key() -> None:
    for path in CONFIGS:
        values = yaml.safe_load(path.read_text("utf-8"))
        assert [key for key, _, _ in leaf_lines(path)] == [f"{s}.{k}" for s, keys in values.items() for k in keys]


def test_the_reference_config_explains_every_key_as_the_code_does() -> None:
    assert {key: comment for key, comment, _ in leaf_lines(REFERENCE)} == documented_keys()
    assert list(documented_keys()) == LEAVES


def test_the_reference_config_shows_the_defaults() -> None:
    shown = load_config(REFERENCE).model_dump()
    needed = {"model": {"source": "x"}, "data": {"train": ["x"]}, "training": {"run_dir": "x", "epochs": 10}}
    default = parse_config(needed, "defaults").model_dump()
    differing = {f"{s}.{k}" for s, keys in shown.items() for k, value in keys.items() if value != default[s][k]}
    assert differing == {"model.source", "data.train", "data.validation", "training.run_dir"}


def test_there_are_few_enough_keys_to_know() -> None:
    assert len(LEAVES) <= 60


@pytest.mark.parametrize("name", PAPER)
def test_the_recipe_of_the_paper(name: str) -> None:
    config = load_config(ROOT / "configs" / f"{name}.yaml")
    assert (config.training.batch_size, config.training.batch_unit, config.training.epochs) == (256, "examples", 10)
    assert (config.optimizer.learning_rate, config.optimizer.warmup_fraction) == (1e-5, 0.04)
    assert (config.data.max_length, config.evaluation.metric) == (2048, "validation_loss")
    assert (config.model.parameter_dtype, config.model.weights) == ("float32", "pretrained")
    assert config.data.max_rows is None


def test_imhi_general_leaves_out_the_held_out_tasks_and_their_posts() -> None:
    data = load_config(ROOT / "configs" / "imhi-general.yaml").data
    assert {task_named(name).name for name in data.exclude} == set(HELD_OUT)
    assert {task_named(Path(path).stem).name for path in data.drop_posts_in} == set(HELD_OUT)


def test_overrides_are_yaml_values() -> None:
    changed = load_config(REFERENCE, ["training.seed=7", "data.datasets=[DR, SAD]", "optimizer.learning_rate=3e-5"])
    assert changed.training.seed == 7
    assert changed.data.datasets == ("DR", "SAD")
    assert changed.optimizer.learning_rate == 3e-5
    assert load_config(REFERENCE, ["training.epochs=null", "training.steps=20"]).training.steps == 20


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer.learning_rat=1"], r"unknown key optimizer\.learning_rat; did you mean optimizer\.learning_rate\?"),
        (["trainnig.seed=1"], r"unknown key trainnig; did you mean training\?"),
        (["learning_rate=1"], r"unknown key learning_rate; did you mean optimizer\.learning_rate\?"),
        (["training.seed"], r"expected section\.key=value"),
        (["training.seed.deep=1"], r"training\.seed is not a section"),
        (["training.seed=[1"], r"not valid YAML"),
        (["training.steps=5"], r"exactly one of epochs and steps"),
        (["training.epochs=null"], r"exactly one of epochs and steps"),
        (["training.batch_size=0"], r"training\.batch_size: .*greater than or equal to 1"),
        (["training.batch_size=2"], r"micro_batch_rows 4 is more than training\.batch_size 2"),
        (["training.batch_unit=rows", "training.batch_size=10"], r"batch_size 10 .*micro_batch_rows 4"),
        (["data.layout=bucketed", "training.batch_size=10"], r"batch_size 10 .*micro_batch_rows 4"),
        (["data.layout=bucketed", "training.batch_unit=rows"], r"batch_unit rows needs data\.layout packed"),
        (["evaluation.metric=label_f1"], r"needs evaluation\.generate_rows"),
        (["optimizer.warmup_fraction=4"], r"optimizer\.warmup_fraction: .*less than or equal to 1"),
        (["data.style=alpaca"], r"data\.style: .*'plain'"),
        (["data.train=sample"], r"data\.train"),
    ],
)
def test_a_wrong_config_is_one_clear_line(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        load_config(REFERENCE, overrides)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "expected sections"),
        (b"- a\n- b\n", "expected sections"),
        (b"model: [", "not valid YAML"),
        (b"model: \xff\xfe", "cannot be read"),
        (b"model: 3\n", "model"),
    ],
)
def test_a_broken_file_is_one_clear_line(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(text)
    with pytest.raises(UserError, match=message) as refused:
        load_config(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_a_missing_file_names_itself(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(UserError, match=re.escape(str(path))):
            load_config(path)


@pytest.mark.parametrize(
    ("section", "key", "url"),
    [
        ("training", "run_dir", "s3://bucket/run"),
        ("data", "cache_dir", "gs://bucket/tokens"),
        ("training", "compile_cache_dir", "gs://bucket/xla"),
    ],
)
def test_a_place_on_a_bucket_is_refused_where_it_cannot_be(section: str, key: str, url: str) -> None:
    with pytest.raises(UserError, match=f"{section}.{key} {url}: "):
        parse_config(MINIMAL | {section: MINIMAL[section] | {key: url}}, "test")


def test_a_config_cannot_be_changed() -> None:
    config: Any = parse_config(MINIMAL, "test")
    with pytest.raises(ValueError, match="frozen"):
        config.training.seed = 1


def keys_read(source: str) -> set[str]:
    """`section.key` of each attribute read from a section, under its own name or that of an annotated argument."""
    tree = ast.parse(source)
    classes = {field.annotation.__name__: name for name, field in RunConfig.model_fields.items() if field.annotation}
    arguments = {
        node.arg: classes[node.annotation.id]
        for node in ast.walk(tree)
        if isinstance(node, ast.arg) and isinstance(node.annotation, ast.Name) and node.annotation.id in classes
    }
    read = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value).rpartition(".")[2]
            read.add(f"{arguments.get(owner, owner)}.{node.attr}")
    return read


def test_every_key_is_read_somewhere() -> None:
    read: set[str] = set()
    for path in (ROOT / "mentallama_jax").rglob("*.py"):
        if path.name != "config.py":
            read |= keys_read(path.read_text("utf-8"))
    assert [key for key in LEAVES if key not in read] == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("optimizer.beta1", 1), ("optimizer.beta2", 1), ("optimizer.beta2", 1.0)),
        *(("training.steps", 10**12), ("training.seed", 2**63), ("training.batch_size", 10**30)),
        *(("training.micro_batch_rows", 10**9), ("data.max_length", 10**12), ("data.weights", {"DR": 10**9})),
        *(("checkpoint.keep_last", 10**12), ("evaluation.max_new_tokens", 10**12)),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused_by_their_key(key, value):
    section, name = key.split(".")
    values = {"model": {"source": "toy"}, "data": {"train": ["sample"]}, "training": {"run_dir": "run", "steps": 1}}
    values[section] = values.get(section, {}) | {name: value}
    with pytest.raises(UserError, match=f"test: {key}"):
        parse_config(values, "test")
