"""Task files: what the reader takes and refuses, which names a task may have, and how long a task is known."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.class_inputs import with_question, without_label_sentences
from mentallama_jax.imhi.data_files.build import build_records
from mentallama_jax.imhi.labels.gold_response import read_gold
from mentallama_jax.imhi.labels.upstream import read_as_upstream, upstream_gold
from mentallama_jax.imhi.mixture import mix
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.task_files.kept_tasks import KEPT, kept_tasks, to_keep
from mentallama_jax.imhi.task_files.task import Task
from mentallama_jax.imhi.task_files.task_reading import parse_task
from mentallama_jax.imhi.tasks import SHIPPED, TASKS, own_tasks, read_task_file, task_named
from mentallama_jax.strict_yaml import parse_yaml

FILES = Path(parse_task.__code__.co_filename).parent / "shipped"

SLEEP = """\
name: sleep
aliases: [insomnia-posts]
language: en
question: How does the poster sleep?
labels:
  well:
    sentence: The poster sleeps well.
    aliases: [good sleep]
  badly:
    sentence: The poster sleeps badly.
high_risk:
  labels: [badly]
  reason: lack of sleep makes everything worse
raw_table:
  columns: {post: text, label: class}
  labels: {0: well, 1: badly}
"""


def task(text: str = SLEEP, **changes: Any) -> Task:
    return replace(parse_task(text.encode(), "sleep.yaml"), **changes)


def changed(old: str, new: str) -> str:
    assert SLEEP.count(old) == 1, old
    return SLEEP.replace(old, new)


def test_the_wording_of_the_ten_is_that_of_the_release() -> None:
    keys = ("name", "question", "sentences", "completion_prefix", "completion_words", "aspects", "label_aliases")
    told = [
        {key: plain(getattr(each, key)) for key in (*keys, "aliases", "sizes", "high_risk", "kind", "source")}
        for each in TASKS.values()
    ]
    digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()
    assert digest == "f9dbd0489074ea943a6ce8dfe86befd18afc498410a17251d04e0527448ffa96"


def plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def test_the_folder_holds_the_ten_and_each_says_why_its_labels_are_of_risk() -> None:
    assert {path.stem for path in FILES.iterdir()} == {name.lower() for name in SHIPPED}
    assert all(each.high_risk_reason and each.licence and each.in_english for each in TASKS.values())


def test_a_file_becomes_a_task() -> None:
    read = task()
    assert read.labels == ("well", "badly")
    assert read.completion_words == {"well": "well", "badly": "badly"}
    assert read.completion_prefix == read.question
    assert read.label_aliases == {"well": ("good sleep",)}
    assert read.columns == {"post": "text", "label": "class"}
    assert read.raw_labels == {"0": "well", "1": "badly"}
    assert read.high_risk_note == "badly: lack of sleep makes everything worse"
    assert read.sizes is None
    assert not read.is_shipped


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected keys such as"),
        (changed("question: How does the poster sleep?\n", ""), "question is missing"),
        (changed("language: en\n", ""), "language is missing"),
        (changed("question:", "qestion:"), "unknown key 'qestion'; did you mean question?"),
        (changed("    sentence: The poster sleeps badly.", "    sentense: x"), "did you mean sentence?"),
        (changed("name: sleep", "name: all"), "name is 'all'"),
        (changed("name: sleep", "name: two words"), "name is 'two words'"),
        (changed("name: sleep", "name: 12"), "name is 12; put quotes around it"),
        (changed("aliases: [insomnia-posts]", "aliases: insomnia"), "aliases has to be a list"),
        (changed("[insomnia-posts]", "[Sleep]"), "'Sleep' stands twice"),
        (changed("language: en", "language: English please"), "give a code such as en, de"),
        (changed("sleep?\n", "sleep about {aspect}?\n"), "no aspects are given"),
        (changed("sleep?\n", "sleep in {place}?\n"), "braces may only hold {aspect}"),
        (changed("sleep?\n", "{?\n"), "braces may only hold {aspect}"),
        (changed("labels:\n  well", "aspects: [a, b]\nlabels:\n  well"), "the question does not hold {aspect}"),
        (changed("labels: [badly]", "labels: [terribly]"), "high_risk.labels: 'terribly' is not one of the labels"),
        (changed("1: badly", "1: bad"), "raw_table.labels: 'bad' is not one of the labels"),
        (changed("post: text", "posts: text"), "did you mean post?"),
        (SLEEP + "held_out: maybe\n", "held_out has to be true or false"),
        (SLEEP + "sizes: {train: 1, val: 2}\n", "sizes.test has to be a number of rows"),
        (SLEEP + "english: {nouns: '.*'}\n", "only shipped tasks have it"),
        (SLEEP + "name: again\n", "stands twice"),
    ],
)
def test_what_a_file_may_not_hold(text: str, message: str) -> None:
    with pytest.raises(UserError, match=r"^sleep\.yaml") as failure:
        task(text)
    assert message in str(failure.value)


ONE = "The poster sleeps badly."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed(ONE, "the poster  SLEEPS well"), "sentence of 'badly' reads as the sentence of 'well'"),
        (changed("[good sleep]", "[Badly]"), "cannot be distinguished"),
        (changed("[good sleep]", "['The poster_sleeps-badly!']"), "cannot be distinguished"),
        (changed(ONE, "It is not true that the poster sleeps well."), "is a part of that of 'badly'"),
        (changed(ONE, "'...'"), "holds no letter"),
        (changed("[good sleep]", "['1']"), "holds no letter"),
        (changed(ONE, "No. The poster sleeps badly."), "reads as 2 sentences"),
        (changed(ONE, "Does the poster sleep badly?"), "ends as a question"),
        (changed(ONE, "'The poster sleeps badly, Reasoning: so'"), "holds `Reasoning:`"),
        (changed("  badly:\n    sentence: The poster sleeps badly.\n", "").replace("badly", "well"), "give 2 to"),
        (changed("0: well", "good sleep: badly"), "cannot be distinguished"),
        (changed("[good sleep]", "[ＢＡＤＬＹ]"), "cannot be distinguished"),
    ],
)
def test_labels_that_cannot_be_distinguished_are_named(text: str, message: str) -> None:
    with pytest.raises(UserError, match=r"^sleep\.yaml: labels") as failure:
        task(text)
    assert message in str(failure.value)


def test_a_task_is_known_inside_the_block_only_and_blocks_may_stand_in_each_other() -> None:
    before = list(TASKS)
    with own_tasks([task()]):
        assert list(TASKS) == [*before, "sleep"]
        assert task_named("Insomnia-Posts").name == "sleep"
        with own_tasks([task(), task(name="dreams", aliases=())]):
            assert [each.name for each in TASKS.own] == ["sleep", "dreams"]
        assert [each.name for each in TASKS.own] == ["sleep"]
    with pytest.raises(KeyError), own_tasks([task()]):
        TASKS["nobody's"]
    assert list(TASKS) == before
    with pytest.raises(UserError, match="--tasks FILE adds your own"):
        task_named("sleep")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "dr"}, "dr is a name of the shipped task DR"),
        ({"aliases": ("TSID",)}, "tsid is a name of the shipped task T-SID"),
    ],
)
def test_the_names_of_shipped_tasks_are_taken(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message), own_tasks([task(**changes)]):
        pass


def test_two_files_with_one_name_are_refused(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(SLEEP)
    two.write_text(changed("How does", "How well does"))
    with pytest.raises(UserError, match=r"two\.yaml: .* is a name of sleep too"), own_tasks([one, two]):
        pass
    with own_tasks([one]), own_tasks([one]):
        assert len(TASKS.own) == 1
    with own_tasks([one]), pytest.raises(UserError, match="is known already"), own_tasks([two]):
        pass
    (tmp_path / "three_1.yaml").touch()
    with pytest.raises(UserError, match=r"no such task file, nor a run that keeps one; did you mean three_1\.yaml\?"):
        read_task_file(tmp_path / "three.yaml")
    with pytest.raises(UserError, match="; `mentallama data new-task` writes one"):
        read_task_file(tmp_path / "zzz")
    with pytest.raises(UserError, match="; there is no folder"):
        read_task_file(tmp_path / "gone" / "zzz")
    (tmp_path / "posts.csv").write_text("post,label\n")
    with pytest.raises(UserError, match=r"posts\.csv: a task file ends in \.yaml"):
        read_task_file(tmp_path / "posts.csv")


def test_another_task_of_the_same_name_is_read_by_its_own_wording() -> None:
    other = task(
        changed("The poster sleeps badly.", "The poster barely sleeps."),
        sentences={"well": "Well rested.", "badly": "Tired."},
    )
    for each in (task(), other):
        with own_tasks([each]):
            for label, sentence in each.sentences.items():
                assert read_gold(f"{sentence} Reasoning: So it is.", each) == (label, "So it is.")
                assert without_label_sentences(f"So. {sentence} It is.", each) == "So. It is."


def test_kept_tasks_are_read_back_whole(tmp_path: Path) -> None:
    several = (task(), task(name="aspects", question="{aspect}?", aspects=("a", "b"), language="de", aliases=()))
    (tmp_path / KEPT).write_text(json.dumps(to_keep(several)))
    assert kept_tasks(tmp_path) == several
    assert kept_tasks(tmp_path / "nowhere") == ()
    for damaged in ("[]", '{"tasks": [{"name": "x"}]}', '{"tasks": 3}', '{"tasks": [3]}', "{"):
        (tmp_path / KEPT).write_text(damaged)
        with pytest.raises(UserError, match=KEPT):
            kept_tasks(tmp_path)
    values = to_keep(several)
    values["tasks"][0]["sentences"]["badly"] = values["tasks"][0]["sentences"]["well"]
    (tmp_path / KEPT).write_text(json.dumps(values))
    with pytest.raises(UserError, match="cannot be distinguished"):
        kept_tasks(tmp_path)


def test_every_change_of_a_task_changes_its_fingerprint() -> None:
    changes = {
        "question": "Why?",
        "sentences": {"well": "Fine.", "badly": "Poor."},
        "aspects": ("a",),
        "language": "de",
    }
    assert len({task().fingerprint, *(task(**{key: value}).fingerprint for key, value in changes.items())}) == 5
    assert task() == task()
    assert task().fingerprint == task().fingerprint


def test_a_table_is_read_by_what_the_file_says_of_it(tmp_path: Path) -> None:
    table = tmp_path / "posts.csv"
    table.write_text("text,class\nI slept.,0\nI did not.,badly\nMaybe.,Good Sleep\nWhat,2\n")
    with own_tasks([task()]):
        read = build_records(table, "sleep", "train")
        assert [(record.post, record.label) for record in read.records] == [
            ("I slept.", "well"),
            ("I did not.", "badly"),
            ("Maybe.", "well"),
        ]
        assert len(read.problems) == 1
        assert mix(read.records, datasets=["insomnia-posts"]) == read.records


def test_the_released_scorer_knows_no_task_of_ones_own() -> None:
    for read in (read_as_upstream, upstream_gold):
        with pytest.raises(UserError, match="knows the ten data sets of the benchmark only"):
            read("yes", task())


def test_a_record_of_an_own_task_is_asked_its_question() -> None:
    own = task(question="Is {aspect} there?", aspects=("hunger", "thirst"))
    with own_tasks([own]):
        record = Record("1", "sleep", "a post", "well", aspect="thirst")
        assert record.task is own
        assert with_question("text", record.task, record.aspect) == "Is thirst there? text"
        with pytest.raises(UserError, match="is not an aspect of sleep"):
            Record("1", "sleep", "a post", "well")


JUNK: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    "",
    " ",
    "\u202e",
    "{",
    "{aspect}",
    "x" * 5_000,
    [],
    [[]],
    {},
    {"a": {}},
    "a\nb",
    ["a", 1],
]
PARTS: list[tuple[str, ...]] = [
    *(
        (key,)
        for key in ("name", "aliases", "language", "question", "labels", "high_risk", "raw_table", "aspects", "sizes")
    ),
    *(("labels", "well", key) for key in ("sentence", "completion", "aliases")),
    *(("high_risk", key) for key in ("labels", "reason")),
    *(("raw_table", key) for key in ("columns", "labels")),
    ("labels", "well"),
]


@pytest.mark.parametrize("path", PARTS, ids=".".join)
def test_whatever_stands_under_a_key_is_a_task_or_one_line(path: tuple[str, ...]) -> None:
    for junk in JUNK:
        values = parse_yaml(SLEEP, "sleep.yaml")
        place = values
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = junk
        read = outcome(json.dumps(values).encode())
        if isinstance(read, str):
            assert read.startswith("sleep.yaml")
            assert len(read) < 400
        else:
            assert Task.of_json(read.to_json()) == read
            assert read.question.format(aspect="a")


def outcome(content: bytes) -> Task | str:
    """The task, or why it is refused."""
    try:
        return parse_task(content, "sleep.yaml")
    except UserError as error:
        return str(error)
