"""Human marks are read with their criteria; a slip in them is a bad row."""

from pathlib import Path

import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.data_files.annotations import read_annotations

HEADER = "text,label,some-model,fluency,completeness,reliability,overall"
GOOD = '"Grey, all of it.",1," Because\r\nit is.","[0, 1, 3]","[1, 1, 1]","[2, 0, 0]","[3, 3, 3]"'


def annotated(path: Path, *lines: str, header: str = HEADER) -> Path:
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([header, *lines, ""]).encode())
    return path


def test_marks_label_and_model_are_kept(tmp_path: Path) -> None:
    ((annotation,), problems) = read_annotations(annotated(tmp_path / "marks.csv", GOOD))
    assert not problems
    assert annotation.marks == {
        "fluency": (0, 1, 3),
        "completeness": (1, 1, 1),
        "reliability": (2, 0, 0),
        "overall": (3, 3, 3),
    }
    assert (annotation.id, annotation.label, annotation.model) == ("marks/1", "yes", "some-model")
    assert annotation.explanation == " Because\r\nit is."
    assert list(annotation.row()) == HEADER.split(",")
    assert annotation.row()["fluency"] == "[0, 1, 3]"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[0, 1, 3]", "[0, 1, 4]", "fluency is not a list of 3 marks from 0 to 3"),
        ("[1, 1, 1]", "[1, 1]", "completeness is not"),
        ("[2, 0, 0]", "2 0 0", "reliability is not"),
        ("[3, 3, 3]", "[3, 3, true]", "overall is not"),
        (",1,", ",2,", "'2' is not a label"),
    ],
)
def test_a_slip_is_a_bad_row(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = annotated(tmp_path / "marks.csv", GOOD, GOOD.replace(old, new))
    annotations, (problem,) = read_annotations(path)
    assert len(annotations) == 1
    assert problem.row == 2
    assert words in problem.reason
    with pytest.raises(UserError, match="row 2"):
        read_annotations(path, strict=True)


def test_missing_and_spare_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="column overall is missing"):
        read_annotations(annotated(tmp_path / "a.csv", GOOD, header=HEADER.replace("overall", "total")))
    with pytest.raises(UserError, match="one column with a model's explanations, found x, some-model"):
        read_annotations(annotated(tmp_path / "b.csv", "1," + GOOD, header="x," + HEADER))
