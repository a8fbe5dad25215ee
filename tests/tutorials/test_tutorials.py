"""The tutorials run as they stand; the one that tunes a model, with fewer updates."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
NAMES = sorted(path.name for path in HERE.glob("*.py") if path.name != Path(__file__).name)


def run(name: str, changes: dict[str, str], folder: Path) -> dict[str, Any]:
    """What a tutorial leaves behind, with some of its text replaced."""
    text = (HERE / name).read_text("utf-8")
    for old, new in changes.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    copy = folder / name
    copy.write_text(text, encoding="utf-8")
    return runpy.run_path(str(copy))


def test_a_model_is_tuned_and_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    short = {
        "STEPS = 252": "STEPS = 2",
        "max_new_tokens=60": "max_new_tokens=8",
        "for row in map(json.loads, lines) if": "for row in [*map(json.loads, lines)][:60] if",
    }
    left = run("tune_and_score.py", short, tmp_path)
    assert left["run"].steps == 2
    assert len(left["analyses"]) == len(left["rows"]) > 2
    assert left["scores"].scores["pooled"]["n"] == len(left["rows"])
    assert left["scores"].scores["pooled"]["unparsed"] == 0
    assert (tmp_path / "scores" / "tutorial" / "report.html").is_file()


def test_predictions_of_others_are_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    left = run("score_predictions.py", {}, tmp_path)
    assert left["scores"].scores["pooled"]["n"] == len(left["rows"])
    assert left["scores"].scores["grounding"]["posts_given"]
    assert 0 < left["figures"].loc["DR", "weighted_f1"] < 1
    assert left["own"].scores["datasets"]["sleep"]["accuracy"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", NAMES)
def test_a_tutorial_opens_as_a_notebook(name: str) -> None:
    """Cells begin with `# %%`; the text of a cell of Markdown is a comment, line by line."""
    cells = re.split(r"^# %%", (HERE / name).read_text("utf-8"), flags=re.MULTILINE)
    assert cells[0] == ""
    assert len(cells) > 6
    for cell in cells[1:]:
        kind, _, body = cell.partition("\n")
        assert kind in ("", " [markdown]")
        comments = [line for line in body.splitlines() if line.startswith("#")]
        assert (len(comments) == len(body.strip().splitlines())) == (kind != ""), cell
