"""The shipped crisis lines, and what is refused of a file of one's own."""

import re
from pathlib import Path

import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.serving.crisis_lines import read_crisis_lines

OWN = """
elsewhere: {name: Find A Helpline, web: 'https://findahelpline.com'}
countries:
  GB:
    country: United Kingdom
    emergency: '999'
    lines: [{name: Samaritans, call: '116 123', checked: '2026-11-01'}]
"""


@pytest.mark.parametrize(
    ("code", "number"),
    [
        ("US", "988"), ("CA", "988"), ("GB", "116 123"), ("IE", "116 123"), ("DE", "0800 1110111"), ("AU", "13 11 14"),
        ("FR", "3114"), ("ES", "024"), ("AT", "142"), ("CH", "143"), ("NL", "113"), ("NZ", "1737"), ("BR", "188"),
    ],
)  # fmt: skip
def test_well_known_numbers_are_there(code, number):
    assert read_crisis_lines().countries[code].lines[0].call == number


def test_every_line_says_where_it_is_published_and_when_it_was_noted():
    lines = read_crisis_lines()
    for own in lines.countries.values():
        assert own.emergency
        for line in own.lines:
            assert line.source
            assert line.noted
            assert line.call or line.text
    assert lines.elsewhere.web
    assert list(lines.countries) == sorted(lines.countries, key=lambda code: lines.countries[code].country)


def test_what_nobody_has_checked_is_known(tmp_path: Path):
    shipped = read_crisis_lines()
    assert set(shipped.unchecked) == set(shipped.countries)
    (tmp_path / "own.yaml").write_text(OWN, "utf-8")
    own = read_crisis_lines(tmp_path / "own.yaml")
    assert own.unchecked == ()
    assert own.to_json()["countries"]["GB"]["lines"][0]["call"] == "116 123"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("'116 123'", "116123", "'GB': line 1: call: give a text"),
        ("'116 123'", "'javascript:x'", "is no number"),
        ("call: '116 123', ", "", "at least one of call, text and web"),
        ("'2026-11-01'", "'last week'", "checked: (a text of 9 characters) is no date"),
        ("name: Samaritans", "name: Samaritans, fax: '1'", "unknown key 'fax'"),
        ("'https://findahelpline.com'", "'http://a.example'", "elsewhere: web: a page begins with https://"),
        ("GB:", "Britain:", "two capital letters"),
        ("emergency: '999'", "police: '999'", "the keys country, emergency, lines"),
        ("[{name: Samaritans, call: '116 123', checked: '2026-11-01'}]", "[]", "at least one line"),
        ("countries:", "nations:", "the keys countries, elsewhere"),
        ("countries:", "countries: [", "not valid YAML"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, old, new, said):
    assert old in OWN
    (tmp_path / "own.yaml").write_text(OWN.replace(old, new, 1), "utf-8")
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        read_crisis_lines(tmp_path / "own.yaml")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="no such file of crisis lines"):
        read_crisis_lines(tmp_path / "none.yaml")
