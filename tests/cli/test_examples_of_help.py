"""Every example of every --help runs in a folder where stand-ins of what it names lie.

What takes a model or an endpoint runs up to the call of its job, whose arguments must fit the job; the rest runs whole.
"""

import argparse
import csv
import importlib
import inspect
import itertools
import json
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mentallama_jax.cli.main import build_parser, main
from mentallama_jax.config import load_config
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.data_files.writers import write_records, write_release
from mentallama_jax.imhi.disguise.disguise_key import new_key
from mentallama_jax.imhi.predictions import answer_to, label_answer
from mentallama_jax.imhi.records import Record
from mentallama_jax.jobs.annotate import annotate
from mentallama_jax.jobs.answer import Answerer
from mentallama_jax.jobs.score import score
from mentallama_jax.planning.recipe import Assumptions, assumed_recipe, assumed_tokens

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "mentallama_jax/imhi/sample"
PACKAGE = "mentallama_jax"


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """It, and those of its subcommands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


def examples(epilog: str) -> list[str]:
    """The commands that it shows; what stands behind two blanks explains them, and output goes nowhere."""
    lines = re.sub(r" *\\\n *", " ", epilog).splitlines()
    shown = [line.strip() for line in lines if line.strip().startswith("mentallama ")]
    return [re.split(r"\s{2,}| > ", line)[0] for line in shown]


EXAMPLES = sorted({example for parser in parsers(build_parser()) for example in examples(parser.epilog or "")})

JOBS = (
    (r"train ", "jobs.tune.tune"),
    (r"transfer ", "jobs.transfer.transfer"),
    (r"generate .* --post ", "jobs.answer.Answerer.answers"),
    (r"generate .* --distributed", "parallel.processes.joined"),
    (r"generate ", "jobs.answer.answer"),
    (r"serve ", "jobs.serve.open_service"),
    (r"study .*--dry-run", "jobs.run_study.plan_study"),
    (r"study ", "jobs.run_study.run_study"),
    (r"probe (\w+)", r"jobs.probe.probe_\1"),
    (r"export ", "jobs.export.export"),
    (r"bench step ", "planning.measure.measure_step"),
    (r"bench generate ", "planning.measure.measure_generation"),
    (r"plan .*--(?:generate)", "planning.answering.compile_job"),
    (r"plan --score ", "planning.scoring.compile_job"),
    (r"plan ", "planning.plan.compile_job"),
    (r"ask ", "jobs.ask.ask_about"),
    (r"data explain .* --endpoint ", "jobs.explanation_answers.endpoint_explanations"),
    (r"data explain ", "jobs.explanation_answers.local_explanations"),
    (r"data disguise .* --paraphrase ", "jobs.paraphrase_posts.paraphrase_records"),
    (r"data build hub:", "imhi.data_files.sources.load_parts"),
    (r"data convert hub:", "imhi.data_files.sources.load_parts"),
    (r".* --metrics (?:embedding|bartscore)", "jobs.open_scorers.open_model_metrics"),
    (r".* --classifiers ", "jobs.classified_outputs.open_classifiers"),
    (r"quickstart", "cli.quickstart_command._run_all"),
)
"""Where an example ends that takes a model, a network or minutes: the first row that fits."""


class ReachedError(Exception):
    """The job of an example is called as it can be called."""


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, result: Any = None) -> None:
    """Put a function in the place of one with the same arguments: it returns something, or ends the example."""
    owner, _, last = f"{PACKAGE}.{name}".rpartition(".")
    try:
        place = importlib.import_module(owner)
    except ModuleNotFoundError:
        module, _, kind = owner.rpartition(".")
        place = getattr(importlib.import_module(module), kind)
    signature = inspect.signature(getattr(place, last))

    def called(*arguments: Any, **named: Any) -> Any:
        bound = signature.bind(*arguments, **named)
        if result is None:
            raise ReachedError(name)
        return result(*bound.args)

    monkeypatch.setattr(place, last, called)


def answerer(model: str) -> Any:
    """What `generate` asks of one before it answers."""
    opened = SimpleNamespace(name=model)
    made = SimpleNamespace(opened=opened, style="plain", style_reason="told so", on_mesh=nullcontext, mesh=None)
    made.answers = partial(Answerer.answers, made)
    return made


def end_of(example: str) -> str:
    """The job that ends the example; "" where it runs whole."""
    words = example.removeprefix("mentallama ") + " "
    for pattern, job in JOBS:
        if found := re.match(pattern, words):
            return found.expand(job)
    return ""


def write_answers(path: Path, records: Sequence[Record], number: int = 0, *, quoting: bool = False) -> None:
    """Predictions of a system, right for one label of each task, and each file with other bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    answers = [answer_to(row, row.task.sentences[row.task.labels[number % 2]]) for row in records]
    if quoting:
        reason = ' Reasoning: The post says "{}".'
        answers = [answer_to(row, row.task.sentences[row.label] + reason.format(row.post[:40])) for row in records]
    path.write_text("".join(answer.to_line() for answer in answers) + "\n" * number, encoding="utf-8")


def write_tables(folder: Path) -> None:
    """Files of other people, with the columns that the examples name."""
    posts = [f"{word} is all that I think of at night, day {day}." for day in range(6) for word in ("work", "rain")]
    names = "post,text,label,class,diagnosis,present,symptom\n"
    for name, labels in (("posts", "yes no"), ("spiritual", "yes no"), ("other", "1 2"), ("mine", "school work")):
        ways = [(f'"{post}"', labels.split()[number % 2], number % 3) for number, post in enumerate(posts)]
        rows = [",".join([post, post, label, label, label, label, f"symptom {of}"]) for post, label, of in ways]
        (folder / f"{name}.csv").write_text(names + "\n".join(rows) + "\n")
    alpaca = [{"instruction": "Is the poster depressed?", "input": post, "output": "Yes."} for post in posts]
    (folder / "alpaca.json").write_text(json.dumps(alpaca))
    for name, second in (("DR_llama3", "Yes."), ("DR_theirs", "No.")):
        (folder / f"{name}.csv").write_text(f"answer,output\nyes,Yes.\nno,{second}\n")
    (folder / "model_output").mkdir()
    (folder / "model_output/DR.csv").write_text("goldens,generated_text\nyes,Yes.\nno,No.\n")
    (folder / "prices.yaml").write_text("gpt-4o-mini: {in: 0.15, out: 0.6}\n")
    (folder / "names.yaml").write_text("'1': school\n'2': work\n")
    (folder / "data/text").mkdir(parents=True)
    (folder / "data/text/book.txt").write_text("The first line of a text.\n\nAnother one, a little longer.\n" * 20)


def write_marks(folder: Path, records: Sequence[Record]) -> None:
    """Marks of three people as they are released, with the posts of records."""
    lines = ["text,label,model,fluency,completeness,reliability,overall"]
    for number, record in enumerate(records):
        post = record.post.replace('"', "'")
        marks = [f'"[{number % 4}, 1, 2]"'] * 4
        lines.append(",".join([f'"{post}"', str(int(record.label == "yes")), f"Because of {number} words.", *marks]))
    (folder / "human_evaluation/DR_annotation").mkdir(parents=True)
    for name in ("human_evaluation/DR_annotation/marks.csv", "marks.csv"):
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_foreign_logs(folder: Path, record: Record) -> None:
    """What lm-evaluation-harness and an endpoint's batches leave."""
    prompt = "Does the poster suffer from depression?"
    sample = {
        "doc_id": 0,
        "doc": {"post": record.post},
        "target": "yes",
        "arguments": {"gen_args_0": {"arg_0": prompt}},
    }
    sample |= {"resps": [["Yes."]], "filtered_resps": ["Yes."], "filter": "none"}
    (folder / "results/my_model").mkdir(parents=True)
    (folder / "results/my_model/samples_imhi_DR_2026-01-01T00.jsonl").write_text(json.dumps(sample) + "\n")
    body = {"choices": [{"message": {"content": "No."}}]}
    batch = {"custom_id": record.id, "response": {"status_code": 200, "body": body}}
    (folder / "batch_output.jsonl").write_text(json.dumps(batch) + "\n")


def write_plan(path: Path) -> None:
    """What `plan --json` says of the 7B, as far as `bench` reads it."""
    config = load_config(ROOT / "configs/llama2-7b.yaml", [])
    recipe = assumed_recipe(config, Assumptions(mean_tokens=assumed_tokens(config)))
    rows, length = config.training.micro_batch_rows, config.data.max_length
    plan = {"seconds": {"update": [1, 2]}, "topology": "v5e-64", "devices": 64, "mesh": {}}
    plan |= {"micro_batches": recipe.micro_batches(rows), "micro_batch_rows": rows, "row_length": length}
    path.write_text(json.dumps([plan]))


def write_study(folder: Path, records: Sequence[Record]) -> None:
    """A study of human marks that three people have filled in."""
    write_records(folder / "explained/kept.jsonl", records)
    write_answers(folder / "explained/predictions.jsonl", records)
    annotate([folder / "tuned.jsonl", folder / "base.jsonl"], [folder / "data/imhi:test"], folder / "study", rows=9)
    (folder / "filled").mkdir()
    for path in (folder / "study").glob("annotator_*.csv"):
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
        for number, row in enumerate(rows):
            row |= {
                name: str(number % 4) for name, value in row.items() if not value and name not in ("item", "comment")
            }
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        shutil.copy(path, folder / "filled")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that examples run in a copy of."""
    folder = tmp_path_factory.mktemp("examples") / "folder"
    folder.mkdir()
    (folder / "configs").symlink_to(ROOT / "configs")
    write_tables(folder)
    rows = {split: read_records([f"sample:{split}"]).records for split in ("train", "val", "test")}
    few = [*rows["train"][::5], *rows["val"], *rows["test"][::2]]
    test = [row for row in few if row.split == "test"]
    for place in ("data/imhi/rows.jsonl", "DATA/rows.jsonl"):
        write_records(folder / place, few)
    for name in ("data/dr.jsonl", "mine.jsonl"):
        write_records(folder / name, [row for row in few if row.dataset == "DR"])
    write_release(folder / "experts", [row for row in few if row.dataset == "DR" and row.split == "train"])
    shutil.copy(folder / "experts/train_data/instruction_data/DR/train.csv", folder / "experts/DR.csv")
    several = ("predictions", "base", "tuned", "seed0", "seed1", "seed2", "s0", "s1", "s2", "gpt")
    others = ("predictions/toy.jsonl", "predictions/tfidf.jsonl")
    for number, name in enumerate((*(f"{name}.jsonl" for name in several), *others)):
        write_answers(folder / name, test, number)
    for number, name in enumerate(("a", "b", "c", "predictions/sampled")):
        train = [row for row in few if row.split == "train"]
        write_answers(folder / f"{name}.jsonl", train, number, quoting=name != "b")
    for name, part in (("test", test), ("validation", [row for row in few if row.split == "val"])):
        scored = [label_answer(row, [-1.0 - place for place in range(len(row.task.labels))]) for row in part]
        (folder / f"{name}.jsonl").write_text("".join(row.to_line() for row in scored), encoding="utf-8")
    for name in ("models/llama2", "models/chat"):
        shutil.copytree(SAMPLE / "tokenizer", folder / name)
    for name in ("RUN", "runs/seed0", "runs/seed1"):
        (folder / name).mkdir(parents=True)
        (folder / name / "metrics.jsonl").write_text('{"kind": "train", "step": 1, "loss": 2.0}\n')
    assert (
        main(
            [
                "data",
                "new-task",
                str(folder / "posts.csv"),
                "--label-column",
                "diagnosis",
                "--out",
                f"{folder}/sleep.yaml",
            ]
        )
        == 0
    )
    shutil.copy(folder / "sleep.yaml", folder / "my-task.yaml")
    write_plan(folder / "plan.json")
    of_dr = [row for row in test if row.dataset == "DR"]
    write_foreign_logs(folder, of_dr[0])
    write_marks(folder, of_dr)
    write_study(folder, test)
    for name in ("scores", "scores/base", "scores/tuned", "SCORES_A", "SCORES_B"):
        score([folder / ("base.jsonl" if name in ("scores/base", "SCORES_B") else "tuned.jsonl")], folder / name)
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is the working directory, with stand-ins of all jobs that end an example."""
    shutil.copytree(template, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    (tmp_path / "keys").mkdir()
    new_key(tmp_path / "keys/imhi.key")
    for _, job in JOBS:
        for name in ("faithfulness", "fairness", "robustness") if "\\1" in job else ("",):
            stand_in(monkeypatch, job.replace("\\1", name))
    stand_in(monkeypatch, "jobs.answer.open_answerer", answerer)
    stand_in(monkeypatch, "jobs.answer_sequences.open_sequence_answerer", lambda opened: answerer("bart"))
    stand_in(monkeypatch, "jobs.open_sequence.open_sequence", lambda name: object() if "bart" in name else None)
    return tmp_path / "here"


PLACEHOLDERS = {"PREDICTIONS": "predictions.jsonl", "OTHERS": "base.jsonl", "URL": "http://localhost:8000/v1"}
"""What a person puts for the words in capitals that are no folder here."""


def words_of(example: str, folder: Path) -> list[str]:
    """Its words as a shell gives them; nothing is where it is to write."""
    words = [PLACEHOLDERS.get(word, word).replace("gs://BUCKET/", "") for word in shlex.split(example)[1:]]
    for option, value in itertools.pairwise(words):
        if option in ("--out", "--new-key"):
            place = Path(value).expanduser()
            if place.is_dir():
                shutil.rmtree(place)
            place.unlink(missing_ok=True)
    return [name for word in words for name in (sorted(map(str, Path().glob(word))) if "*" in word else [word])]


NEEDS = (("rouge", "rouge_score"), ("bleu", "sacrebleu"), ("tfidf --", "sklearn"), (" ask ", "openai"))
"""Words of examples that take an extra, and a module of it."""


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs(example: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for word, module in NEEDS:
        if word in example and find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    words = words_of(example, folder)
    if job := end_of(example):
        with pytest.raises(ReachedError, match=f"^{re.escape(job)}$"):
            main(words)
        return
    assert main(words) == 0, capsys.readouterr().err
