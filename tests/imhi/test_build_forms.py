"""Tables with other columns and labels, Alpaca, ShareGPT and messages become records; nothing is guessed."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from mentallama_jax.cli.main import main
from mentallama_jax.errors import UserError
from mentallama_jax.imhi.data_files import sources
from mentallama_jax.imhi.data_files.build import build_records
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.wording import completion_query, completion_response, instruction_query, instruction_response

PLANTED = "zebra lantern on the stairs"
ROWS = (
    Record("a", "DR", 'She said "go".\nI did. Question: why?', "yes", "Low mood."),
    Record("b", "DR", "A fine day.", "no", ""),
)
IRF = Record("c", "IRF", "Nobody would miss me.", "yes", "A burden.", aspect="perceived burdensomeness")

Write = Callable[[Path, Sequence[dict[str, Any]]], Path]


def as_json(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text(json.dumps(list(rows)), "utf-8")
    return path


def as_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def as_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return path


WRITERS: dict[str, Write] = {".json": as_json, ".jsonl": as_jsonl, ".parquet": as_parquet}


def alpaca(record: Record) -> dict[str, Any]:
    return {"instruction": instruction_query(record), "input": "", "output": instruction_response(record)}


def alpaca_in_two(record: Record) -> dict[str, Any]:
    question = record.task.question.format(aspect=record.aspect)
    return {"instruction": question, "input": record.post, "output": instruction_response(record)}


def alpaca_with_quotes(record: Record) -> dict[str, Any]:
    question = record.task.question.format(aspect=record.aspect)
    given = f'Consider this post: "{record.post}"'
    return {"instruction": f"Question: {question}", "input": given, "output": instruction_response(record)}


def alpaca_continued(record: Record) -> dict[str, Any]:
    query = instruction_query(record)
    middle = query.rindex(" Question: ")
    return {"instruction": query[:middle], "input": query[middle + 1 :], "output": instruction_response(record)}


def alpaca_completion(record: Record) -> dict[str, Any]:
    return {"instruction": completion_query(record), "input": "", "output": completion_response(record)}


def sharegpt(record: Record) -> dict[str, Any]:
    turns = [("human", instruction_query(record)), ("gpt", instruction_response(record))]
    return {"conversations": [{"from": role, "value": text} for role, text in turns]}


def messages(record: Record) -> dict[str, Any]:
    turns = [
        ("system", "You help."),
        ("user", instruction_query(record).replace('" Question:', '"\n\nQuestion:')),
        ("assistant", instruction_response(record)),
    ]
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


FORMS = (alpaca, alpaca_in_two, alpaca_with_quotes, alpaca_continued, alpaca_completion, sharegpt, messages)


def content(records: Sequence[Record]) -> list[tuple[str, ...]]:
    return [(row.dataset, row.aspect, row.post, row.label, row.explanation) for row in records]


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: str(form.__name__))
def test_instructions_and_conversations_become_records(form: Callable[..., Any], ending: str, tmp_path: Path) -> None:
    path = WRITERS[ending](tmp_path / f"rows{ending}", [form(row) for row in ROWS])
    result = build_records(path, "DR", "train")
    assert content(result.records) == content(ROWS)
    assert [row.id for row in result.records] == ["DR/train/1", "DR/train/2"]
    assert result.unused == ()
    path = WRITERS[ending](tmp_path / f"irf{ending}", [form(IRF)])
    assert content(build_records(path, "IRF").records) == content([IRF])


def test_columns_and_labels_are_mapped(tmp_path: Path) -> None:
    path = tmp_path / "raw.csv"
    path.write_text("nr,text,class,why,note,post\n7,It is late.,1,Late.,x,other\n8,Sunny.,0,,y,other\n", "utf-8")
    columns = {"post": "text", "label": "class", "id": "nr", "explanation": "why"}
    # 1 would be yes by the task's own names: the mapping is asked first.
    result = build_records(path, "DR", columns=columns, labels={"1": "no", "0": "Yes"})
    assert [(row.id, row.post, row.label, row.explanation) for row in result.records] == [
        ("7", "It is late.", "no", "Late."),
        ("8", "Sunny.", "yes", ""),
    ]
    assert result.unused == ("note",)
    assert result.forms == ("table",)


def test_the_post_of_alpaca_may_be_named(tmp_path: Path) -> None:
    rows = [{"instruction": "Classify.", "input": "A grey day.", "output": "yes. Reasoning: Grey."}]
    path = as_json(tmp_path / "rows.json", rows)
    with pytest.raises(UserError, match="give --columns post=input"):
        build_records(path, "DR")
    (record,) = build_records(path, "DR", columns={"post": "input"}).records
    assert (record.post, record.label, record.explanation) == ("A grey day.", "yes", "Grey.")


def test_a_mapping_holds_for_the_heads_of_responses(tmp_path: Path) -> None:
    row = alpaca(ROWS[0]) | {"output": "2. Reasoning: Low."}
    path = as_json(tmp_path / "rows.json", [row])
    (record,) = build_records(path, "DR", labels={"2": "yes"}).records
    assert (record.label, record.explanation) == ("yes", "Low.")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"1": "perhaps"}, r"--labels maps '1' to 'perhaps', no label of DR \(yes, no\)"),
        ({"3": "yes"}, r"--labels maps '3', which is the label of no row \(rows have: '1', '0'\)"),
    ],
)
def test_a_mapping_that_cannot_be_right_is_refused(labels: dict[str, str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "raw.csv"
    path.write_text("post,label\na,1\nb,0\n", "utf-8")
    with pytest.raises(UserError, match=message):
        build_records(path, "DR", labels=labels)


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "raw.csv"
    path.write_text("text,class\na,1\n", "utf-8")
    with pytest.raises(UserError, match=r"has no column 'txt' for post \(found: text, class\)"):
        build_records(path, "DR", columns={"post": "txt"})
    with pytest.raises(
        UserError, match=r"column post is missing \(found: text, class\); name it by --columns post=COLUMN"
    ):
        build_records(path, "DR")


BAD: dict[str, dict[str, Any]] = {
    "cannot be split": {"instruction": f"Is this sad? {PLANTED}", "input": "", "output": "yes."},
    "neither its instruction": {"instruction": f"Is this sad? {PLANTED}", "input": PLANTED, "output": "yes."},
    "no data set asks": {"instruction": f'Consider this post: "{PLANTED}" Question: Is it?', "output": "yes."},
    "that of IRF, not of DR": alpaca(IRF),
    "does not begin with a label": alpaca(ROWS[0]) | {"output": PLANTED},
    "output is missing": alpaca(ROWS[0]) | {"output": None},
    "2 questions and 1 answers": {
        "conversations": [*sharegpt(ROWS[0])["conversations"], {"from": "human", "value": "?"}]
    },
    "1 questions and 0 answers": {"conversations": sharegpt(ROWS[0])["conversations"][:1]},
    "neither of a user": {"messages": [{"role": PLANTED, "content": PLANTED}]},
    "no text": {"messages": [{"role": "user", "content": [PLANTED]}]},
    "no object": {"messages": [PLANTED]},
    "a list of messages": {"messages": PLANTED},
    "different lengths": {"conversations": {"from": ["human"], "value": ["a", PLANTED]}},
    "conversations is missing": {"conversations": None, "note": PLANTED},
}


@pytest.mark.parametrize("reason", BAD)
def test_a_row_that_cannot_be_mapped_is_named_with_its_reason_and_never_quoted(
    reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    column = next(iter(BAD[reason]))
    good = next(form(ROWS[0]) for form in (alpaca, sharegpt, messages) if column in form(ROWS[0]))
    path = as_jsonl(tmp_path / "rows.jsonl", [good, BAD[reason]])
    out = tmp_path / "out.jsonl"
    assert main(["data", "build", str(path), "--dataset", "DR", "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert f"left out: {path}, row 2: " in shown.out
    assert reason in shown.out
    assert "zebra" not in shown.out + shown.err
    assert len(read_records([out]).records) == 1


def test_what_could_not_be_mapped_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "raw.csv"
    lines = ["text,class,who", "a,1,x", *["b,7,x"] * 3, f"c,{PLANTED},x", "d,,x", "e,2,x"]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    options = ["--columns", "post=text,label=class", "--labels", "2=yes", "--out", str(tmp_path / "out.jsonl")]
    assert main(["data", "build", str(path), "--dataset", "DR", *options]) == 0
    shown = capsys.readouterr()
    assert "columns that are not used: who" in shown.out
    assert (
        "labels without a meaning, see --labels: '7' (3 rows), '1' (1 rows), (a text of 27 characters) (1 rows)"
        in shown.out
    )
    assert "  3 rows: '7' is not a label of DR" in shown.out
    assert "row 1: '1' is no number that --labels gives a meaning to" in shown.out  # 1 is no yes where 2 is
    assert "zebra" not in shown.out + shown.err


def test_labels_may_be_a_file(tmp_path: Path) -> None:
    raw, names, out = tmp_path / "raw.csv", tmp_path / "names.yaml", tmp_path / "out.jsonl"
    raw.write_text('post,label\na,"Tired, Ill"\nb,3\n', "utf-8")
    names.write_text('"Tired, Ill": health issues\n"3": work\n', "utf-8")
    assert main(["data", "build", str(raw), "--dataset", "SAD", "--labels", str(names), "--out", str(out)]) == 0
    assert [row.label for row in read_records([out]).records] == ["health issues", "work"]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--labels", "1", "give CELL=LABEL"),
        ("--labels", "1=yes,1=no", "gives '1' twice"),
        ("--labels", "sad=yes,Sad=no", "gives 'Sad' two meanings, 'yes' and 'no'"),
        ("--labels", "1=yes,1.=no", "gives '1.' two meanings, 'yes' and 'no'"),
        ("--columns", "posts=text", "give ROLE=COLUMN, with a role of post, label"),
        ("--columns", "post=a,post=b", "gives post twice"),
    ],
)
def test_impossible_mappings_are_one_line(
    option: str, value: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "raw.csv"
    path.write_text("post,label\na,1\n", "utf-8")
    arguments = ["data", "build", str(path), "--dataset", "DR", option, value, "--out", str(tmp_path / "out.jsonl")]
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_data_sets_of_the_hub_are_mapped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {
        ("default", "train"): [{"text": "It is late.", "class": 1}, {"text": "Sunny.", "class": 0}],
        ("default", "validation"): [{"text": "Rain.", "class": 1}],
    }
    asked: list[str] = []

    def load(name: str) -> Any:
        asked.append(name)
        return parts

    monkeypatch.setattr(sources, "load_parts", load)
    columns = {"post": "text", "label": "class"}
    result = build_records("hub:some/name@v1", "dreaddit", columns=columns)
    assert [(row.id, row.label) for row in result.records] == [
        ("dreaddit/train/1", "yes"),
        ("dreaddit/train/2", "no"),
        ("dreaddit/val/1", "yes"),
    ]
    only = build_records("hub:some/name@v1:val", "dreaddit", columns=columns)
    assert [row.post for row in only.records] == ["Rain."]
    assert asked == ["some/name@v1"] * 2


def test_a_conversation_may_be_an_object_of_lists(tmp_path: Path) -> None:
    turns = sharegpt(ROWS[0])["conversations"]
    row = {"conversations": {key: [turn[key] for turn in turns] for key in ("from", "value")}}
    assert content(build_records(as_jsonl(tmp_path / "rows.jsonl", [row]), "DR").records) == content(ROWS[:1])


def test_numbers_of_data_frames_are_mapped_as_they_are_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "raw.csv"
    path.write_text("post,label\na,1.0\nb,0.0\n", "utf-8")
    out = tmp_path / "out.jsonl"
    words = ["data", "build", str(path), "--dataset", "DR", "--out", str(out)]
    shares = ["--shares", "train=0.9", "val=0.05", "test=0.05"]
    assert main([*words, "--labels", "1=no,0=yes", *shares]) == 0
    assert [record.label for record in read_records([out]).records] == ["no", "yes"]
    assert "gets no row, as a post is in one part only" in capsys.readouterr().err
