"""The benchmark and a small model under the real lm-evaluation-harness, where it is installed."""

import ast
import json
import sys
import textwrap
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import mentallama_jax.harness
from mentallama_jax.cli.main import main
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.correctness import evaluate
from mentallama_jax.evaluation.foreign_outputs.gold_rows import gold_rows
from mentallama_jax.evaluation.foreign_outputs.read_as import ReadAs
from mentallama_jax.evaluation.label_readers import RULES
from mentallama_jax.evaluation.reading import read_predictions
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.harness.task_folder import write_tasks
from mentallama_jax.harness.task_functions import answer_scores, document, know_tasks
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.task_files.kept_tasks import kept_tasks
from mentallama_jax.imhi.tasks import TASKS, own_tasks

SAMPLE_TOKENIZER = Path(__file__).resolve().parents[2] / "mentallama_jax" / "imhi" / "sample" / "tokenizer"
RECORDS = [
    record for record in read_records(["sample:test"]).records if record.dataset in ("DR", "SAD", "IRF")
]  # two labels, nine labels, aspects


def test_a_folder_of_tasks_holds_every_data_set_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "lm-eval-tasks", "--data", "sample:test", "--out", str(tmp_path / "t")]) == 0
    files = {path.name for path in (tmp_path / "t").iterdir()}
    configs = {f"imhi_{name}{kind}.yaml" for name in TASKS for kind in ("", "_choice")}
    assert files == configs | {"_imhi.yaml", "_imhi_choice.yaml", "records.jsonl", "utils.py"}
    assert "custom_dataset: !function" in (tmp_path / "t" / "imhi_DR.yaml").read_text()
    assert "20 tasks" in capsys.readouterr().out
    with pytest.raises(UserError, match="exists already"):
        write_tasks(tmp_path / "t", RECORDS)


def test_the_package_says_how_a_program_uses_it_in_names_that_there_are() -> None:
    text = textwrap.dedent(
        (mentallama_jax.harness.__doc__ or "").partition("itself:\n")[2].partition("`task_folder")[0]
    )
    program = ast.parse(text)
    for node in (node for node in program.body if isinstance(node, ast.ImportFrom)):
        if str(node.module).startswith("mentallama_jax") or find_spec("lm_eval"):
            module = import_module(str(node.module))
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
    assert "mentallama_jax.harness" in (mentallama_jax.__doc__ or "")
    assert write_tasks.__module__ == "mentallama_jax.harness.task_folder"


def test_answers_are_read_as_evaluate_reads_them() -> None:
    record = next(record for record in RECORDS if record.dataset == "DR" and record.label == "yes")
    doc = document(record)
    assert TASKS["DR"].labels[doc["gold"]] == "yes"
    for text, acc, unparsed in (("Yes, they do.", 1, 0), ("No.", 0, 0), ("Who knows?", 0, 1)):
        assert answer_scores(doc, [text]) == {"acc": acc, "unparsed": unparsed}


def test_a_folder_keeps_tasks_of_ones_own(tmp_path: Path) -> None:
    own = replace(TASKS["DR"], name="sleep", aliases=(), english=None, question="Does the poster sleep?")
    with own_tasks([own]):
        write_tasks(tmp_path / "t", [Record("1", "sleep", "a post", "yes"), RECORDS[0]])
    assert kept_tasks(tmp_path / "t") == (own,)
    assert "know_tasks(Path(__file__).parent)" in (tmp_path / "t" / "utils.py").read_text()
    with own_tasks([]):  # which takes what becomes known inside away
        know_tasks(tmp_path / "t")
        assert answer_scores({"dataset": "sleep", "aspect": "", "label": "no"}, ["no"])["acc"] == 1
    assert "sleep" not in TASKS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("lm_eval", reason="needs the extra harness")
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "generation"))
    from tiny_decoder import random_params, shape

    from mentallama_jax.formats.hf_folder import save_hf
    from mentallama_jax.formats.model_card import ModelCard
    from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer

    folder = tmp_path_factory.mktemp("models") / "tiny"
    config = shape(vocab_size=1024, num_layers=1, max_positions=512)
    tokenizer = load_tokenizer(SAMPLE_TOKENIZER)
    save_hf(folder, config, random_params(config), tokenizer, card=ModelCard("tiny", "org/base", base_is_hub_id=True))
    return folder


@pytest.fixture(scope="module")
def results(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of the logs, and the figures of the harness by task."""
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    from mentallama_jax.harness.registration import register

    register()
    folder = tmp_path_factory.mktemp("harness")
    names = write_tasks(folder / "tasks", RECORDS, max_new_tokens=8)
    tracker = EvaluationTracker(output_path=str(folder / "results"))
    found = simple_evaluate(
        model="mentallama",
        model_args={"model": str(model)},
        tasks=names,
        batch_size=4,
        evaluation_tracker=tracker,
        task_manager=TaskManager(include_path=str(folder / "tasks"), include_defaults=False),
        bootstrap_iters=0,
    )
    samples = found.pop("samples")
    tracker.save_results_aggregated(results=found, samples=samples)
    for name in names:
        tracker.save_results_samples(task_name=name, samples=samples[name])
    return folder, found["results"]


def logs(results: tuple[Path, dict[str, Any]], task: str) -> Path:
    (found,) = (results[0] / "results").rglob(f"samples_{task}_2*.jsonl")
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("task", [f"imhi_{name}{kind}" for name in ("DR", "SAD", "IRF") for kind in ("", "_choice")])
def test_its_log_is_read_back_with_equal_accuracy(results: tuple[Path, dict[str, Any]], task: str) -> None:
    found = read_predictions(logs(results, task))
    assert {row.id for row in found.rows} == {row.id for row in RECORDS if row.dataset == task.split("_")[1]}
    assert not found.left_out
    assert found.posts_known
    scores = evaluate(found, reader=RULES, settings=IntervalSettings())
    assert scores.pooled.accuracy == pytest.approx(results[1][task]["acc,none"])
    assert {row.aspect for row in found.rows} == {row.aspect for row in RECORDS if row.dataset == task.split("_")[1]}
    joined = read_predictions(logs(results, task), ReadAs(gold=gold_rows("sample:test")))
    assert [(row.id, row.label, row.post_id) for row in joined.rows] == [
        (row.id, row.label, row.post_id) for row in found.rows
    ]


@pytest.mark.filterwarnings("ignore")
def test_log_likelihoods_are_those_of_score_labels(
    results: tuple[Path, dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    words = ["generate", str(model), "--data", "sample:test", "--score-labels", "--out", str(tmp_path / "p.jsonl")]
    assert main(words) == 0
    own = {row.id: row.label_log_probabilities for row in read_predictions(tmp_path / "p.jsonl").rows}
    compared = 0
    for name in ("DR", "SAD", "IRF"):
        for row in read_predictions(logs(results, f"imhi_{name}_choice")).rows:
            sums = {label: each["sum"] for label, each in (own[row.id] or {}).items()}
            theirs = {label: each["sum"] for label, each in (row.label_log_probabilities or {}).items()}
            assert theirs == pytest.approx(sums, abs=1e-4)
            compared += len(sums)
    assert compared > 20


@pytest.mark.filterwarnings("ignore")
def test_generated_answers_are_those_of_generate(
    results: tuple[Path, dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    words = ["generate", str(model), "--data", "sample:test", "--max-new-tokens", "8", "--out"]
    assert main([*words, str(tmp_path / "p.jsonl")]) == 0
    own = {row.id: row.generated_text for row in read_predictions(tmp_path / "p.jsonl").rows}
    for name in ("DR", "SAD", "IRF"):
        lines = logs(results, f"imhi_{name}").read_text("utf-8").splitlines()
        assert {doc["doc"]["id"]: doc["resps"][0][0].strip() for doc in map(json.loads, lines)} == {
            row.id: own[row.id] for row in RECORDS if row.dataset == name
        }


@pytest.mark.filterwarnings("ignore")
def test_greedy_and_rolling_log_likelihoods(model: Path) -> None:
    from lm_eval.api.instance import Instance

    from mentallama_jax.harness.language_model import MentallamaLM

    lm = MentallamaLM(model=str(model), batch_size="auto", device=None)

    def requests(kind: str, *arguments: tuple[str, ...]) -> list[Instance]:
        return [Instance(kind, {}, each, place) for place, each in enumerate(arguments)]

    context = "The cat sat on"
    ((total, _),) = lm.loglikelihood(requests("loglikelihood", (context, " the mat")), disable_tqdm=True)
    (whole,) = lm.loglikelihood_rolling(requests("loglikelihood_rolling", (f"{context} the mat",)))
    (start,) = lm.loglikelihood_rolling(requests("loglikelihood_rolling", (context,)))
    assert whole - start == pytest.approx(total, abs=1e-3)
    with pytest.raises(UserError, match="leave out --apply_chat_template"):
        lm.apply_chat_template([])
    with pytest.raises(UserError, match="knows no argument colour"):
        MentallamaLM(model=str(model), colour="red")
    (text,) = lm.generate_until(requests("generate_until", (context, {"until": [], "max_gen_toks": 4})))
    first = text[: max(1, len(text) // 2)]
    (cut,) = lm.generate_until(
        requests("generate_until", (context, {"until": [text[len(first) :]], "max_gen_toks": 4}))
    )
    assert cut == text.split(text[len(first) :])[0]
