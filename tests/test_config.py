"""The shipped configs, and what a config refuses."""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import pytest
import yaml
from pydantic import Field

from mentallama_jax.config import RunConfig, Section, known_keys, load_config, parse_config, read_config, validate
from mentallama_jax.config import sections as sections_module
from mentallama_jax.config.sections import ObjectiveSection
from mentallama_jax.errors import UserError
from mentallama_jax.imhi.tasks import held_out, task_named

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
REFERENCE = ROOT / "configs" / "llama2-7b.yaml"
CLASSIFIER = ROOT / "configs" / "classifier-minilm.yaml"
SEQUENCE = ROOT / "configs" / "bart-large-completion.yaml"
DOCUMENTS = ROOT / "configs" / "continued-pretraining.yaml"
PAIRS = ROOT / "configs" / "dpo-smollm2.yaml"
POLICY = ROOT / "configs" / "grpo-smollm2.yaml"
ADAPTER = ROOT / "configs" / "llama2-7b-lora.yaml"
PAPER = ("llama2-7b", "llama2-chat-7b", "llama2-chat-13b", "imhi-general")
KEYS = list(known_keys(RunConfig))
LEAVES = [key for key in KEYS if not any(other.startswith(f"{key}.") for other in KEYS)]
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


def section_classes() -> dict[type, str]:
    """Every class of a section, members of unions too, with the name of the section."""
    return {
        member: name
        for name, field in RunConfig.model_fields.items()
        for member in get_args(field.annotation) or (field.annotation,)
    }


def documented_keys(of: str = "") -> dict[str, str]:
    """Attribute docstrings of the sections, or of one class, as `section.key` -> text."""
    sections = section_classes()
    texts = {}
    for node in ast.parse(Path(sections_module.__file__).read_text("utf-8")).body:
        section = sections.get(getattr(sections_module, node.name)) if isinstance(node, ast.ClassDef) else None
        if section is None or (of and node.name != of):
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


def test_the_reference_configs_explain_every_key_as_the_code_does() -> None:
    """Those of other objectives and of adapters show the keys of their own; one has all the others."""
    explained = {key: text for key, text, _ in leaf_lines(REFERENCE)}
    for path in (CLASSIFIER, DOCUMENTS, SEQUENCE, PAIRS, POLICY):
        lines = {key: text or above.removeprefix("# ") for key, text, above in leaf_lines(path)}
        of_objective = {key: text for key, text in lines.items() if key.startswith("objective.")}
        assert of_objective == documented_keys(type(load_config(path).objective).__name__)
        assert explained["objective.kind"] == of_objective["objective.kind"]
        explained |= of_objective
    explained |= {key: text for key, text, _ in leaf_lines(ADAPTER) if key.startswith("adapter.")}
    assert explained == documented_keys()
    assert list(documented_keys()) == LEAVES


def test_the_reference_config_shows_the_defaults() -> None:
    shown = load_config(REFERENCE).model_dump()
    needed = {"model": {"source": "x"}, "data": {"train": ["x"]}, "training": {"run_dir": "x", "epochs": 10}}
    default = parse_config(needed, "defaults").model_dump()
    differing = {f"{s}.{k}" for s, keys in shown.items() if keys for k, value in keys.items() if value != default[s][k]}
    assert differing == {"model.source", "data.train", "data.validation", "training.run_dir"}


def test_there_are_few_enough_keys_to_know() -> None:
    """A run has one objective: its kinds stand beside each other, and the largest counts.

    The section of an adapter is absent from most runs; it has ten keys at most of its own.
    """
    shared = [key for key in LEAVES if not key.startswith(("objective.", "adapter."))]
    assert len([key for key in LEAVES if key.startswith("adapter.")]) <= 10
    sizes = {kind.__name__: len(kind.model_fields) for kind in get_args(get_args(ObjectiveSection)[0])}
    assert len(shared) + sizes.pop("GrpoSection") <= 70  # sampling and learning have keys each
    assert len(shared) + max(sizes.values()) <= 60


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
    assert {task_named(name).name for name in data.exclude} == set(held_out())
    assert {task_named(Path(path).stem).name for path in data.drop_posts_in} == set(held_out())


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
        (
            ["lora.rank=3"],
            r"unknown key lora; did you mean adapter\.rank\?",
        ),
        (["lora.nothing=3"], r"unknown key lora$"),
        (["learning_rate=1"], r"unknown key learning_rate; did you mean optimizer\.learning_rate\?"),
        (["training.seed"], r"expected section\.key=value"),
        (["training.seed.deep=1"], r"training\.seed is not a section"),
        (["training.seed=[1"], r"not valid YAML"),
        (["training.steps=5", "training.epochs=1"], r"exactly one of epochs and steps"),
        (["training.epochs=null"], r"exactly one of epochs and steps"),
        (["training.batch_size=0"], r"training\.batch_size: .*greater than or equal to 1"),
        (["training.batch_size=2"], r"micro_batch_rows 4 is more than training\.batch_size 2"),
        (["training.batch_unit=rows", "training.batch_size=10"], r"batch_size 10 .*micro_batch_rows 4"),
        (["data.layout=bucketed", "training.batch_size=10"], r"batch_size 10 .*micro_batch_rows 4"),
        (["data.layout=bucketed", "training.batch_unit=rows"], r"batch_unit rows needs data\.layout packed"),
        (["evaluation.metric=label_f1"], r"needs evaluation\.generate_rows"),
        (["evaluation.metric=weighted_f1"], r"weighted_f1 goes with objective\.kind classification; choose label_f1"),
        (["evaluation.patience=2", "data.validation=[]"], r"evaluation\.patience needs data\.validation"),
        (
            ["objective.kind=ranking"],
            r"objective\.kind: there is no 'ranking'; there are: supervised, classification, documents",
        ),
        (["objective.input=post"], r"unknown key objective\.input; it goes with objective\.kind=classification"),
        (["qqqq=8"], r"^command line: unknown key qqqq$"),
        (["optimizer.name=adafactor", "optimizer.beta1=0.8"], r"beta1 0\.8 belongs to adamw; adafactor has no such"),
        (["optimizer.warmup_fraction=4"], r"optimizer\.warmup_fraction: .*less than or equal to 1"),
        (["data.style=alpaca"], r"data\.style: .*'plain'"),
        (["adapter.rnak=3"], r"unknown key adapter\.rnak; did you mean adapter\.rank\?"),
        (["data.train=3"], r"^command line: data\.train"),
    ],
)
def test_a_wrong_config_is_one_clear_line(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        load_config(REFERENCE, overrides)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("path", "metric", "changes"),
    [
        (REFERENCE, "label_f1", ["evaluation.generate_rows=8"]),
        (SEQUENCE, "label_f1", ["evaluation.generate_rows=8"]),
        (CLASSIFIER, "weighted_f1", []),
        (PAIRS, "rewards/accuracies", []),
        (POLICY, "reward", ["evaluation.generate_rows=0"]),
    ],
)
def test_a_metric_of_held_out_rows_is_refused_where_there_are_none(path, metric, changes) -> None:
    without = [*changes, "data.validation=[]", "evaluation.patience=null"]
    with pytest.raises(UserError, match=rf"evaluation\.metric {metric} needs data\.validation; .* set validation_loss"):
        load_config(path, [*without, f"evaluation.metric={metric}"])
    load_config(path, [*without, "evaluation.metric=validation_loss"])


@pytest.mark.parametrize(
    ("overrides", "origin"),
    [
        (["optimizer.learning_rate=fast"], "command line: "),
        (["trainnig.seed=1"], "command line: "),
        (["model.source=" + "x" * 2000], "command line: "),
        (["model.source=[toy]"], "command line: "),
        (["training.steps=5", "training.epochs=1"], "command line, over "),
        (["evaluation.metric=label_f1"], "command line, over "),
        (["data.style=alpaca"], "command line: "),
    ],
)
def test_a_wrong_override_blames_the_command_line(overrides: list[str], origin: str) -> None:
    with pytest.raises(UserError) as refused:
        load_config(REFERENCE, overrides)
    assert str(refused.value).startswith(origin)


def test_a_wrong_file_is_blamed_itself(tmp_path: Path) -> None:
    wrong = CONFIG_YAML + "optimizer:\n  beta1: fast\n"
    assert refused(tmp_path, wrong, "optimizer.beta2=0.9").startswith("config.yaml: optimizer.beta1")
    both = refused(tmp_path, wrong, "optimizer.beta2=slow")
    assert both.startswith("config.yaml: optimizer.beta1")
    assert "command line: optimizer.beta2" in both


def test_the_length_that_the_command_line_gives_clears_the_other_of_the_file() -> None:
    assert load_config(REFERENCE).training.epochs is not None
    training = load_config(REFERENCE, ["training.steps=20"]).training
    assert (training.steps, training.epochs) == (20, None)
    single = next(path for path in CONFIGS if load_config(path).training.epochs is not None)
    assert load_config(single, ["training.epochs=2"]).training.epochs == 2


def test_one_value_is_a_list_of_one(tmp_path: Path) -> None:
    data = load_config(REFERENCE, ["data.train=mine.csv", "data.datasets=DR", "data.validation=sample:val"]).data
    assert (data.train, data.datasets, data.validation) == (("mine.csv",), ("DR",), ("sample:val",))
    kind = load_config(CLASSIFIER, ["objective.test=rows.csv"]).objective
    assert kind.test == ("rows.csv",)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective.input=label"], r"objective\.input: Input should be 'post', 'explanation' or 'response'"),
        (["objective.class_weights=[1, 2]"], r"objective\.class_weights: Input should be 'none' or 'balanced'"),
        (["objective.inptu=post"], r"unknown key objective\.inptu; did you mean objective\.input\?"),
        (["evaluation.generate_rows=3"], r"generate_rows 3: an encoder writes no answers; set it to 0"),
        (["evaluation.metric=label_f1"], r"metric label_f1 needs evaluation\.generate_rows"),
        (["data.validation=[]", "evaluation.patience=null"], r"weighted_f1 needs data\.validation"),
        (["model.offload=true"], r"model\.offload: an encoder keeps its tensors"),
        (["model.remat=auto"], r"model\.remat auto is chosen for a LLaMA only; set none or full"),
        (["training.run_dir=gs://bucket/run"], r"run_dir gs://bucket/run: the run of a classifier is kept in a folder"),
    ],
)
def test_a_wrong_config_of_a_classifier_is_one_clear_line(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        load_config(CLASSIFIER, overrides)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.style=chat"], r"data\.style chat: an encoder-decoder reads a question .* set completion or plain"),
        (["model.offload=true"], r"model\.offload: an encoder-decoder keeps its tensors"),
        (["model.remat=auto"], r"model\.remat auto is chosen for a LLaMA only; set none or full"),
        (["objective.target_length=1"], r"objective\.target_length: .*greater than or equal to 2"),
        (["evaluation.metric=weighted_f1"], r"weighted_f1 goes with objective\.kind classification"),
    ],
)
def test_a_wrong_config_of_an_encoder_decoder_is_one_clear_line(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        load_config(SEQUENCE, overrides)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("path", "overrides", "message"),
    [
        (PAIRS, ["objective.loss_type=robust"], r"label_smoothing 0: objective\.loss_type robust needs one above 0"),
        (PAIRS, ["objective.label_smoothing=0.1"], r"loss_type sigmoid reads none"),
        (PAIRS, ["objective.loss_type=ipo", "objective.length_normalised=true"], r"ipo divides by lengths already"),
        (PAIRS, ["evaluation.generate_rows=8"], r"pairs are not asked"),
        (PAIRS, ["data.layout=bucketed"], r"two answers of a pair share a row"),
        (PAIRS, ["data.datasets=[DR]"], r"choose pairs where they are made"),
        (PAIRS, ["data.balance_labels=true"], r"choose pairs where they are made"),
        (PAIRS, ["evaluation.metric=rewards/accuracies"], r"needs data\.validation"),
        (PAIRS, ["evaluation.metric=reward"], r"metric reward goes with objective\.kind grpo"),
        (PAIRS, ["objective.loss_type=sft", "objective.beta=0.3"], r"objective\.beta 0\.3: sft .* reads none"),
        (
            PAIRS,
            ["objective.loss_type=sft", "data.validation=[p.jsonl]", "evaluation.metric=rewards/accuracies"],
            r"sft compares no answers; choose validation_loss",
        ),
        (PAIRS, ["data.repair_mojibake=true"], r"repair records before they are paired"),
        (POLICY, ["objective.beta=0", "objective.use_bias_correction_kl=false"], r"divergence that objective\.beta 0"),
        (POLICY, ["objective.rewards={}"], r"rewards is empty"),
        (POLICY, ["training.batch_size=20"], r"not whole groups of objective\.num_generations 8"),
        (POLICY, ["evaluation.max_new_tokens=768"], r"leave no room for a prompt"),
        (POLICY, ["evaluation.generate_rows=0"], r"give both or neither"),
        (POLICY, ["evaluation.metric=validation_loss"], r"choose reward or label_f1"),
        (POLICY, ["mesh.sequence=2"], r"sampled token by token"),
        (POLICY, ["training.batch_unit=rows"], r"batch_unit examples and data\.layout packed"),
        (DOCUMENTS, ["evaluation.metric=rewards/accuracies"], r"goes with objective\.kind dpo"),
    ],
)
def test_a_wrong_config_of_preference_tuning_is_one_clear_line(path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        load_config(path, overrides)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "expected sections"),
        (b"- a\n- b\n", "expected sections"),
        (b"model: [", "not valid YAML"),
        (b"model: \xff\xfe", "byte 7 is not UTF-8"),
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


CONFIG_YAML = """\
model:
  source: toy
data:
  train: [sample]
training:
  run_dir: run
  steps: 1
"""


def read(tmp_path: Path, text: str | bytes, *overrides: str) -> RunConfig:
    path = tmp_path / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return load_config(path, overrides)


def refused(tmp_path: Path, text: str | bytes, *overrides: str) -> str:
    with pytest.raises(UserError) as raised:
        read(tmp_path, text, *overrides)
    message = str(raised.value)
    assert message.isprintable()
    assert len(message.removeprefix(str(tmp_path))) < 300
    return message.removeprefix(f"{tmp_path}/")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training:\n  steps: 9\n", "config.yaml, line 8: the key 'training' stands twice"),
        ("  steps: 9\n", "config.yaml, line 8: the key 'steps' stands twice"),
        ("  seed: !!int x\n", "line 8: tags such as 'tag:yaml.org,2002:int' are not read"),
        ("  seed: !!python/object/apply:os.system [id]\n", "line 8: tags"),
        ("  seed: !!binary '%%'\n", "line 8: tags"),
        ("  seed: !mine 3\n", "line 8: tags"),
        ("  seed: &seed 3\n", "line 8: anchors"),
        ("  seed: *seed\n", "line 8: anchors"),
        ("  <<: {seed: 3}\n", "line 8: a key has to be a plain text"),
        ("  ? [a]\n  : 3\n", "line 8: a key has to be a plain text"),
        ("  seed: " + "[" * 100_000, "line 8: nested more than 20 deep"),
        ("  seed: " + "9" * 5000, "line 8: a number of 5,000 digits is too long"),
        ("  epochs: .nan\n", "line 8: .nan is not a finite number"),
        ("  epochs: -.inf\n", "line 8: -.inf is not a finite number"),
        ("  epochs: 1e999\n", "line 8: '1e999' is too large"),
        ('  run: "\\ud800"\n', "line 8: a text holds a character that cannot be printed"),
        ('  run: "\\x1b[31m"\n', "line 8: a text holds a character that cannot be printed"),
        ("  run: \ud800\n", "not valid YAML (byte 88 is not UTF-8)"),
        ("  run: \0\n", "not valid YAML (it holds a character that YAML does not allow)"),
        ("\tseed: 3\n", "line 8: not valid YAML (found character"),
        ("---\na: 1\n", "line 8: not valid YAML (but found another document)"),
        ("# " + "x" * 2_000_000, "longer than 1 MiB"),
    ],
)
def test_what_yaml_would_take_silently_or_die_of_is_refused_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    assert message in refused(tmp_path, CONFIG_YAML + text)


def test_a_bomb_of_aliases_is_refused_at_its_first_line(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 50))]
    assert "line 1: anchors" in refused(tmp_path, "\n".join([*lines, CONFIG_YAML]))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("evaluation.generate_rows", "true", "evaluation.generate_rows: Input should be a valid integer"),
        ("evaluation.generate_rows", "yes", "evaluation.generate_rows: Input should be a valid integer"),
        ("evaluation.generate_rows", "4.0", "evaluation.generate_rows: Input should be a valid integer"),
        ("evaluation.generate_rows", '"4"', "evaluation.generate_rows: Input should be a valid integer"),
        ("training.seed", "010", "training.seed: Input should be a valid integer"),
        ("training.seed", "1:30", "training.seed: Input should be a valid integer"),
        ("training.seed", "0x10", "training.seed: Input should be a valid integer"),
        ("training.seed", "1_000", "training.seed: Input should be a valid integer"),
        ("training.seed", "2024-01-01", "training.seed: Input should be a valid integer"),
        ("training.seed", "9223372036854775808", "training.seed: Input should be less than"),
        ("training.seed", "-9223372036854775809", "training.seed: Input should be greater than or equal to -9"),
        ("data.weights", "{DR: 2000}", "data.weights.DR: Input should be less than or equal to 1000"),
        ("model.offload", "1", "model.offload: Input should be a valid boolean (true or false)"),
        ("model.offload", "yes", "model.offload: Input should be a valid boolean (true or false)"),
        ("optimizer.learning_rate", "true", "optimizer.learning_rate: Input should be a valid number"),
        ("optimizer.learning_rate", ".nan", ".nan is not a finite number"),
        ("optimizer.learning_rate", "!!float x", "tags"),
        ("optimizer.beta2", "1", "optimizer.beta2: Input should be less than 1"),
        ("optimizer.beta1", "1.0", "optimizer.beta1: Input should be less than 1"),
        ("optimizer.weight_decay", "-1", "optimizer.weight_decay: Input should be greater"),
        ("data.weights", "{DR: .inf}", "inf is not a finite number"),
        ("data.weights", "{DR: 1, DR: 2}", "the key 'DR' stands twice"),
        ("data.max_length", "1000000000000", "data.max_length: Input should be less than or equal to 1048576"),
        ("training.steps", "1000000000000", "training.steps: Input should be less than or equal to 1000000000"),
        ("training.micro_batch_rows", "65536", "more than 268,435,456 tokens at once"),
        ("model.source", "3", "model.source: Input should be a valid string"),
        ("model.source", "x" * 5000, "model.source is 'xxx"),
        ("model.remat", "[attention, x]", "model.remat"),
        ("data.datasets", "[" * 3000, "nested more than 20 deep"),
    ],
)
def test_a_value_is_of_the_kind_that_it_looks_like(tmp_path: Path, key: str, value: str, message: str) -> None:
    text = CONFIG_YAML + "optimizer: {}\n" if key.startswith("optimizer") else CONFIG_YAML
    large = ("training.batch_size=65536", "data.max_length=8192") if "micro" in key else ()
    assert message in refused(tmp_path, text, *large, f"{key}={value}")


@pytest.mark.parametrize("word", ["no", "on", "2024-01-01", "1:30", "0x10", "007", "1_000", "=", "a:b", "~x"])
def test_a_word_is_a_text_where_a_text_is_wanted(tmp_path: Path, word: str) -> None:
    assert read(tmp_path, CONFIG_YAML, f"training.run_dir={word}").training.run_dir == word


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-5", 1e-5), ("3E+0", 3.0), ("1", 1.0), (".5", 0.5), ("1.", 1.0), ("+2.5e-3", 2.5e-3), ("1.0e-05", 1e-5)],
)
def test_numbers_may_be_written_in_every_usual_way(tmp_path: Path, text: str, value: float) -> None:
    assert read(tmp_path, CONFIG_YAML, f"optimizer.learning_rate={text}").optimizer.learning_rate == value


def test_an_emptied_section_takes_its_defaults(tmp_path: Path) -> None:
    text = CONFIG_YAML + "optimizer:\n  # learning_rate: 1\nmesh:\ncheckpoint: null\n"
    assert read(tmp_path, text) == read(tmp_path, CONFIG_YAML)
    assert read(tmp_path, text, "optimizer.beta1=0.5").optimizer.beta1 == 0.5
    assert "model.source: Field required" in refused(tmp_path, CONFIG_YAML.replace("  source: toy\n", ""))


def test_many_problems_are_one_short_line(tmp_path: Path) -> None:
    message = refused(tmp_path, CONFIG_YAML + "".join(f"key{number}: 1\n" for number in range(500)))
    assert message.endswith("; and 497 more")
    keys = [f"\x1b[{number}m" for number in range(3)] + ["k" * 100_000]
    with pytest.raises(UserError) as raised:
        parse_config(MINIMAL | dict.fromkeys(keys, 1), "config.json")
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("override", ["=1", ".seed=1", "training.=1", "a..b=1", "x" * 10_000 + "=1", "\x1b[31m=1", "a"])
def test_an_override_that_is_none_is_one_short_line(tmp_path: Path, override: str) -> None:
    refused(tmp_path, CONFIG_YAML, override)


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is a named pipe, not a file"):
        load_config(tmp_path / "pipe")


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
    classes = {section.__name__: name for section, name in section_classes().items()}
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
        if path.parent.name != "config":
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


def test_the_home_directory_is_written_out_in_every_key_that_names_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    places = {"train": ["~/a"], "validation": ["~/a"], "drop_posts_in": ["~/a"], "cache_dir": "~/a"}
    data = parse_config(MINIMAL | {"data": places}, "test").data
    assert (data.train, data.validation, data.drop_posts_in, data.cache_dir) == (*[("/home/me/a",)] * 3, "/home/me/a")
    training = MINIMAL["training"] | {"run_dir": "~/run", "compile_cache_dir": "~/xla"}
    config = parse_config(MINIMAL | {"training": training, "model": {"source": "~/m", "tokenizer": "~/t"}}, "test")
    assert (config.training.run_dir, config.training.compile_cache_dir) == ("/home/me/run", "/home/me/xla")
    assert (config.model.source, config.model.tokenizer) == ("/home/me/m", "/home/me/t")


class Plain(Section):
    kind: Literal["plain"] = "plain"
    weight: float = 1.0


class Ranked(Section):
    kind: Literal["ranked", "rated"]
    margin: float = 0.5
    pairs: int = 2


class Study(Section):
    """A root as another command may have it: one of its sections is of several kinds."""

    objective: Annotated[Plain | Ranked, Field(discriminator="kind")] = Field(default_factory=Plain)
    title: str = ""


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"objective": {"kind": "rankd"}}, "objective.kind: there is no 'rankd'; there are: plain, ranked, rated"),
        ({"objective": {"margin": 1}}, "objective.kind: missing; there are: plain, ranked, rated"),
        ({"objective": {"kind": "ranked", "margn": 1}}, "unknown key objective.margn; did you mean objective.margin?"),
        ({"objective": {"kind": "rated", "pairs": "x"}}, "objective.pairs: Input should be a valid integer"),
        (
            {"objective": {"kind": "plain", "margin": 1}},
            "unknown key objective.margin; it goes with objective.kind=ranked",
        ),
        ({"objective": 3}, "objective: Input should be a valid dictionary or object"),
        ({"titel": "x"}, "unknown key titel; did you mean title?"),
    ],
)
def test_a_section_of_several_kinds_is_explained(values: dict, said: str) -> None:
    with pytest.raises(UserError, match=f"^study: {re.escape(said)}"):
        validate(Study, values, "study")


def test_keys_of_the_chosen_kind_alone_are_suggested() -> None:
    assert list(known_keys(Study)) == [
        *("objective", "objective.kind", "objective.weight", "objective.margin", "objective.pairs", "title")
    ]
    chosen = list(known_keys(Study, {"objective": {"kind": "plain"}}))
    assert chosen == ["objective", "objective.kind", "objective.weight", "title"]


def test_another_root_is_read_from_a_file_with_overrides(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("objective: {kind: ranked}\n")
    study = read_config(Study, tmp_path / "study.yaml", ["objective.pairs=3", "title=one"])
    assert study == Study(objective=Ranked(kind="ranked", pairs=3), title="one")
    assert validate(Study, study.model_dump(mode="json"), "again") == study
    assert read_config(Study, tmp_path / "study.yaml", ["objective.kind=rated"]).objective.kind == "rated"
