"""Raw text as documents: forms of files, and what is named and left out."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from mentallama_jax.cli.main import main
from mentallama_jax.errors import UserError
from mentallama_jax.imhi.audit.posts_in_texts import PostsInTexts
from mentallama_jax.imhi.data_files import text_documents
from mentallama_jax.imhi.data_files.text_documents import TextLayout, find_texts, read_documents

SECRET = "nobody must read this sentence in a log"


def read(*sources, **layout):
    """The texts with their numbers, and the problems as lines."""
    problems = []
    files = find_texts([str(source) for source in sources], problems.append)
    found = [(one.number, one.text) for one in read_documents(files, TextLayout(**layout), problems.append)]
    return found, [str(problem) for problem in problems]


def test_a_text_file_is_one_document_or_several(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffOne.\r\nStill one.\r\n\r\n \t\r\nTwo, ünïcode.\r\n".encode())
    assert read(path) == ([(1, "One.\nStill one.\n\n \t\nTwo, ünïcode.")], [])
    assert read(path, text_files="blank-lines") == ([(1, "One.\nStill one."), (2, "Two, ünïcode.")], [])


def test_files_of_folders_are_read_once_in_a_stable_order(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.txt").write_text("b")
    (tmp_path / "a.jsonl").write_text('{"text": "a1"}\n\n{"text": "a2"}\n')
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "notes.md").write_text("no")
    pyarrow.parquet.write_table(pyarrow.table({"text": ["c1", "c2"], "n": [1, 2]}), tmp_path / "c.parquet")
    found, problems = read(tmp_path, tmp_path / "a.jsonl")
    assert [text for _, text in found] == ["a1", "a2", "b", "c1", "c2"]
    assert problems == []


def test_what_is_no_document_is_named_by_file_and_number_without_its_text(tmp_path):
    (tmp_path / "rows.jsonl").write_text(
        "\n".join(
            [
                '{"text": NaN}',
                '{"text": "  \\n "}',
                '{"body": "' + SECRET + '"}',
                '{"text": ["' + SECRET + '"]}',
                '{"text": "' + SECRET,
                '["' + SECRET + '"]',
                '{"text": "half \\ud800"}',
                '{"text": 7}',
                '{"text": "good"}',
            ]
        )
    )
    (tmp_path / "binary.txt").write_bytes(b"\x00\x01")
    (tmp_path / "latin.txt").write_bytes("für".encode("latin-1"))
    (tmp_path / "utf16.txt").write_text("text", encoding="utf-16")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "blank.txt").write_text("\n \n")
    column = pyarrow.array([None, "fine", "", float("nan")][:3])
    pyarrow.parquet.write_table(pyarrow.table({"text": column}), tmp_path / "some.parquet")
    found, problems = read(tmp_path)
    assert [text for _, text in found] == ["good", "fine"]
    reasons = [problem.removeprefix(str(tmp_path)) for problem in problems]
    assert sorted(reasons) == sorted(
        [
            "/binary.txt, row 1: the file holds a NUL byte; it is not a text file or is damaged",
            "/latin.txt, row 1: the file is not UTF-8; save it as UTF-8",
            "/utf16.txt, row 1: the file is UTF-16; save it as UTF-8",
            "/empty.txt, row 1: the file is empty",
            "/blank.txt, row 1: is empty",
            "/rows.jsonl, row 1: has no text (an empty cell, null or NaN)",
            "/rows.jsonl, row 2: is empty",
            "/rows.jsonl, row 3: has no key 'text' (there are: body); name it with objective.text_key",
            "/rows.jsonl, row 4: holds a list instead of text",
            next(reason for reason in reasons if reason.startswith("/rows.jsonl, row 5: not valid JSON")),
            "/rows.jsonl, row 6: is no JSON object but a list",
            "/rows.jsonl, row 7: holds half of a surrogate pair",
            "/rows.jsonl, row 8: holds a int instead of text",
            "/some.parquet, row 1: has no text (an empty cell, null or NaN)",
            "/some.parquet, row 3: is empty",
        ]
    )
    assert SECRET not in "".join(problems)


def test_a_column_of_numbers_is_no_text(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"text": [1.5, float("nan")]}), tmp_path / "n.parquet")
    assert read(tmp_path)[1] == [
        f"{tmp_path}/n.parquet, row 1: holds a float instead of text",
        f"{tmp_path}/n.parquet, row 2: has no text (an empty cell, null or NaN)",
    ]


def test_another_key_is_asked_for(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"body": "a"}\n')
    pyarrow.parquet.write_table(pyarrow.table({"body": ["b"]}), tmp_path / "b.parquet")
    assert read(tmp_path, key="body") == ([(1, "a"), (1, "b")], [])
    with pytest.raises(UserError, match=r"b.parquet: has no column 'text' \(there are: body\); name it with objective"):
        read(tmp_path)


@pytest.mark.parametrize("form", ["whole", "blank-lines", "jsonl"])
def test_a_document_beyond_bounds_is_named_and_the_next_one_read(tmp_path, monkeypatch, form):
    monkeypatch.setattr(text_documents, "LONGEST_DOCUMENT", 50)
    monkeypatch.setattr(text_documents, "_LONGEST_JSON", 100)
    if form == "jsonl":
        path = tmp_path / "a.jsonl"
        path.write_text(json.dumps({"text": "long " * 50}) + "\n" + json.dumps({"text": "x" * 60}) + '\n{"text": "s"}')
        wrong, good = [1, 2], [(3, "s")]
    else:
        path = tmp_path / "a.txt"
        path.write_text("long line\n" * 30 + "\ns\n")
        wrong, good = [1], ([] if form == "whole" else [(2, "s")])
    found, problems = read(path, **({} if form == "jsonl" else {"text_files": form}))
    assert found == good
    assert problems == [f"{path}, row {n}: is longer than 16,777,216 characters; divide it" for n in wrong]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.txt", "absent.txt: no such file"),
        ("a.csv", "a.csv: raw text is read from folders and files that end in .txt, .jsonl, .parquet"),
        ("empty", "empty: holds no .txt, .jsonl, .parquet file to read"),
        ("broken.parquet", "broken.parquet: not a valid .parquet file; it is damaged or cut off"),
    ],
)
def test_sources_that_cannot_be_read_are_one_line(tmp_path, name, message):
    (tmp_path / "a.csv").write_text("post\nx\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1" + b"x" * 100)
    with pytest.raises(UserError, match=message):
        read(tmp_path / name)


POSTS = {
    "long": " ".join(
        f"I could not sleep for {n} nights and it is wearing me down slowly" for n in ("ten", "many", "few")
    ),
    "short": "My landlord raised the rent again today",
    "tiny": "I give up",
}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (POSTS["long"], "long"),
        ("Intro words. " + POSTS["long"].upper().replace("SLEEP", "https://a.b sleep") + " And more." * 50, "long"),
        (POSTS["long"].replace("wearing", "grinding", 1) + " Thanks for reading.", "long"),
        ("word " * 9000 + POSTS["long"] + " word" * 9000, "long"),
        ("He said: my landlord raised the RENT again, today! " * 2, "short"),
        ("word " * 3990 + POSTS["short"] + " word" * 3990, "short"),
        ("I give up!", "tiny"),
        ("I give up my seat to whoever wants it", None),
        ("My landlord never raised the rent again until today", None),
        ("I could not sleep for ten nights", None),
        ("", None),
    ],
)
def test_posts_are_found_in_texts_of_any_length(text, found):
    assert PostsInTexts(POSTS).find(text) == found


def test_nothing_is_found_of_no_posts():
    assert PostsInTexts({}).find("I give up") is None
    assert PostsInTexts({"marks": "?!"}).find("?!") is None


# mentallama data check --documents


def test_check_counts_documents_copies_and_tokens(tmp_path, capsys):
    story = " ".join(f"on day {n} the river rose a little and we moved the boat" for n in range(12))
    rows = [{"text": story}, {"text": story.upper() + " "}, {"text": f"{story} Photos: www.example.org"}, {"text": ""}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "p.txt").write_text("One.\n\nTwo.")
    report = tmp_path / "report.json"
    arguments = ["data", "check", "--documents", str(tmp_path), "--text-files", "blank-lines", "--max-length", "64"]
    assert main([*arguments, "--tokenizer", "sample", "--json", str(report)]) == 0
    found = json.loads(report.read_text())
    assert (found["files"], found["documents"]) == (2, 5)
    assert [one["reason"] for one in found["problems"]] == ["is empty"]
    assert found["duplicates"] == [[f"{tmp_path}/rows.jsonl:2", f"{tmp_path}/rows.jsonl:1"]]
    names = [(one["first"], one["second"]) for one in found["near_copies"]]
    assert names == [(f"{tmp_path}/rows.jsonl:1", f"{tmp_path}/rows.jsonl:3")]
    assert found["compared"] == 4
    lengths = found["lengths"]
    assert lengths["cut"] == 3
    assert 5 + 3 < lengths["pieces"] < lengths["tokens"] / 32
    printed = capsys.readouterr().out
    for line in ("rows.jsonl, row 4: is empty", "rows.jsonl:2 of ", "documents", "bytes a token"):
        assert line in printed
    assert "river" not in printed
    assert main([*arguments, "--strict"]) == 1
