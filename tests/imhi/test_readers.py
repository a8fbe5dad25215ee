"""Every released layout, written by hand here, is read to the right record; every malformation is one line."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.data_files.readers import read_records, records_from_dataset, split_query
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.imhi.wording import completion_query, completion_response, instruction_query, instruction_response

POST = 'She said "fine"  \nand left. Question: why?" Question: What now?, "x\\"\r\n'
EXPLANATION = "The post\nsays so, “plainly”. Reasoning: again."

EVERY_ANSWER = [
    Record(f"{task.name}/test/1", task.name, POST, label, EXPLANATION, aspect, "test")
    for task in TASKS.values()
    for aspect in task.aspects or ("",)
    for label in task.labels
]


def write_csv(path: Path, header: list[str], *rows: list[str], bom: bool = False, end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8-sig" if bom else "utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator=end)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def dr_row(
    post: str = "All is grey.", answer: str = "Yes, the poster suffers from depression. Reasoning: Grey."
) -> list[str]:
    return [f'Consider this post: "{post}" Question: Does the poster suffer from depression?', answer]


def instruction_file(path: Path, *rows: list[str]) -> Path:
    return write_csv(path, ["query", "gpt-3.5-turbo"], *(rows or (dr_row(),)))


def only(path: Path, **options: bool) -> Record:
    result = read_records([path], **options)
    assert not result.problems
    (record,) = result.records
    return record


def essence(record: Record) -> tuple[str, ...]:
    return record.dataset, record.post, record.label, record.explanation, record.aspect, record.split


@pytest.mark.parametrize("record", EVERY_ANSWER, ids=lambda record: f"{record.dataset}-{record.aspect}-{record.label}")
def test_every_answer_of_every_data_set_is_read_from_both_formats(tmp_path: Path, record: Record) -> None:
    instruction = write_csv(
        tmp_path / "test_instruction" / f"{record.dataset}.csv",
        ["query", "gpt-3.5-turbo"],
        [instruction_query(record), instruction_response(record)],
    )
    completion = write_csv(
        tmp_path / "test_complete" / f"{record.dataset}.csv",
        ["query", "gpt-3.5-turbo"],
        [completion_query(record), f" {completion_response(record)}"],
        bom=True,
        end="\r\n",
    )
    post = f"Post: {record.post}"
    rest = completion_query(record).removeprefix(f"{post} ")
    training = write_csv(
        tmp_path / "complete_data" / record.dataset / "odd-test.csv",
        ["", "post", "question", "response"],
        ["17", post, rest, completion_response(record)],
    )
    for path in (instruction, completion, training):
        read = only(path)
        assert essence(read) == essence(record)
        assert read.source == f"{path}:1"
        assert read.id == f"{record.dataset}/test/1"


def test_the_wording_of_the_release_is_read_verbatim(tmp_path: Path) -> None:
    """Strings spelled out here, so that a slip in the table cannot hide behind the renderer."""
    rows = {
        "t-sid": (
            'Consider this post: "p" Question: What mental disorder does this post show?',
            "This post shows PTSD. Reasoning: r",
            "ptsd",
        ),
        "Irf": (
            'Post: p  Question: The answer to the question: "Does the post shows risk of thwarted belongingness?" is ',
            " yes. Reasoning: r",
            "yes",
        ),
        "MultiWD": (
            'Post: p  Question: The answer to the question "Does the vocational wellness dimension exists in the post?"'
            " is ",
            "no. Reasoning: r",
            "no",
        ),
        "SAD": (
            "Post: p  Question: This post shows the stress cause of ",
            "other causes. Reasoning: r",
            "other causes",
        ),
        "swmh": (
            'Consider this post: "p" Question: What mental disorder symptoms does this post show?',
            "This post shows no mental disorder symptoms. Reasoning: r",
            "no mental disorders",
        ),
        "CAMS": ("Post: p  Question: This post shows the mental disorder cause of ", "none. Reasoning: r", "none"),
    }
    for name, (query, response, label) in rows.items():
        read = only(write_csv(tmp_path / f"{name}.csv", ["query", "gpt-3.5-turbo"], [query, response]))
        assert (read.post, read.label, read.explanation) == ("p", label, "r")


def test_greedy_match_takes_the_last_question() -> None:
    query = 'Consider this post: "a" Question: b" Question: c" Question: What is the stress cause of this post?'
    assert split_query(query) == ('a" Question: b" Question: c', "What is the stress cause of this post?")


@pytest.mark.parametrize(
    ("response", "explanation"),
    [
        (" yes. Reasoning: 1. Grey.", "1. Grey."),
        ("yes. \nReasoning: \n1. Grey.", "1. Grey."),
        ("yes, the poster suffers from depression. Reasoning: Grey.", "Grey."),
        ("yes. Reasoning:", ""),
        ("yes.", ""),
    ],
)
def test_slips_of_the_released_completion_responses_are_read(tmp_path: Path, response: str, explanation: str) -> None:
    query = 'Post: p  Question: The answer to the question "Does the poster suffers from depression?" is '
    record = only(write_csv(tmp_path / "DR.csv", ["query", "gpt-3.5-turbo"], [query, response]))
    assert (record.label, record.explanation) == ("yes", explanation)


@pytest.mark.parametrize(
    ("name", "dataset", "split"),
    [
        ("test_data/test_instruction/DR.csv", "DR", "test"),
        ("train_data/instruction_data/DR/val.csv", "DR", "val"),
        ("train_data/complete_data/DR/reddit_valid.csv", "DR", "val"),
        ("mine/CLP_train.csv", "CLP", "train"),
        ("clpsych/dev.csv", "CLP", "val"),
        ("my test of things/DR.csv", "DR", ""),
    ],
)
def test_names_of_file_and_folder_tell_data_set_and_split(tmp_path: Path, name: str, dataset: str, split: str) -> None:
    record = only(instruction_file(tmp_path / name))
    assert (record.dataset, record.split) == (dataset, split)


def test_a_question_of_another_data_set_than_the_name_says_is_a_bad_row(tmp_path: Path) -> None:
    stress = ['Consider this post: "p" Question: Does the poster suffer from stress?', dr_row()[1]]
    result = read_records([instruction_file(tmp_path / "DR.csv", dr_row(), stress)])
    (problem,) = result.problems
    assert (problem.row, len(result.records)) == (2, 1)
    assert "dreaddit" in problem.reason
    assert "DR" in problem.reason


def test_a_shared_question_without_a_telling_name_asks_for_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="DR or CLP; name the file"):
        read_records([instruction_file(tmp_path / "rows.csv")])


def test_the_expert_set_has_ids_of_its_own(tmp_path: Path) -> None:
    record = only(instruction_file(tmp_path / "test_instruction_expert" / "DR.csv"))
    assert (record.id, record.split) == ("DR/expert/1", "test")


def test_a_whole_release_is_read_once_and_says_what_it_passed_over(tmp_path: Path) -> None:
    kept = [
        instruction_file(tmp_path / "train_data/instruction_data/DR/train.csv"),
        instruction_file(tmp_path / "test_data/test_instruction/DR.csv"),
    ]
    other = [
        instruction_file(tmp_path / "train_data/complete_data/DR/reddit_train.csv"),
        instruction_file(tmp_path / "human_evaluation/test_instruction_expert/DR.csv"),
    ]
    instruction_file(tmp_path / ".ipynb_checkpoints/DR.csv")
    result = read_records([tmp_path])
    assert {record.source for record in result.records} == {f"{path}:1" for path in kept}
    assert set(result.passed_over) == set(other)
    assert [record.split for record in read_records([f"{tmp_path}:train"]).records] == ["train"]
    assert [record.split for record in read_records([tmp_path], split="test").records] == ["test"]
    both = read_records([f"{tmp_path}:train", f"{tmp_path}:test"]).records
    assert sorted(record.split for record in both) == ["test", "train"]
    assert read_records([other[0].parent]).records, "a folder that is named itself is read"
    with pytest.raises(UserError, match="no row of the split"):
        read_records([f"{tmp_path}:val"])


def test_bad_rows_are_counted_with_file_row_and_reason(tmp_path: Path) -> None:
    unknown = dr_row(answer="Perhaps. Reasoning: Grey.")
    other = ["Tell me about this.", "Yes."]
    empty = dr_row(post="  ")
    path = instruction_file(tmp_path / "DR.csv", unknown, dr_row(), other, [*dr_row(), "extra"], empty)
    result = read_records([path])
    assert [record.id for record in result.records] == ["DR/2"]
    assert [(problem.file, problem.row) for problem in result.problems] == [(str(path), row) for row in (1, 3, 4, 5)]
    reasons = [problem.reason for problem in result.problems]
    for reason, words in zip(reasons, ("'Perhaps.' is unknown", "neither", "3 cells under 2", "empty"), strict=True):
        assert words in reason
    with pytest.raises(UserError, match=r"row 1: .*Perhaps"):
        read_records([path], strict=True)


def test_messages_never_quote_a_post(tmp_path: Path) -> None:
    secret = "an intimate sentence"
    rows = [dr_row(post=secret, answer=f"They wrote {secret}"), [secret, "Yes."], dr_row()]
    rows.append([f'Consider this post: "{secret}" Question: {secret}?', "Yes."])
    result = read_records([instruction_file(tmp_path / "DR.csv", *rows)])
    assert len(result.problems) == 3
    assert not any(secret in str(problem) for problem in result.problems)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no rows|needs the columns"),
        (b"query,gpt-3.5-turbo\n", "holds no rows"),
        (b"query,answer\na,b\n", r"needs the columns .*found: answer, query"),
        (b"query,query\na,b\n", "names the column query twice"),
        (b'query,gpt-3.5-turbo\n"Consider this post', "row 1: not valid CSV"),
        (b'query,gpt-3.5-turbo\n"a"b,c\n', "row 1: not valid CSV"),
        (b"query,gpt-3.5-turbo\na\0,b\n", "line 2: holds a NUL byte"),
        (b"query,gpt-3.5-turbo\nok,caf\xe9\n", "line 2: is not UTF-8"),
        ("query,gpt-3.5-turbo\na,b\n".encode("utf-16"), "UTF-16"),
        (b"goldens,generated_text\na,b\n", "mentallama evaluate"),
        (b"post,label\na,1\n", "mentallama data build"),
        (b"\x89PNG\r\n\x1a\n\0\0", "NUL byte"),
        (b"query,gpt-3.5-turbo\nhello,world\n", "row 1: .*no row of the file can be read"),
    ],
)
def test_a_malformed_file_is_one_clear_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "DR.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        read_records([path])
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('{"dataset": "DR", "post": "p", "label": "maybe"}', "'maybe' is not a label of DR"),
        ('{"dataset": "XY", "post": "p", "label": "yes"}', "unknown data set 'XY'"),
        ('{"dataset": "IRF", "post": "p", "label": "yes"}', "not an aspect of IRF"),
        ('{"dataset": "DR", "post": 3, "label": "yes"}', "post must be a text, not int"),
        ('{"dataset": "DR", "post": "p", "label": "yes", "explantion": "e"}', "did you mean explanation"),
        ('{"dataset": "DR", "post": "p", "label": "yes", "split": "tset"}', "unknown split 'tset'"),
        ('{"dataset": "DR", "post": "\\ud800", "label": "yes"}', "half of a surrogate pair"),
        ('{"dataset": "DR", "label": "yes"}', "post is missing"),
    ],
)
def test_a_bad_row_of_our_own_layout_says_why(tmp_path: Path, row: str, words: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"dataset": "DR", "post": "p", "label": "yes"}\n' + row + "\n")
    result = read_records([path])
    assert len(result.records) == 1
    assert result.records[0].source == f"{path}:1"
    (problem,) = result.problems
    assert (problem.file, problem.row) == (str(path), 2)
    assert words in problem.reason


def test_sources_that_are_not_there_say_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        read_records([tmp_path / "absent"])
    with pytest.raises(UserError, match="'tset' is no split"):
        read_records([f"{tmp_path}/absent:tset"])
    with pytest.raises(UserError, match=r"holds no \.csv"):
        read_records([tmp_path])
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"ends in \.csv"):
        read_records([tmp_path / "notes.txt"])


def test_repeated_ids_are_made_unique_and_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    first = instruction_file(tmp_path / "a" / "DR.csv")
    second = instruction_file(tmp_path / "b" / "DR.csv")
    assert [record.id for record in read_records([first, second, first]).records] == ["DR/1", "DR/1#2"]


def test_the_bundled_sample_is_a_source() -> None:
    whole = read_records(["sample"], strict=True).records
    assert {record.dataset for record in whole} == set(TASKS)
    tests = read_records(["sample:test"]).records
    assert tests == [record for record in whole if record.split == "test"]
    assert len({record.id for record in whole}) == len(whole)


def test_mojibake_is_repaired_on_request_only(tmp_path: Path) -> None:
    broken = "I don’t know".encode().decode("mac_roman")
    path = instruction_file(tmp_path / "DR.csv", dr_row(post=broken))
    assert only(path).post == broken
    assert only(path, repair_mojibake=True).post == "I don’t know"


def test_datasets_and_their_dictionaries_are_read(tmp_path: Path) -> None:
    import datasets

    query, response = dr_row()
    dataset = datasets.Dataset.from_dict({"query": [query], "gpt-3.5-turbo": [response]})
    (record,) = records_from_dataset(dataset, dataset="CLP", split="validation").records
    assert (record.dataset, record.split, record.source) == ("CLP", "val", "dataset:1")
    splits = datasets.DatasetDict({"train": dataset, "test": dataset})
    records = records_from_dataset(splits, dataset="DR", name="mine").records
    assert [(record.split, record.source) for record in records] == [("train", "mine:train:1"), ("test", "mine:test:1")]
    own = datasets.Dataset.from_list([{"dataset": "DR", "post": "p", "label": "no", "explanation": None}])
    datasets.DatasetDict({"test": own}).save_to_disk(str(tmp_path / "saved"))
    (record,) = read_records([tmp_path / "saved"]).records
    assert (record.label, record.explanation, record.split) == ("no", "", "test")


@given(post=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(str.strip))
def test_any_post_survives_the_query(post: str) -> None:
    record = Record("x", "SAD", post, "work")
    question = "What is the stress cause of this post?"
    assert split_query(instruction_query(record)) == (post, question)
    assert split_query(completion_query(record)) == (post, "This post shows the stress cause of")
