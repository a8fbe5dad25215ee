"""Files of records and of predictions."""

import csv
import io
import json
import random
import struct
import tempfile
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from hostile import SECRET, Files, Form, WrongError
from mutations import change_bytes, change_lines

from mentallama_jax.evaluation.foreign_outputs.gold_rows import GoldRows
from mentallama_jax.evaluation.foreign_outputs.read_as import AS_THEY_SAY, ReadAs
from mentallama_jax.evaluation.people.study_export import KEY, make_study, write_study
from mentallama_jax.evaluation.people.study_import import read_study
from mentallama_jax.evaluation.reading import read_predictions
from mentallama_jax.generation.resumable import write_predictions
from mentallama_jax.imhi.data_files.annotations import read_annotations
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.records import Record

ROWS: list[dict[str, Any]] = [
    {
        "id": f"DR/test/{number}", "dataset": "DR", "split": "test", "post": f"{SECRET}, post {number}, é 🙂",
        "aspect": "", "label": label, "explanation": f"Because {SECRET}.",
    }
    for number, label in enumerate(["yes", "no", "yes", "no"], start=1)
]  # fmt: skip
QUERY = 'Consider this post: "{post}" Question: Does the poster suffer from depression?'
ANSWERS = {"yes": "Yes, the poster suffers from depression.", "no": "No, the poster does not suffer from depression."}
ODD_CELLS = ["", "x" * 200_000, "\0", "=1+1", '"', "yes\nno", "\u2028", "\x1b[31m", SECRET * 5, "NaN", "DR", "a,b"]


def data_forms() -> Iterator[Form]:
    """Every kind of file that rows come in."""
    yield Form("csv", {"own.csv": _csv(ROWS)}, _damage_csv("own.csv"), _read_rows)
    released = [
        {"query": QUERY.format(post=row["post"]), "gpt-3.5-turbo": f"{ANSWERS[row['label']]} Reasoning: {SECRET}"}
        for row in ROWS
    ]
    yield Form("released", {"DR/test.csv": _csv(released)}, _damage_csv("DR/test.csv"), _read_rows)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
    yield Form("jsonl", {"own.jsonl": lines}, _lines_or_bytes("own.jsonl"), _read_rows)
    yield Form("parquet", {"own.parquet": _parquet(pyarrow.Table.from_pylist(ROWS))}, _damage_table, _read_rows)
    yield Form("arrow", {"own.arrow": _arrow(pyarrow.Table.from_pylist(ROWS))}, _damage_table, _read_rows)
    scored = {"goldens": "yes. Reasoning: x", "generated_text": SECRET, "post_id": "1"}
    files = {"answers/DR.csv": _csv([scored, scored | {"post_id": "2"}])}
    yield Form("answers", files, _damage_csv("answers/DR.csv"), _read_answers)
    predictions = {"predictions.jsonl": _predictions(4), "predictions.meta.json": json.dumps(SIGNATURE).encode()}
    yield Form("predictions", predictions, _damage_predictions, _read_predictions)
    half = predictions | {"predictions.jsonl": _predictions(2)}
    yield Form("resumed", half, _damage_predictions, _resume_predictions)
    yield from _foreign_forms()
    criteria = ("fluency", "completeness", "reliability", "overall")
    marks = {"text": SECRET, "label": "1", "model": SECRET} | dict.fromkeys(criteria, "[1, 2, 3]")
    yield Form("annotations", {"marks.csv": _csv([marks] * 3)}, _damage_csv("marks.csv"), _read_marks)
    yield Form("study", _study(), _damage_study, _read_filled_study)


def _foreign_forms() -> Iterator[Form]:
    """Outputs of other programs."""
    said = [{"gold": "1", "prediction": SECRET, "dataset": "DR"}, {"gold": "0", "prediction": "0", "dataset": "IRF"}]
    semicolons = {"outputs.csv": _csv(said).replace(b",", b";")}
    yield Form("outputs", semicolons, _damage_csv("outputs.csv"), _read_outputs("outputs.csv"))
    choices = {
        f"gen_args_{place}": {"arg_0": SECRET, "arg_1": f" {text}"} for place, text in enumerate(ANSWERS.values())
    }
    scored = {"arguments": choices, "target": "0", "filtered_resps": [["-1.5", "True"], ["-2.5", "False"]]}
    written = {
        "arguments": {"gen_args_0": {"arg_0": SECRET, "arg_1": {"until": []}}},
        "target": "yes",
        "filtered_resps": [SECRET],
    }
    samples = [
        {"doc_id": number, "doc": row, "resps": [["x"]], "filter": "none"} | (scored if number % 2 else written)
        for number, row in enumerate(ROWS)
    ]
    yield _lines_form("samples", "samples_imhi_DR_2026.jsonl", samples)
    message = {"role": "assistant", "content": f"Yes. {SECRET}"}
    response = {"status_code": 200, "body": {"choices": [{"message": message}]}}
    batch = [{"custom_id": row["id"], "response": response, "error": None} for row in ROWS]
    yield _lines_form("batch", "batch.jsonl", batch)
    chat = [{"role": "user", "content": SECRET}, message]
    generated = [{"id": row["id"], "label": row["label"], "prompt": SECRET, "generated_text": chat} for row in ROWS]
    yield _lines_form("generated", "DR.jsonl", generated)


def _lines_form(name: str, file: str, rows: list[dict[str, Any]]) -> Form:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return Form(name, {file: content}, _lines_or_bytes(file), _read_outputs(file))


def _read_outputs(name: str) -> Any:
    gold = GoldRows("gold", [Record(**{key: row[key] for key in ("id", "dataset", "post", "label")}) for row in ROWS])

    def read(folder: Path) -> None:
        _check_predictions(folder / name, ReadAs(gold=gold if name == "batch.jsonl" else None))

    return read


def _csv(rows: list[dict[str, Any]]) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def _parquet(table: pyarrow.Table) -> bytes:
    stream = io.BytesIO()
    pyarrow.parquet.write_table(table, stream, compression="none")
    return stream.getvalue()


def _arrow(table: pyarrow.Table) -> bytes:
    stream = io.BytesIO()
    with pyarrow.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    return stream.getvalue()


def _damage_csv(name: str) -> Any:
    def damage(files: Files, rng: random.Random) -> str:
        rows = list(csv.reader(io.StringIO(files[name].decode(), newline="")))
        kind = rng.choice(
            [
                "cell",
                "cell",
                "cell",
                "header",
                "header",
                "bytes",
                "bytes",
                "bytes",
                "wider",
                "shifted",
                "shifted",
                "no header",
            ]
            if rng.random() < 0.97
            else ["columns"]
        )
        at = rng.randrange(1, len(rows))
        column = rng.randrange(len(rows[0]))
        if kind == "bytes":
            files[name], kind = change_bytes(files[name], rng)
            return kind
        if kind == "cell":
            rows[at][column] = rng.choice(ODD_CELLS)
        elif kind == "header":
            rows[0][column] = rng.choice([*ODD_CELLS, *rows[0]])
        elif kind == "wider":
            rows[at].insert(column, SECRET)
        elif kind == "shifted":
            rows[at] = rows[at][column:] + rows[at][:column]
        elif kind == "no header":
            del rows[0]
        else:
            rows[0] += [f"column {number}" for number in range(40_000)]
        stream = io.StringIO(newline="")
        csv.writer(stream).writerows(rows)
        files[name] = stream.getvalue().encode()
        return f"{kind}, row {at}, column {column}"

    return damage


def _lines_or_bytes(name: str) -> Any:
    def damage(files: Files, rng: random.Random) -> str:
        change = change_lines if rng.random() < 0.7 else change_bytes
        files[name], what = change(files[name], rng)
        return what

    return damage


def _bad_text() -> pyarrow.Array:
    """A column of text whose bytes are no UTF-8."""
    offsets = pyarrow.py_buffer(struct.pack("<5i", 0, 1, 2, 3, 4))
    return pyarrow.StringArray.from_buffers(4, offsets, pyarrow.py_buffer(b"a\xff\xc3b"))


def _columns() -> list[pyarrow.Array]:
    day = datetime(2000, 1, 1)
    return [
        _bad_text(),
        pyarrow.array([1.0, float("nan"), float("inf"), None]),
        pyarrow.array([b"a", b"\xff", None, b""]),
        pyarrow.array([date(1, 1, 1)] * 4),
        pyarrow.array([2**62, -(2**62), 0, None], pyarrow.timestamp("s")),
        pyarrow.array([2**62, 1, 0, None], pyarrow.timestamp("ns", tz="nowhere/land")),
        pyarrow.array([-(2**31), 2**31 - 1, 0, None], pyarrow.date32()),
        pyarrow.array([2**62, -(2**62), 0, None], pyarrow.duration("s")),
        pyarrow.array([day, day, day, None]),
        pyarrow.array([timedelta(days=9)] * 4),
        pyarrow.array([Decimal("1e20")] * 4),
        pyarrow.array([[SECRET]] * 4),
        pyarrow.array([{"a": SECRET}] * 4),
        pyarrow.array([None] * 4),
        pyarrow.array([True] * 4),
        pyarrow.array([2**63] * 4, pyarrow.uint64()),
        pyarrow.array(["x\0", "\x1b[31m", "", None]),
        pyarrow.array(["yes"] * 4).dictionary_encode(),
        pyarrow.array([SECRET] * 4, pyarrow.large_string()),
    ]


def _damage_table(files: Files, rng: random.Random) -> str:
    (name,) = files
    write = _parquet if name.endswith(".parquet") else _arrow
    table = pyarrow.Table.from_pylist(ROWS)
    kind = rng.choice(["column", "column", "column", "twice", "wide", "bytes", "bytes", "gone"])
    at = rng.randrange(table.num_columns)
    key = table.column_names[at]
    if kind == "bytes":
        first = rng.choice([100, None, None])
        files[name], what = change_bytes(files[name], rng, first)
        return what
    if kind == "column":
        column = rng.choice(_columns())
        table, what = table.set_column(at, key, column), f"{key} of {column.type}"
    elif kind == "twice":
        table, what = table.append_column(key, pyarrow.array(["no"] * 4)), f"{key} twice"
    elif kind == "wide":
        wide = {f"column {number}": pyarrow.array([1] * 4) for number in range(3000)}
        table, what = pyarrow.table({**dict(zip(table.column_names, table.columns, strict=True)), **wide}), "wide"
    else:
        table, what = table.drop_columns([key]), f"{key} gone"
    try:
        files[name] = write(table)
    except pyarrow.ArrowException:  # a column that this form cannot hold
        files[name], what = change_bytes(files[name], rng)
    return what


def _check_texts(values: dict[str, Any]) -> None:
    for key, value in values.items():
        if not isinstance(value, str):
            raise WrongError(f"{key} is a {type(value).__name__}")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise WrongError(f"{key} is no Unicode") from None


def _read_rows(folder: Path) -> None:
    result = read_records([folder])
    for record in result.records:
        _check_texts({field: getattr(record, field) for field in Record.__dataclass_fields__})
    for problem in result.problems:
        if SECRET in str(problem) or len(str(problem).replace(str(folder), "")) > 300:
            raise WrongError(f"a problem quotes a post or is long: {problem}")


def _read_answers(folder: Path) -> None:
    _check_predictions(folder / "answers")


def _read_predictions(folder: Path) -> None:
    _check_predictions(folder / "predictions.jsonl")


def _check_predictions(path: Path, read_as: ReadAs = AS_THEY_SAY) -> None:
    found = read_predictions(path, read_as)
    for row in found.left_out:
        if SECRET in row.reason or len(row.reason) > 300:
            raise WrongError(f"a reason quotes a post or is long: {row.reason}")
    if any(SECRET in form or len(form.replace(str(path), "")) > 600 for form in found.forms):
        raise WrongError("the form quotes a post or is long")
    for row in found.rows:
        _check_texts(
            {field: getattr(row, field) for field in ("id", "dataset", "aspect", "post_id", "label", "generated_text")}
        )
    if len({row.id for row in found.rows}) != len(found.rows):
        raise WrongError("an id stands twice")
    if not isinstance(found.generation, dict | None):
        raise WrongError("the signature is no object")


SIGNATURE = {"model": "toy", "style": "plain", "sampling": {"temperature": 0.0}, "versions": {"jax": "1"}}


def _answer(row: dict[str, Any]) -> Prediction:
    known = {key: row[key] for key in ("id", "dataset", "aspect", "label")}
    return Prediction(**known, generated_text=f"Yes. {SECRET}", new_tokens=4, finish="eos", post_id="a" * 16)


def _predictions(count: int) -> bytes:
    return "".join(_answer(row).to_line() for row in ROWS[:count]).encode()


def _damage_predictions(files: Files, rng: random.Random) -> str:
    from model_forms import json_or_bytes

    if rng.random() < 0.25:
        return json_or_bytes(["predictions.meta.json"])(files, rng)
    return str(_lines_or_bytes("predictions.jsonl")(files, rng))


def _resume_predictions(folder: Path) -> None:
    records = [Record(**{key: row[key] for key in ("id", "dataset", "post", "label")}) for row in ROWS]
    path = folder / "predictions.jsonl"
    done = write_predictions(
        path, records, SIGNATURE, lambda left: iter([[_answer(ROWS[int(record.id[-1]) - 1]) for record in left]])
    )
    if [row.id for row in done] != [record.id for record in records]:
        raise WrongError("other rows than were asked for")
    _check_predictions(path)


def _study() -> Files:
    """A filled study of four answers."""
    records = [Record(**{key: row[key] for key in ("id", "dataset", "post", "label")}) for row in ROWS]
    study = make_study({"system": [_answer(row) for row in ROWS]}, records, ["overall"], 4, 0)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "study"
        write_study(folder, study, 1, "csv", [])
        text = (folder / "annotator_1.csv").read_text("utf-8-sig")
        rows = [row | {"overall": "2"} for row in csv.DictReader(io.StringIO(text, newline=""))]
        return {"annotator_1.csv": _csv(rows), KEY: (folder / KEY).read_bytes()}


def _damage_study(files: Files, rng: random.Random) -> str:
    from model_forms import json_or_bytes

    if rng.random() < 0.5:
        return json_or_bytes([KEY])(files, rng)
    return str(_damage_csv("annotator_1.csv")(files, rng))


def _read_filled_study(folder: Path) -> None:
    marks = read_study([folder / "annotator_1.csv"], folder / KEY)
    if any(mark not in (None, 0, 1, 2, 3) for row in marks.rows for of_row in row.marks.values() for mark in of_row):
        raise WrongError("a mark out of range was read")
    if SECRET in " ".join([*marks.notes, *marks.annotators]):
        raise WrongError("a note quotes a post")


def _read_marks(folder: Path) -> None:
    annotations, problems = read_annotations(folder / "marks.csv")
    for annotation in annotations:
        _check_texts({field: getattr(annotation, field) for field in ("id", "post", "label", "model", "explanation")})
    if any(SECRET in str(problem) for problem in problems):
        raise WrongError("a problem quotes a post")
