"""Every figure of the pages is traced: to a file, a place in it, and the predictions that it was made of."""

import copy
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from stand_ins import CONFIG, StandIns

from mentallama_jax.config.study_config import parse_study
from mentallama_jax.evaluation.reports.published import published_tables
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.jobs.run_study import run_study
from mentallama_jax.study.step_manifests import StepManifests
from mentallama_jax.study.study_graph import study_graph
from mentallama_jax.study.traced_figures import FORMS


@pytest.fixture
def out(unbroken: tuple[Path, StandIns]) -> Path:
    """The folder of a study."""
    return unbroken[0]


class PageTables(HTMLParser):
    """The tables of a page: caption -> rows of cells, without their heads; and which of the cells hold words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.words: set[tuple[str, int, int]] = set()
        self._caption, self._text, self._body = "", None, False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag in ("caption", "td") or (tag == "th" and self._body):
            self._text = ""
            if ("class", "words") in attrs:
                rows = self.tables[self._caption]
                self.words.add((self._caption, len(rows) - 1, len(rows[-1])))
        elif tag == "tbody":
            self._body = True
        elif tag == "tr" and self._body:
            self.tables[self._caption].append([])

    def handle_endtag(self, tag: str) -> None:
        if tag == "caption":
            self._caption = self._text or ""
            self.tables[self._caption] = []
        elif tag in ("td", "th") and self._body:
            self.tables[self._caption][-1].append(self._text or "")
        elif tag == "tbody":
            self._body = False

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text += data


WORDS = {"How answers were made", "Predictions behind the figures", "Steps without a result"}
"""Tables that hold no figures of their own."""


def content(out: Path, name: str) -> Any:
    if name == "published.yaml":
        return {"tables": [{"models": table.models} for table in published_tables()]}
    return json.loads((out / name).read_text("utf-8"))


def untraced(out: Path) -> list[str]:
    """Cells of the page with a figure that no trace leads to, or whose trace does not give it."""
    traced = json.loads((out / "figures.json").read_text("utf-8"))
    known = {(each["table"], each["row"], each["column"]): each for each in traced["figures"]}
    faults = []
    page = PageTables((out / "report.html").read_text("utf-8"))
    for caption, rows in page.tables.items():
        for number, row in enumerate(rows if caption not in WORDS else []):
            for column, text in enumerate(row[1:], start=1):
                trace = known.pop((caption, number, column), None)
                if trace is None:
                    figure = re.search(r"\d", text) and (caption, number, column) not in page.words
                    faults += [f"{caption}: {text}"] if figure else []
                    continue
                values = []
                for keys in trace["keys"]:
                    found = content(out, trace["file"])
                    for key in keys:
                        found = found.get(key) if isinstance(found, dict) else found[key]
                    values.append(found)
                if FORMS[trace["form"]](*values) != text:
                    faults.append(f"{caption}: {text} is not {values}")
    return faults + [f"not shown: {key}" for key in known]


def unfounded(out: Path) -> list[str]:
    """Files of figures that are not those read, or whose predictions are not those there."""
    files = json.loads((out / "figures.json").read_text("utf-8"))["files"]
    faults = []
    for name, said in files.items():
        if name not in ("published.yaml", "costs.json"):
            faults += [name] if not said["predictions"] else []
            for each in [{"file": name, "sha256": said["sha256"]}, *said["predictions"]]:
                place = out / each["file"] if (out / each["file"]).exists() else Path(each["file"])
                if hashlib.sha256(place.read_bytes()).hexdigest() != each["sha256"]:
                    faults.append(f"{name}: {each['file']}")
    return faults


def test_every_figure_is_traced_to_predictions_and_their_signature(out: Path) -> None:
    assert untraced(out) == []
    assert unfounded(out) == []
    figures = json.loads((out / "figures.json").read_text("utf-8"))["figures"]
    assert len({each["table"] for each in figures}) >= 9
    page = (out / "report.html").read_text("utf-8")
    for system in ("tuned", "plain", "floor"):
        assert hashlib.sha256((out / f"predictions/{system}.jsonl").read_bytes()).hexdigest() in page


def test_a_figure_that_was_changed_by_hand_is_found(out: Path) -> None:
    page, predictions = out / "report.html", out / "predictions/tuned.jsonl"
    text, lines = page.read_text("utf-8"), predictions.read_text("utf-8")
    figure = next(
        each for each in json.loads((out / "figures.json").read_text("utf-8"))["figures"] if "(" in each["text"]
    )
    try:
        page.write_text(text.replace(f">{figure['text']}<", ">99.9 (98.0–99.9)<", 1), "utf-8")
        predictions.write_text(lines + "\n", "utf-8")
        assert len(untraced(out)) == 1
        assert any("predictions/tuned.jsonl" in fault for fault in unfounded(out))
    finally:
        page.write_text(text, "utf-8")
        predictions.write_text(lines, "utf-8")


def test_the_tables_of_the_paper_stand_in_all_three_forms(out: Path) -> None:
    markdown, latex = ((out / name).read_text("utf-8") for name in ("report.md", "tables.tex"))
    captions = (
        "Classes of high risk: recall and precision",
        "Correctness: weighted F1",
        "Differences of weighted F1",
        "Generalisation: weighted F1 on held-out tasks",
        "Metrics of explanations, whole responses",
    )
    for caption in captions:
        assert caption in markdown
        assert caption in latex
    assert "MentaLLaMA-chat-13B (published)" in markdown
    rows = PageTables((out / "report.html").read_text("utf-8")).tables[captions[3]]
    assert [row[:2] for row in rows[:3]] == [
        ["Tuned", "none of them"],
        ["plain", "not known"],
        ["floor", "dreaddit"],
    ]


def test_pictures_say_what_the_tables_say(out: Path) -> None:
    text = (out / "report.html").read_text("utf-8")
    shown = set(
        re.findall(
            r"\d+\.\d", " ".join(each for rows in PageTables(text).tables.values() for row in rows for each in row)
        )
    )
    drawn = re.findall(r"<desc[^>]*>(.*?)</desc>", text)
    assert drawn
    assert set(re.findall(r"\d+\.\d", " ".join(drawn))) <= shown


def test_costs_are_counted(out: Path) -> None:
    rows = json.loads((out / "costs.json").read_text("utf-8"))["rows"]
    assert rows["tuning"]["trained_tokens"] == 400
    assert rows["tuned"]["written_tokens"] == 0
    assert rows["all"]["steps"] == 2


def test_tokens_of_a_transfer_matrix_are_counted(tmp_path: Path) -> None:
    from mentallama_jax.study.study_costs import write_costs

    values = CONFIG | {"study": {"out": str(tmp_path)}}
    values["rows"] = {"matrix": {"kind": "transfer", "config": "toy", "datasets": ["DR", "SAD"]}}
    graph = study_graph(parse_study(values, "test"))
    step = graph.steps["matrix.transfer"]
    for name in ("DR", "SAD"):
        run = step.leftovers[0] / "runs" / name
        run.mkdir(parents=True)
        (run / "metrics.jsonl").write_text('{"kind": "train", "step": 1, "real_tokens": 7}\n' * 3)
    (step.leftovers[0] / "predictions").mkdir()
    (step.leftovers[0] / "predictions" / "DR.jsonl").write_text('{"id": "a", "new_tokens": 5}\n' * 2)
    (step.leftovers[0] / "transfer.json").write_text("{}")
    manifests = StepManifests(graph.folder)
    inputs = manifests.inputs(step)
    manifests.begin(replace(step, leftovers=()), inputs)
    manifests.finish(step, inputs, 1.0)
    row = write_costs(graph).value["rows"]["matrix"]
    assert (row["trained_tokens"], row["written_tokens"]) == (42, 10)


def test_one_data_set_has_its_differences_and_its_best(tmp_path: Path) -> None:
    values = copy.deepcopy(CONFIG)
    values["study"]["out"] = str(tmp_path / "study")
    values["evaluation"] |= {"datasets": ["DR"], "held_out": []}
    theirs = {"file": str(tmp_path / "theirs.csv"), "columns": "id=id,gold=a,text=b", "dataset": "DR"}
    values["rows"]["theirs"] = {"kind": "predictions", "title": "Theirs", **theirs}
    rows = [each for each in read_records(["sample:test"]).records if each.label and each.dataset == "DR"]
    (tmp_path / "theirs.csv").write_text("id,a,b\n" + "".join(f"{each.id},{each.label},Yes\n" for each in rows))
    assert run_study(parse_study(values, "test"), start=StandIns()).failed == []
    page = (tmp_path / "study" / "report.md").read_text("utf-8")
    assert "Best over all rows: " in page
    tables = PageTables((tmp_path / "study" / "report.html").read_text("utf-8")).tables
    assert tables["Differences of weighted F1"]
    assert tables["Differences of explanations, whole responses"]
    assert "Not compared: Theirs: rows are matched by the ids of the benchmark" in page.replace("\n", " ")


def test_money_of_an_endpoint_counts_what_may_have_to_be_paid(tmp_path: Path) -> None:
    from mentallama_jax.study.study_costs import spent

    lines = [
        {"form": "mentallama answers 1"},
        {"attempt": 0, "of": "a", "most": 0.5},
        {"over": 0, "key": "a", "cost": 0.25, "text": "x"},
        {"attempt": 1, "of": "b", "most": 0.5},
        {"over": 1, "perhaps": 0.125},
        {"attempt": 2, "of": "c", "most": 1.0},
    ]
    path = tmp_path / "kept.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert spent(path) == 0.25 + 0.125 + 1.0
    with path.open("a") as stream:
        stream.write('{"attempt": 3, "o')  # the program was killed over this line
    assert spent(path) == 0.25 + 0.125 + 1.0


def test_money_of_a_step_that_failed_is_counted(tmp_path: Path) -> None:
    from mentallama_jax.study.study_costs import write_costs

    values = CONFIG | {"study": {"out": str(tmp_path)}}
    values["rows"] = {"asked": {"kind": "endpoint", "model": "m", "endpoint": "http://localhost:1/v1"}}
    graph = study_graph(parse_study(values, "test"))
    assert write_costs(graph).value["rows"] == {}
    journal = graph.steps["asked.answer"].outputs[0].with_suffix(".answers.jsonl")
    journal.parent.mkdir()
    journal.write_text('{"form": "mentallama answers 1"}\n{"over": 0, "key": "a", "cost": 0.25}\n')
    row = write_costs(graph).value["rows"]["asked"]
    assert (row["dollars"], row["steps"], row["tries"]) == (0.25, 0, 0)


def test_it_is_said_where_published_figures_are_of_more_rows(out: Path) -> None:
    markdown = (out / "report.md").read_text("utf-8")
    assert "Published figures are of whole test sets, those here of fewer rows: DR 8 of 405, dreaddit 8 of 414." in (
        markdown.replace("\n", " ")
    )
