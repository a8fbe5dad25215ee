import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import parse_json, reading, shown, shown_cell

SECRET = "I have not slept for nine nights and nobody knows"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' stands twice"),
        ("[" * 100_000, "nested too deeply"),
        ("[NaN]", "NaN is not a number"),
        ("[-Infinity]", "-Infinity is not a number"),
        ("[1e999]", "too large"),
        ("1" * 5_000, "5,000 digits is too large"),
        ('{"a": [-' + "9" * 310 + "]}", "digits is too large"),
        (r'["\ud800"]', "half of a surrogate pair"),
        (b'["\xff"]', "byte 2 is not UTF-8"),
        ('{"a": ', "line 1, column 7"),
        ("", "line 1, column 1"),
    ],
)
def test_what_is_no_json_is_refused_in_one_line_with_its_place(content: bytes | str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        parse_json(content, "some/file.json")
    assert str(raised.value).startswith("some/file.json: ")
    assert len(str(raised.value)) < 300
    assert "\n" not in str(raised.value)


def test_json_is_read_as_the_standard_library_reads_it() -> None:
    assert parse_json('{"a": [1, 2.5, null, "\\u00e9\\ud83d\\ude00"]}', "x") == {"a": [1, 2.5, None, "é😀"]}
    assert str(parse_json("[NaN]", "x", allow_nan=True)) == "[nan]"


def test_a_parsers_words_stay_out_where_they_may_quote_a_post() -> None:
    with pytest.raises(UserError) as raised, reading("x.csv, row 3", "CSV", may_hold_posts=True):
        raise ValueError(SECRET)
    assert str(raised.value) == "x.csv, row 3: not valid CSV (ValueError)"


def test_errors_for_people_and_missing_files_pass_through() -> None:
    with pytest.raises(UserError, match=r"^mine$"), reading("x", "JSON"):
        raise UserError("mine")
    with pytest.raises(FileNotFoundError), reading("x", "JSON"):
        raise FileNotFoundError(2, "No such file", "x")
    with pytest.raises(UserError, match="x: cannot be read"), reading("x", "JSON"):
        raise PermissionError(13, "Permission denied", "x")


def test_foreign_names_are_escaped_and_cut() -> None:
    assert shown("a\x1b[31mb") == r"'a\x1b[31mb'"
    assert len(shown("x" * 10_000)) < 100


def test_cells_as_long_as_a_post_are_never_quoted() -> None:
    assert shown_cell("depresion") == "'depresion'"
    assert SECRET not in shown_cell(SECRET)
    assert shown_cell(SECRET) == f"(a text of {len(SECRET)} characters)"


def test_a_post_as_short_as_a_label_is_not_quoted_either() -> None:
    labels = ("bias or abuse", "jobs and career", "no")
    assert shown_cell("bias or abuze", labels) == "'bias or abuze'"
    assert shown_cell("Jobs and carreer", labels) == "'Jobs and carreer'"
    for post in ("I give up", "want to die", "no way out"):
        assert shown_cell(post, labels) == shown_cell(post) == f"(a text of {len(post)} characters)"


def test_a_byte_order_mark_is_passed_over() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": 1}', "x") == {"a": 1}


def test_a_key_that_stands_twice_among_many_is_found_at_once() -> None:
    keys = "".join(f'"{number}": 0, ' for number in range(200_000))
    with pytest.raises(UserError, match="the key 'last' stands twice"):
        parse_json("{" + keys + '"last": 0, "last": 1}', "x")
