"""Pseudonyms: consistent, keyed, of the kind of what they replace; what must stay stays."""

import re
from dataclasses import fields, replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.disguise import disguise_key
from mentallama_jax.imhi.disguise.disguise_key import DisguiseKey, key_of_environment, new_key, read_key, refuse_beside
from mentallama_jax.imhi.disguise.disguised_records import disguise_prediction, disguise_record
from mentallama_jax.imhi.disguise.identifiers import find, replaced
from mentallama_jax.imhi.disguise.paraphrase import Bounds, paraphrase
from mentallama_jax.imhi.disguise.pseudonyms import Pseudonyms
from mentallama_jax.imhi.disguise.searchability import longest_run, run_figures
from mentallama_jax.imhi.predictions import Prediction, answer_to
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.imhi.wording import completion_query, completion_response, instruction_query, instruction_response

KEY, OTHER_KEY = DisguiseKey(b"k" * 32), DisguiseKey(b"o" * 32)
POST = (
    "Hi Sarah, my name is Tom Keller and I'm 23 (M23). u/blue_kettle9 wrote to blue_kettle9@mail.com on March 3, "
    "2021 at 4:30 pm. Call 555-867-5309 or see https://blog.site.com/tom. I live at 42 Oak Street, Apt 4B, "
    "Springfield, IL 62704. Sarah, I wrote on r/depression too. Edit: thanks all.\n- Tom"
)
IDENTIFIERS = ("Sarah", "Tom", "Keller", "I'm 23", "blue_kettle9", "mail.com", "March 3", "4:30", "867-5309",
               "site.com", "42 Oak", "62704", "Springfield", "r/depression", "Edit")  # fmt: skip


def record(post: str = POST, explanation: str = "") -> Record:
    return Record("DR/train/1", "DR", post, "yes", explanation, split="train", source="/home/me/DR.csv:1")


def disguised(text: str, key: DisguiseKey = KEY, post: str = "p") -> str:
    pseudonyms = Pseudonyms(key, post)
    return replaced(text, find(text, pseudonyms))


def test_every_kind_is_replaced_and_what_must_stay_stays() -> None:
    new = disguise_record(record(), KEY)
    assert [text for text in IDENTIFIERS if text in new.post] == []
    kept = (new.id, new.dataset, new.label, new.aspect, new.split)
    assert kept == ("DR/train/1", "DR", "yes", "", "train")
    assert "/home/me" not in new.source
    assert re.fullmatch(
        r"Hi (\w+), my name is (\w+) \w+ and I'm (\d\d) \(M\3\)\. u/\w+ wrote to \w+@example\.org on \w+ \d+, 202[01] "
        r"at \d+:\d\d [ap]m\. Call \d{3}-555-01\d\d or see https://example\.org/\w+\. I live at \d+ \w+ Street, "
        r"Apt \d+, \w+ton, IL 00\d{3}\. \1, I wrote on r/group_\w+ too\. Added: thanks all\.\n- \2",
        new.post,
    )


def test_explanations_get_the_pseudonyms_of_their_post_so_that_quotes_still_match() -> None:
    why = 'Sarah is asked for help by a 23-year-old. The post says "my name is Tom Keller and I\'m 23". Tom is alone.'
    new = disguise_record(record(explanation=why), KEY)
    quote = re.search('"(.*)"', new.explanation)
    assert quote is not None
    assert quote[1] in new.post
    assert not re.search("Sarah|Tom|Keller|23", new.explanation)


def test_equal_posts_give_equal_texts_and_another_key_changes_every_pseudonym() -> None:
    one, again = (disguise_record(replace(record(), id=name), KEY) for name in ("a", "b"))
    assert one.post == again.post
    other = disguise_record(record(), OTHER_KEY)
    for pattern in (
        r"Hi (\w+)",
        r"u/(\w+)",
        r"(\w+)@",
        r"org/(\w+)",
        r"group_(\w+)",
        r"name is (\w+)",
        r"at \d+ (\w+)",
    ):
        first, second = re.search(pattern, one.post), re.search(pattern, other.post)
        assert first is not None
        assert second is not None
        assert first[1] != second[1], pattern


def test_the_scope_says_where_a_name_keeps_its_pseudonym() -> None:
    posts = [record("u/blue_kettle9 is here."), record("I know u/Blue_Kettle9 well.")]
    names = {
        scope: [re.search(r"u/(\w+)", disguise_record(each, KEY, scope=scope).post)[1] for each in posts]  # type: ignore
        for scope in ("post", "data")
    }
    assert names["data"][0] == names["data"][1]
    assert names["post"][0] != names["post"][1]


def test_a_disguised_record_is_returned_as_it_is() -> None:
    once = disguise_record(record(explanation="Tom."), KEY)
    assert disguise_record(once, OTHER_KEY) is once


@given(st.integers(5, 99), st.binary(min_size=32, max_size=32), st.text(max_size=5))
@settings(max_examples=200)
def test_ages_move_by_one_or_two_years_and_stay_on_their_side_of_13_and_18(years: int, key: bytes, post: str) -> None:
    new = Pseudonyms(DisguiseKey(key), post).age(years)
    assert 1 <= abs(new - years) <= 2
    assert [new < bound for bound in (13, 18)] == [years < bound for bound in (13, 18)]


@given(st.dates(date(1950, 1, 1), date(2090, 1, 1)), st.binary(min_size=32, max_size=32))
@settings(max_examples=200)
def test_dates_move_by_whole_weeks_in_their_notation(day: date, key: bytes) -> None:
    (found,) = find(f"on {day:%Y-%m-%d}", Pseudonyms(DisguiseKey(key), ""))
    moved = (date.fromisoformat(found.new) - day).days
    assert moved % 7 == 0
    assert 7 <= abs(moved) <= 56


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("on March 3rd", r"on (January|February|March|April) \d+(st|nd|rd|th)"),
        ("on 03/14/2021", r"on \d\d/\d\d/202[01]"),
        ("on 14.03.21", r"on \d\d\.\d\d\.2[01]"),
        ("in Mar 2021", r"in [A-Z][a-z]{2} 2021"),
        ("2021-03-14T15:20:00Z", r"2021-0[1-5]-\d\dT\d\d:\d\d:00Z"),
        ("on March 3 at 3pm", r"on [A-Z]\w+ \d+ at [24]pm"),
        ("my 21st birthday", r"my (19th|20th|22nd|23rd) birthday"),
        ("I'm an 18 year old", r"I'm a (19|20) year old"),
        ("I am twenty-one years old", r"I am (nineteen|twenty|twenty-two|twenty-three) years old"),
        ("born in 1998", r"born in (1996|1997|1999|2000)"),
        ("my name is sarah", r"my name is [a-z]+"),
        ("MY NAME IS SARAH", r"MY NAME IS [A-Z]+"),
        ("Hi Anne-Marie's here", r".*"),
        ("+44 7700 123456", r"\+44 00\d\d \d{6}"),
        ("at SW1A 2AA.", r"at ZZ0X 0XX\."),
        ("www.site.org/a/b", r"www\.example\.org/\w+"),
        ("name_x at mail dot com", r"\w+@example\.org"),
    ],
)
def test_pseudonyms_keep_the_notation(text: str, pattern: str) -> None:
    for key in (KEY, OTHER_KEY):
        assert re.fullmatch(pattern, disguised(text, key)), disguised(text, key)


@pytest.mark.parametrize("text", ["call 988", "1-800-273-8255", "0800 1111 222", "116 123", "text 741741", "13 11 14"])
def test_lines_of_help_stay(text: str) -> None:
    assert disguised(f"Please {text} now.") == f"Please {text} now."


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_questions_and_label_sentences_are_no_identifiers(task: object) -> None:
    known = next(each for each in TASKS.values() if each is task)
    for aspect in known.aspects or ("",):
        for label in known.labels:
            row = Record("r", known.name, "Nothing.", label, aspect=aspect)
            for text in (
                instruction_query(row),
                instruction_response(row),
                completion_query(row),
                completion_response(row),
            ):
                assert find(text, Pseudonyms(KEY, "p")) == []


def test_an_age_of_the_post_is_known_in_its_explanation_by_the_number_alone() -> None:
    new = disguise_record(record("I'm 23 and 40 of us left.", "Alone at 23, with 40 gone, 23% of them, 23 of 23."), KEY)
    age = re.search(r"I'm (\d\d) and 40", new.post)
    assert age is not None
    assert new.explanation == f"Alone at {age[1]}, with 40 gone, 23% of them, {age[1]} of {age[1]}."


def test_outputs_of_models_get_the_pseudonyms_of_their_post() -> None:
    row = record("u/blue_kettle9 is sad.", "blue")
    prediction = answer_to(row, "Yes. Reasoning: u/blue_kettle9 writes that blue_kettle9 is sad at 23 years old.")
    new, counts = disguise_prediction(prediction, KEY)
    account = re.search(r"u/(\w+)", disguise_record(row, KEY).post)
    assert account is not None
    assert new.generated_text.startswith(f"Yes. Reasoning: u/{account[1]} writes that {account[1]} is sad at ")
    assert counts == {"handle": 2, "age": 1}
    assert (new.id, new.label, new.dataset) == (prediction.id, "yes", "DR")
    assert new.post_id != prediction.post_id


def test_no_text_of_a_prediction_keeps_an_identifier() -> None:
    texts = {
        field.name for field in fields(Prediction) if field.type in ("str", "tuple[str, ...]", str, tuple[str, ...])
    }
    told = {"id", "examples"}  # names of rows, which the job replaces
    closed = {"dataset", "aspect", "split", "label", "finish", "samples_finish", "decided_label"}  # words of a list
    text = "u/blue_kettle9 is sad."
    values = {name: (text, text) if name == "samples" else text for name in texts - told - closed}
    prediction = replace(answer_to(record("A grey day."), ""), **values)
    new, counts = disguise_prediction(prediction, KEY)
    assert "blue_kettle9" not in new.to_line()
    assert counts == {"handle": 4}
    assert {len(new.samples), len(set(new.samples) | {new.generated_text, new.goldens})} == {2, 1}


@given(st.text(max_size=200), st.text(max_size=80))
@settings(max_examples=150)
def test_any_text_is_disguised_the_same_each_time(post: str, explanation: str) -> None:
    row = record(post, explanation)
    assert disguise_record(row, KEY) == disguise_record(row, KEY)


def test_long_hostile_texts_take_no_time() -> None:
    import time

    started = time.monotonic()
    for piece in (
        "a.",
        "1 ",
        "@",
        "u/",
        "http://",
        "Hi ",
        "12 a ",
        "(((",
        "01/",
        "I'm ",
        "- ",
        "\n",
        "call me ",
        "M ",
        "  ",
        "thanks, ",
    ):
        disguised(piece * (10_000 // len(piece)))
    assert time.monotonic() - started < 30


# keys


def test_a_new_key_is_readable_by_its_owner_alone_and_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "a.key"
    key = new_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key(path) == key
    assert key.secret.hex() not in repr(key)
    assert new_key(tmp_path / "b.key") != key
    with pytest.raises(UserError, match="exists already"):
        new_key(path)
    path.chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        read_key(path)


def test_what_is_no_key_is_refused_and_not_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.key"
    path.write_text("hunter2hunter2")
    path.chmod(0o600)
    with pytest.raises(UserError, match="holds no key") as caught:
        read_key(path)
    assert "hunter" not in str(caught.value)
    monkeypatch.setenv(disguise_key.VARIABLE, "hunter2")
    with pytest.raises(UserError, match="environment variable") as caught:
        key_of_environment()
    assert "hunter" not in str(caught.value)
    monkeypatch.setenv(disguise_key.VARIABLE, KEY.secret.hex())
    assert key_of_environment() == KEY
    monkeypatch.delenv(disguise_key.VARIABLE)
    assert key_of_environment() is None


def test_a_key_beside_the_data_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "shared"
    out.mkdir()
    (tmp_path / "link").symlink_to(out)
    for key in (out / "a.key", out / "below" / "a.key", tmp_path / "link" / "a.key"):
        for place in (out, out / "data.jsonl"):
            with pytest.raises(UserError, match="beside the data"):
                refuse_beside(key, place)
    refuse_beside(tmp_path / "a.key", out / "data.jsonl")


# what is left


def test_the_longest_run_is_that_of_words_in_both_texts() -> None:
    before = "One two three, four five six seven."
    assert longest_run(before, "x ONE TWO three y four five six z") == 3
    assert longest_run(before, before) == 7
    assert longest_run(before, "nothing here") == 0
    assert longest_run("", before) == 0
    assert longest_run("don't go", "DON’T GO now") == 2


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_the_longest_run_is_that_of_a_search_over_all(first: list[str], second: list[str]) -> None:
    runs = [
        length
        for length in range(1, len(first) + 1)
        for at in range(len(first) - length + 1)
        if any(first[at : at + length] == second[there : there + length] for there in range(len(second)))
    ]
    assert longest_run(" ".join(first), " ".join(second)) == max(runs, default=0)


def test_figures_of_runs_count_every_post_once() -> None:
    figures = run_figures([0, 3, 7, 8, 30, 500], 8)
    assert (figures.posts, figures.searchable, figures.quantiles["longest"], figures.quantiles["50%"]) == (6, 3, 500, 7)
    assert sum(figures.histogram.values()) == 6
    assert run_figures([], 8).searchable == 0


def test_paraphrases_are_kept_only_within_the_bounds() -> None:
    original = "one two three four five six seven eight nine ten"
    rewritings = ["three two one other words", original, "", "nothing alike", "far"]
    near = {"three two one other words": 0.9, original: 1.0, "": 1.0, "nothing alike": 0.69, "far": float("nan")}
    seen: list[str] = []

    def rewrite(texts: object) -> list[str]:
        seen.extend(list(texts))  # type: ignore[call-overload]
        return [f" {text}\n" for text in rewritings]

    disguised_texts = [f"disguised {number}" for number in range(5)]
    result = paraphrase(
        [original] * 5, disguised_texts, rewrite, lambda pairs: [near[new] for _, new in pairs], Bounds(0.7, 8)
    )
    assert seen == disguised_texts
    assert result.outcomes == ("kept", "long run left", "empty", "too different", "too different")
    assert result.texts == (rewritings[0], *disguised_texts[1:])
    assert result.counts == {"kept": 1, "empty": 1, "too different": 2, "long run left": 1}
