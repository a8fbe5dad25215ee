"""A study of one's own: export is blinded, shuffled and repeatable; import finds what does not belong."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mentallama_jax.cli.main import main
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.people.study_import import read_study
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.wording import instruction_response
from mentallama_jax.jobs.agree import agree, read_marks
from mentallama_jax.jobs.annotate import annotate

CRITERIA = ("consistency", "reliability", "professionality", "overall")
SYSTEMS = ("alpaca_seven", "zebra_nine")

Row = dict[str, str]


def predictions(folder: Path, rows: int = 40) -> list[Path]:
    """Answers of two systems to rows of the bundled sample; one of them answers as briefly as can be."""
    records = [record for record in read_records(["sample"]).records if record.label][:rows]
    paths = []
    for system in SYSTEMS:
        path = folder / f"{system}.jsonl"
        lines = []
        for number, record in enumerate(records):
            gold = instruction_response(record)
            text = gold if system == SYSTEMS[0] and number % 3 else f"={number} is what it is. Reasoning: so it seems."
            answer = Prediction(
                id=record.id,
                dataset=record.dataset,
                aspect=record.aspect,
                post_id=record.post_id,
                label=record.label,
                goldens=gold,
                generated_text=text,
            )
            lines.append(answer.to_line())
        path.write_text("".join(lines), "utf-8")
        paths.append(path)
    return paths


@pytest.fixture
def study(tmp_path: Path) -> Path:
    annotate(predictions(tmp_path), ["sample"], tmp_path / "study", rows=16, seed=4)
    return tmp_path / "study"


def table(path: Path) -> list[Row]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def write(path: Path, rows: list[Row], ending: str = "\r\n") -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator=ending)
        writer.writeheader()
        writer.writerows(rows)


def fill(
    path: Path, mark: Callable[[int, Row], str] = lambda number, row: str(min(3, len(row["answer"]) // 60))
) -> None:
    write(path, [row | {name: mark(number, row) for name in CRITERIA} for number, row in enumerate(table(path))])


def filled(study: Path) -> Path:
    for number in (1, 2, 3):
        fill(study / f"annotator_{number}.csv")
    return study


def test_the_files_of_annotators_hide_systems_and_differ_in_order(study: Path) -> None:
    files = [table(study / f"annotator_{number}.csv") for number in (1, 2, 3)]
    orders = [[row["item"] for row in rows] for rows in files]
    assert len({tuple(order) for order in orders}) == 3
    assert len({frozenset(order) for order in orders}) == 1
    assert [len(set(order)) for order in orders] == [32] * 3
    for path in (*study.glob("annotator_*.csv"), study / "INSTRUCTIONS.md"):
        text = path.read_text("utf-8")
        assert not any(name in text or name.partition("_")[0] in text for name in SYSTEMS)
    key = json.loads((study / "key" / "key.json").read_text("utf-8"))
    assert key["systems"] == list(SYSTEMS)
    systems = [key["items"][item]["system"] for item in orders[0]]
    assert systems.count(SYSTEMS[0]) == 16
    assert systems not in ([*[SYSTEMS[0]] * 16, *[SYSTEMS[1]] * 16], list(SYSTEMS) * 16)
    by_row: dict[str, int] = {}
    for item in key["items"].values():
        by_row[item["answer"]["id"]] = by_row.get(item["answer"]["id"], 0) + 1
    assert set(by_row.values()) == {2}, "each question comes with the answers of both systems"
    assert len({item["answer"]["post_id"] for item in key["items"].values()}) == 16, "no post twice while others wait"


def test_no_cell_is_a_formula_and_the_instructions_say_what_matters(study: Path) -> None:
    for row in table(study / "annotator_1.csv"):
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row.values())
        assert [row[name] for name in CRITERIA] == [""] * 4
    text = (study / "INSTRUCTIONS.md").read_text("utf-8")
    assert all(f"### {name}" in text for name in CRITERIA)
    assert "116 123" in text
    assert "stop at any time" in text


def test_equal_seeds_give_equal_bytes_and_others_do_not(tmp_path: Path, study: Path) -> None:
    paths = [tmp_path / f"{system}.jsonl" for system in SYSTEMS]
    annotate(paths, ["sample"], tmp_path / "again", rows=16, seed=4)
    annotate(paths, ["sample"], tmp_path / "other", rows=16, seed=5)
    for file in sorted(path.relative_to(study) for path in study.rglob("*.*")):
        assert (tmp_path / "again" / file).read_bytes() == (study / file).read_bytes()
    assert (tmp_path / "other" / "annotator_1.csv").read_bytes() != (study / "annotator_1.csv").read_bytes()


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_marks_come_back_as_they_were_given(tmp_path: Path, form: str) -> None:
    paths = predictions(tmp_path)
    arguments = ["data", "annotate", *map(str, paths), "--data", "sample", "--out", str(tmp_path / "s")]
    assert main([*arguments, "--rows", "5", "--annotators", "2", "--form", form, "--criteria", "overall"]) == 0
    given: dict[tuple[str, str], float] = {}
    for number in (1, 2):
        path = tmp_path / "s" / f"annotator_{number}.{form}"
        if form == "csv":
            rows = table(path)
        else:
            rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
            assert all(row["overall"] is None for row in rows)
        for place, row in enumerate(rows):
            row["overall"] = str((place + number) % 4) if form == "csv" else (place + number) % 4
            given[row["item"], row["annotator"]] = (place + number) % 4
        rows.reverse()
        if form == "csv":
            write(path, rows)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    marks = read_marks([tmp_path / "s"], None)
    assert (marks.criteria, marks.annotators, len(marks.rows)) == (("overall",), ("1", "2"), 10)
    items = json.loads((tmp_path / "s" / "key" / "key.json").read_text("utf-8"))["items"]
    for (name, item), row in zip(items.items(), marks.rows, strict=True):
        assert row.marks["overall"] == (given[name, "1"], given[name, "2"])
        assert (row.system, row.answer.generated_text) == (item["system"], item["answer"]["generated_text"])


def test_what_spreadsheet_programs_do_is_taken(study: Path) -> None:
    filled(study)
    path = study / "annotator_2.csv"
    rows = table(path)
    rows[0]["overall"], rows[1]["overall"], rows[2]["overall"] = "2.0", " 3 ", ""
    rows[3]["answer"] = rows[3]["answer"].replace("'", "\u9225\u6a9a").replace("e", "\u00e9", 1)
    write(path, [*rows[:-1], dict.fromkeys(rows[0], "")])
    marks = read_marks([study], None)
    assert marks.notes == (f"{path}: lacks 1 of 32 items; they count as missing",)
    found = dict(zip([*json.loads((study / "key/key.json").read_text())["items"]], marks.rows, strict=True))
    assert [found[row["item"]].marks["overall"][1] for row in rows[:3]] == [2.0, 3.0, None]
    assert found[rows[-1]["item"]].marks["overall"][1] is None


def test_files_without_marks_are_left_out_and_said(study: Path) -> None:
    with pytest.raises(UserError, match=r"annotator_1.csv, .*: no file holds a mark of this study yet; each annotator"):
        read_marks([study], None)
    fill(study / "annotator_2.csv")
    marks = read_marks([study], None)
    assert marks.annotators == ("2",)
    assert [note.partition(": ")[2] for note in marks.notes] == ["holds no marks yet; left out"] * 2


Change = Callable[[list[Row]], object]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows[2].update(overall="4"), "row 3, overall: '4' is not a whole number from 0 to 3"),
        (lambda rows: rows[2].update(reliability="1.5"), "row 3, reliability: '1.5' is not"),
        (lambda rows: rows[1].update(overall="some nights the zebra lantern"), "row 2, overall: .* is not"),
        (lambda rows: rows[0].update(study="0123456789ab"), "row 1: is of study '0123456789ab', the key of"),
        (lambda rows: rows[4].update(item="ffff"), "row 5: 'ffff' is no item of study"),
        (lambda rows: rows[4].update(item=rows[1]["item"], answer=rows[1]["answer"]), "row 5: .* that of row 2 too"),
        (lambda rows: rows[5].update(annotator="9"), "row 6 is of annotator '9'"),
        (lambda rows: rows[0].update(annotator="some nights the zebra lantern"), "row 1, annotator: .* is no number"),
        (lambda rows: rows[0].update(item="some nights the zebra lantern"), "row 1: .* is no item"),
        (lambda rows: rows[0].update(study="some nights the zebra lantern"), "row 1: is of study .* characters"),
        (lambda rows: [row.pop("overall") for row in rows], "the column overall is missing"),
    ],
)
def test_what_does_not_belong_is_named_without_a_text(study: Path, change: Change, words: str) -> None:
    path = filled(study) / "annotator_3.csv"
    rows = table(path)
    change(rows)
    write(path, rows)
    with pytest.raises(UserError, match=words) as error:
        read_marks([study], None)
    assert str(error.value).startswith(str(path))
    assert "zebra lantern" not in str(error.value)


def test_an_answer_that_was_sorted_away_from_its_item_is_found(study: Path) -> None:
    path = filled(study) / "annotator_3.csv"
    rows = table(path)
    answers = sorted(row["answer"] for row in rows)
    write(path, [row | {"answer": answer} for row, answer in zip(rows, answers, strict=True)])
    with pytest.raises(UserError, match=r"the answer is not that of item .*undo the sort"):
        read_marks([study], None)


def test_two_files_of_one_annotator_and_columns_without_commas(study: Path) -> None:
    filled(study)
    (study / "annotator_1 (2).csv").write_bytes((study / "annotator_1.csv").read_bytes())
    with pytest.raises(UserError, match=r"annotator 1 is that of .* too; keep one of them"):
        read_marks([study], None)
    (study / "annotator_1 (2).csv").write_text("study;item;annotator;answer;overall\na;b;1;c;2\n")
    with pytest.raises(UserError, match="semicolons separate its columns; save it with commas"):
        read_marks([study], None)


def test_a_key_of_another_study_or_none(tmp_path: Path, study: Path) -> None:
    annotate([tmp_path / f"{name}.jsonl" for name in SYSTEMS], ["sample"], tmp_path / "other", rows=16, seed=9)
    fill(study / "annotator_1.csv")
    with pytest.raises(UserError, match="row 1: is of study"):
        read_study([study / "annotator_1.csv"], tmp_path / "other" / "key" / "key.json")
    (study / "key" / "key.json").write_text("{}")
    with pytest.raises(UserError, match="key of a study"):
        read_marks([study], None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rows": 999}, "--rows 999: only 40 rows"),
        ({"rows": 0}, "must be 1 or more"),
        ({"rows": 2, "criteria": ["beauty"]}, "--criteria beauty: there are consistency"),
    ],
)
def test_what_cannot_be_exported(tmp_path: Path, options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        annotate(predictions(tmp_path), ["sample"], tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_the_filled_study_is_compared_and_all_answers_are_estimated(
    tmp_path: Path, study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    filled(study)
    paths = [str(tmp_path / f"{name}.jsonl") for name in SYSTEMS]
    command = ["agree", str(study), "--metrics", "chrf", "--data", "sample", "--against", "both"]
    assert main([*command, "--predictions", *paths, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.partition("Correlations are over")[0].splitlines())) <= 80
    assert "\u2026" not in printed
    assert "chrf:post" in printed
    assert "Mean mark of all answers of zebra_nine" in printed
    written = (tmp_path / "out" / "human_agreement.json").read_bytes()
    found = json.loads(written)
    assert found["rows"] == 32
    assert found["criteria"]["overall"]["alpha"]["value"] == 1.0
    assert list(found["systems"]) == list(dict.fromkeys(row.system for row in read_marks([study], None).rows))
    corrected = found["systems"][SYSTEMS[0]]["corrected"]["overall"]["chrf"]
    assert corrected["marked_rows"] == 16
    assert corrected["unmarked_rows"] > 10
    posts = [record.post for record in read_records(["sample"]).records]
    assert not any(json.dumps(post, ensure_ascii=False).encode()[1:-1] in written for post in posts if len(post) > 20)
    assert main([*command, "--predictions", *paths, "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "human_agreement.json").read_bytes() == written


def test_predictions_of_a_system_that_nobody_marked(tmp_path: Path, study: Path) -> None:
    filled(study)
    other = tmp_path / "unknown.jsonl"
    other.write_bytes((tmp_path / f"{SYSTEMS[0]}.jsonl").read_bytes())
    with pytest.raises(UserError, match="no marked answer is of 'unknown'; systems: "):
        agree([study], tmp_path / "out", predictions=[other])
