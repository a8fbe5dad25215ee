"""What is wrong or risky in data is found, and counted as it is."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallama_jax.config import Style
from mentallama_jax.imhi.audit.check import CheckReport, PartReport, WordingReport, check_records
from mentallama_jax.imhi.audit.inventory import Survey, survey
from mentallama_jax.imhi.audit.leaks import shared_posts
from mentallama_jax.imhi.audit.lengths import Length, measure_length, summarise_lengths
from mentallama_jax.imhi.data_files.cleaning import has_mojibake, is_spreadsheet_error, repair_mojibake
from mentallama_jax.imhi.data_files.writers import write_queries, write_records, write_release
from mentallama_jax.imhi.prompts import PromptTokenizer
from mentallama_jax.imhi.records import Record


def record(post: str, label: str = "yes", *, dataset: str = "DR", split: str = "train", aspect: str = "") -> Record:
    name = f"{dataset}/{split}/{post}/{label}"
    return Record(name, dataset, post, label, explanation="reasons", aspect=aspect, split=split, source=f"f.csv:{name}")


def report_of(records: list[Record], twins: list[Record] | None = None) -> CheckReport:
    return check_records(Survey(records, twins or [], [], [], [], []))


def part_of(report: CheckReport, dataset: str, split: str) -> PartReport:
    (part,) = (part for part in report.parts if (part.dataset, part.split) == (dataset, split))
    return part


def test_labels_that_their_explanation_contradicts_are_listed() -> None:
    against = (
        "The post does not show that the poster suffers from depression. Overall, no signs of depression are shown."
    )
    rows = [
        replace(record("a"), explanation=against),
        replace(record("b", "no"), explanation=against),
        replace(record("c"), explanation="It says so."),
        replace(record("d", ""), explanation=against),
    ]
    report = report_of(rows)
    assert [row.id for row in report.contradictions] == [rows[0].id]
    assert part_of(report, "DR", "train").contradictions == 1


def test_rows_without_a_label_are_counted_apart() -> None:
    report = report_of([record("a", ""), record("b"), record("a", "no")])
    assert [row.id for row in report.unlabelled] == ["DR/train/a/"]
    part = part_of(report, "DR", "train")
    assert (part.rows, part.unlabelled, part.conflicting_questions) == (3, 1, 0)
    assert part.labels == {"": {"yes": 1, "no": 1}}


def test_near_copies_across_parts_are_listed_by_the_ids_of_rows() -> None:
    text = "The rent is due again and I do not know how to tell my sister about it"
    rows = [
        record(text),
        record(f"{text} www.example.org"),
        record(f"{text}!", split="test"),
        record(text.upper(), dataset="CLP"),
    ]
    report = report_of(rows).near_copies
    ids = {(one.id, two.id, share) for one, two, share in report.pairs}
    assert ids == {(rows[0].id, rows[1].id, 1.0), (rows[0].id, rows[2].id, 1.0), (rows[1].id, rows[2].id, 1.0)}
    assert (report.alike, report.contained) == (0.8, 0.9)


# Mojibake and spreadsheet errors


@given(st.text(alphabet="ab cé¿’“”…—😢❤️", min_size=1))
def test_what_macroman_broke_is_repaired(text: str) -> None:
    broken = text.encode().decode("mac_roman")
    assert repair_mojibake(broken) == text
    assert has_mojibake(broken) == (not text.isascii())


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "naïve café, “quoted” – don’t…",
        "über √2 und ‚Äpfel‘",
        "¬q and ‚low‘ quotes",
        "a whole one ‚Äô and a real ’",  # MacRoman all of it, but not UTF-8
        "a whole one ‚Äô and a Cyrillic д",  # not MacRoman
    ],
)
def test_what_is_not_mojibake_throughout_stays(text: str) -> None:
    assert repair_mojibake(text) == text


def test_mojibake_that_cannot_be_undone_is_still_seen() -> None:
    assert has_mojibake("a whole one ‚Äô and a Cyrillic д")
    assert not has_mojibake("über √2 und ‚Äpfel‘")


def test_spreadsheet_errors_are_whole_posts() -> None:
    assert is_spreadsheet_error(" #NAME? ")
    assert is_spreadsheet_error("#div/0!")
    assert not is_spreadsheet_error("my sheet says #NAME? again")


# Counts by data set and split


def test_a_part_is_counted() -> None:
    broken = record("don‚Äôt")
    rows = [record("a"), record("A  "), record("b", "no"), record("B", "yes"), record("#NAME?"), broken]
    rows.append(replace(record("c", "no"), explanation=""))
    part = part_of(report_of(rows), "DR", "train")
    assert part == PartReport(
        dataset="DR",
        split="train",
        rows=7,
        benchmark_rows=1003,
        posts=5,
        unlabelled=0,
        contradictions=0,
        empty_explanations=1,
        mojibake=1,
        spreadsheet_errors=1,
        repeated_questions=2,
        conflicting_questions=1,
        labels={"": {"yes": 5, "no": 2}},
    )


def test_questions_about_another_aspect_are_no_repetition() -> None:
    rows = [
        record("a", dataset="IRF", aspect=aspect) for aspect in ("thwarted belongingness", "perceived burdensomeness")
    ]
    report = report_of(rows)
    assert report.repeated == []
    assert part_of(report, "IRF", "train").labels == {
        "thwarted belongingness": {"yes": 1, "no": 0},
        "perceived burdensomeness": {"yes": 1, "no": 0},
    }


def test_repetitions_across_splits_are_named_but_belong_to_no_part() -> None:
    report = report_of([record("a"), record("a", "no", split="test"), record("a", dataset="dreaddit")])
    (repeated,) = report.repeated
    assert (repeated.dataset, repeated.splits, repeated.conflict) == ("DR", ("train", "test"), True)
    assert [row.id for row in repeated.rows] == ["DR/train/a/yes", "DR/test/a/no"]
    assert [part.repeated_questions for part in report.parts] == [0, 0, 0]


def test_parts_come_in_the_order_of_the_benchmark() -> None:
    rows = [record("a", dataset="SAD", label="work"), record("b", split=""), record("c", split="test"), record("d")]
    parts = [(part.dataset, part.split, part.benchmark_rows) for part in report_of(rows).parts]
    assert parts == [("DR", "train", 1003), ("DR", "test", 405), ("DR", "", None), ("SAD", "train", 5547)]


def test_rows_are_named_but_posts_are_not_told() -> None:
    secret = "unmistakable words"
    rows = [replace(record("x"), post=secret, id=str(number), explanation="") for number in range(2)]
    report = report_of(rows, [replace(row, post=f"{secret} more") for row in rows])
    assert secret not in str(report.as_json())
    assert [row.id for row in report.empty_explanations] == ["0", "1"]


# Leaks

PARTS = st.tuples(st.sampled_from(["DR", "dreaddit", "loneliness"]), st.sampled_from(["train", "val", "test"]))


@given(st.lists(st.tuples(PARTS, st.integers(0, 5)), min_size=1, max_size=30))
def test_shared_posts_are_those_of_both(rows: list[tuple[tuple[str, str], int]]) -> None:
    found = shared_posts([record(f"post {post}", dataset=part[0], split=part[1]) for part, post in rows])
    posts = {part: {post for other, post in rows if other == part} for part in found.parts}
    assert set(found.parts) == {part for part, _ in rows}
    for row, first in enumerate(found.parts):
        assert found.matrix[row] == [len(posts[first] & posts[second]) for second in found.parts]
    training = {dataset for dataset, split in found.parts if split == "train"}
    assert len(found.leaks) == (sum(split != "train" for _, split in found.parts) if training else 0)
    for leak in found.leaks:
        mine = posts[leak.dataset, leak.split]
        counts = {dataset: len(mine & posts[dataset, "train"]) for dataset in training}
        assert leak.posts == len(mine)
        assert leak.own == counts.pop(leak.dataset, 0)
        assert leak.others == {dataset: count for dataset, count in counts.items() if count}
        assert leak.any == len({post for post in mine if any(post in posts[name, "train"] for name in training)})


# The two wordings


def test_differences_of_the_two_wordings_are_told_apart() -> None:
    rows = [record(post) for post in ("same", "one two", "cut", "whole post", "other", "answer")]
    twins = [
        replace(row, post=post)
        for row, post in zip(rows, ("same", "one\n two ", "cut here", "whole", "an other", "answer"), strict=True)
    ]
    twins[-1] = replace(twins[-1], label="no")
    (report,) = report_of([*rows, record("alone")], twins).wordings
    names = tuple(row.id for row in report.rows)
    assert names == tuple(row.id for row in rows[1:])
    assert report == WordingReport("DR", "train", 6, cut=2, white_space=1, other=1, answers=1, rows=report.rows)


def test_completion_files_beside_instruction_files_are_twins(tmp_path: Path) -> None:
    rows = [record("first"), record("second", "no"), record("third", split="test")]
    write_release(tmp_path / "release", rows)
    found = survey([str(tmp_path / "release")])
    assert len(found.records) == len(found.twins) == 3
    assert sorted((Path(file.file).parts[-3:-1], file.twin) for file in found.files) == [
        (("complete_data", "DR"), True),
        (("instruction_data", "DR"), False),
        (("test_data", "test_complete"), True),
        (("test_data", "test_instruction"), False),
    ]
    assert [(part.compared, part.rows) for part in check_records(found).wordings] == [(2, ()), (1, ())]
    only_train = survey([f"{tmp_path}/release:train"])
    assert [row.split for row in only_train.records + only_train.twins] == ["train"] * 4


def test_completion_files_alone_are_records(tmp_path: Path) -> None:
    write_release(tmp_path / "release", [record("first")])
    found = survey([str(tmp_path / "release/train_data/complete_data")])
    assert (len(found.records), found.twins, found.passed_over) == (1, [], [])


def test_model_outputs_and_the_like_are_passed_over(tmp_path: Path) -> None:
    write_release(tmp_path / "release", [record("first")])
    write_queries(tmp_path / "release/human_evaluation/test_instruction_expert/DR.csv", [record("e")], "instruction")
    found = survey([str(tmp_path / "release")])
    assert [Path(path).name for path in found.passed_over] == ["DR.csv"]
    assert len(found.records) == 1


# What cannot be read


def test_one_bad_file_does_not_hide_the_others(tmp_path: Path) -> None:
    write_records(tmp_path / "good.jsonl", [record("a")])
    (tmp_path / "nul.csv").write_bytes(b"query,gpt-3.5-turbo\n\0,\n")
    with (tmp_path / "good.jsonl").open("a") as stream:
        stream.write('{"dataset": "DR", "post": "x", "label": "perhaps"}\n')
    found = survey([str(tmp_path), str(tmp_path / "absent")])
    assert len(found.records) == 1
    assert [problem.row for problem in found.bad_rows] == [2]
    assert [line.split(":")[0].split(",")[0] for line in found.unreadable] == [
        str(tmp_path / "absent"),
        str(tmp_path / "nul.csv"),
    ]
    assert [(file.rows, file.bad_rows) for file in found.files] == [(1, 1)]


# Lengths


class Letters:
    """A token for each character."""

    bos_id: int | None = 1
    eos_id = 2
    chat_template: str | None = None

    def encode(self, text: str, *, continues: bool = False) -> list[int]:
        return [ord(character) for character in text]

    def special_id(self, token: str) -> int:
        raise AssertionError(token)


def test_a_length_is_that_of_the_whole_example_and_of_what_is_kept() -> None:
    letters: PromptTokenizer = Letters()
    style: Style = "plain"
    short = measure_length(record("a" * 10), style, letters, 1000)
    assert short.whole == short.kept
    longer = measure_length(record("a" * 110), style, letters, 1000)
    assert longer.whole == short.whole + 100
    assert measure_length(record("a" * 110), style, letters, short.whole).kept == short.whole
    assert measure_length(record("a" * 110), style, letters, short.whole - 11).kept is None


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40))
def test_quantiles_leave_their_share_below(wholes: list[int]) -> None:
    part = ("DR", "train")
    (report,) = summarise_lengths([Length("x", part, whole, min(whole, 30)) for whole in wholes], [part])
    for percent, value in ((5, report.p5), (50, report.p50), (95, report.p95), (100, report.longest)):
        assert value in wholes
        assert sum(whole <= value for whole in wholes) * 100 >= percent * len(wholes)
        assert sum(whole < value for whole in wholes) * 100 < percent * len(wholes)
    assert report.too_long == sum(whole > 30 for whole in wholes)
    assert report.cut_tokens == sum(max(0, whole - 30) for whole in wholes)


# The released files


@pytest.fixture(scope="module")
def release_report(imhi_release: Path) -> CheckReport:
    return check_records(survey([str(imhi_release)]))


def test_released_posts_of_dr_differ_between_the_wordings(release_report: CheckReport) -> None:
    dr = next(part for part in release_report.wordings if (part.dataset, part.split) == ("DR", "train"))
    assert (dr.compared, len(dr.rows), dr.cut) == (1003, 37, 37)
    assert sum(part.answers for part in release_report.wordings) == 0


def test_released_dreaddit_has_spreadsheet_errors_and_conflicts(release_report: CheckReport) -> None:
    part = part_of(release_report, "dreaddit", "train")
    assert (part.spreadsheet_errors, part.repeated_questions, part.conflicting_questions) == (4, 12, 4)
    assert len({row.label for row in release_report.spreadsheet_errors}) == 2


def test_released_mojibake_is_all_repairable(imhi_release: Path, release_report: CheckReport) -> None:
    affected = {part.dataset for part in release_report.parts if part.mojibake}
    assert affected == {"MultiWD", "IRF", "loneliness"}
    assert part_of(release_report, "MultiWD", "val").mojibake / 1500 > 0.25
    validation = [str(imhi_release / "train_data/instruction_data" / name) for name in ("MultiWD", "Irf")]
    assert sum(file.mojibake for file in survey(validation, repair_mojibake=True).files) == 0


def test_released_files_are_read_whole(release_report: CheckReport) -> None:
    assert release_report.unreadable == []
    assert release_report.bad_rows == []
    whole = {(part.dataset, part.split) for part in release_report.parts if part.rows == part.benchmark_rows}
    three = {(dataset, split) for dataset in ("DR", "dreaddit", "SAD") for split in ("train", "val", "test")}
    assert whole == three | {("MultiWD", "val"), ("IRF", "val")}
