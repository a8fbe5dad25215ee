"""2,000 damaged files of every form that a stranger may send: each is read rightly, or refused in one clear line.

`tests/fuzz/repeat.py` runs one case again.
"""

import random
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("gguf", reason="the extra gguf is not installed")

from forms import CASES, forms
from hostile import run_case

FORMS = {form.name: form for form in forms()}


def test_there_are_two_thousand_cases() -> None:
    assert FORMS.keys() == CASES.keys()
    assert sum(CASES.values()) >= 2000


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:.*:ResourceWarning")
def test_damaged_files_are_read_rightly_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    failures = [run_case(FORMS[name], number, tmp_path / str(number)) for number in range(CASES[name])]
    assert [str(failure) for failure in failures if failure is not None] == []


@pytest.mark.parametrize("name", CASES)
def test_most_cases_of_a_form_change_it_and_the_same_ones_each_time(name: str) -> None:
    form = FORMS[name]

    def damaged() -> list[str]:
        found = []
        for number in range(1, 30):
            files = dict(form.files)
            form.damage(files, random.Random(f"{name}/{number}"))
            found.append(repr(sorted(files.items())))
        return found

    found = damaged()
    assert found == damaged()
    assert sum(text != repr(sorted(form.files.items())) for text in found) > 20
    assert Counter(found).most_common(1)[0][1] < 10
