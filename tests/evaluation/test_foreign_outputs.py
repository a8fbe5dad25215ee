"""Outputs that other programs wrote: each form, how its columns are known, and what is said of rows that do not fit."""

import json

import pytest

from mentallama_jax.cli.main import main
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.foreign_outputs.gold_rows import GoldRows
from mentallama_jax.evaluation.foreign_outputs.read_as import ReadAs, dataset_of_name, parse_columns
from mentallama_jax.evaluation.reading import read_predictions
from mentallama_jax.imhi.records import Record, post_id
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.imhi.wording import instruction_query

POST = "nobody may read this in a message, and it is long enough to be a post"
RECORDS = [
    Record(f"DR/test/{number}", "DR", f"{POST} {number}", label, "Made up.", split="test")
    for number, label in enumerate(["yes", "no", "yes"], start=1)
]
IRF = Record("IRF/test/1", "IRF", POST, "no", "Made up.", aspect="perceived burdensomeness", split="test")
GOLD = GoldRows("gold", [*RECORDS, IRF])
YES, NO = TASKS["DR"].sentences.values()


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def table(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def told(path, **said) -> str:
    with pytest.raises(UserError) as caught:
        read_predictions(path, ReadAs(**said))
    assert "\n" not in str(caught.value)
    assert "nobody may read" not in str(caught.value)
    return str(caught.value)


def labels(found) -> list[tuple[str, str]]:
    return [(row.label, row.generated_text) for row in found.rows]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DR_llama3.csv", "gold,prediction\n1,0\n0,no\n"),
        ("llama3-depression_reddit.csv", "gold;prediction\n1;0\n0;no\n"),
        ("DR.tsv", "gold\tprediction\n1\t0\n0\tno\n"),
        ("DR_tabs.csv", "\ufeffgold\tprediction\nTrue\t0\nfalse\tno\n"),
    ],
)
def test_tables_of_ones_and_noughts(tmp_path, name, text):
    found = read_predictions(table(tmp_path / name, text))
    assert labels(found) == [("yes", "no"), ("no", "no")]
    assert [row.id for row in found.rows] == ["DR/1", "DR/2"]
    assert not found.posts_known
    assert "gold='gold', text='prediction'" in found.forms[0]
    assert "outputs 1 and 0 read as yes and no (1 rows)" in found.forms[0]


def test_columns_of_any_name_and_gold_in_three_wordings(tmp_path):
    path = table(
        tmp_path / "out.csv",
        f'nr,answer,output,who\n7,control,"Yes, it does.",a\n8,"{YES} Reasoning: Made up.",no,b\n9,no.,no,a\n',
    )
    said = parse_columns("gold=answer, text=output,id=nr,post_id=who")
    found = read_predictions(path, ReadAs(said, TASKS["DR"]))
    assert [(row.id, row.label, row.post_id) for row in found.rows] == [
        ("DR/7", "no", "a"),
        ("DR/8", "yes", "b"),
        ("DR/9", "no", "a"),
    ]
    assert found.rows[1].explanation == "Made up."
    assert found.rows[0].goldens == ""
    assert found.posts_known


def test_one_file_with_a_column_of_data_sets(tmp_path):
    path = table(
        tmp_path / "all.csv",
        "dataset,gold,prediction,aspect\n"
        "DR,1,1,\n"
        "t-sid,PTSD,This post shows PTSD.,\n"
        "IRF,0,no,Perceived_Burdensomeness\n"
        "SWMH,3,suicide,\n"
        "unheard,1,1,\n"
        "IRF,0,no,hunger\n"
        "DR,,1,\n"
        "DR,1,1\n",
    )
    found = read_predictions(path)
    assert [(row.dataset, row.label, row.aspect) for row in found.rows] == [
        ("DR", "yes", ""),
        ("T-SID", "ptsd", ""),
        ("IRF", "no", "perceived burdensomeness"),
    ]
    assert [(row.row, row.dataset, row.reason.split(" (")[0]) for row in found.left_out] == [
        (4, "SWMH", "'3' is not a label of SWMH"),
        (5, "", "unknown data set 'unheard'"),
        (6, "IRF", "'hunger' is not an aspect of IRF"),
        (7, "DR", "it has no gold label"),
        (8, "", "3 cells under 4 columns"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gold,label,prediction\n1,1,1\n", "the columns 'gold', 'label' may each be the gold; say which by --columns"),
        ("gold,prediction,output\n1,1,1\n", "may each be the text; say which by --columns text=COLUMN"),
        ("answer,prediction\n1,1\n", "has no column goldens (found: answer, prediction); say it by --columns gold="),
        ("gold,text\n1,1\n", "has no column generated_text (found: gold, text); say it by --columns text=COLUMN"),
        ("gold,prediction;b\n1,1\n", "its header has as many commas and semicolons"),
        (f"{POST},1\n1,1\n", "has no column goldens, generated_text"),
        ("gold,prediction\n", "holds no rows"),
        ("gold,prediction\nx y z,1\n", "none of its 1 rows can be scored; row 1:"),
    ],
)
def test_what_cannot_be_mapped_is_an_error_that_says_the_option(tmp_path, text, expected):
    assert expected in told(table(tmp_path / "DR.csv", text))


def test_a_column_that_is_not_there_and_a_data_set_that_nothing_says(tmp_path):
    path = table(tmp_path / "out.csv", "gold,prediction\n1,1\n")
    assert "has no column 'answer' for gold (found: gold, prediction)" in told(path, columns={"gold": "answer"})
    assert "give --dataset NAME" in told(path)
    for wrong in ("gold", "answer=gold", "gold=a,gold=b", "gold="):
        with pytest.raises(UserError, match="--columns"):
            parse_columns(wrong)


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        ("DR_llama3", "DR"),
        ("samples_imhi_T-SID_2026-01-01T00", "T-SID"),
        ("t_sid.vicuna", "T-SID"),
        ("depression_reddit-7b", "DR"),
        ("SAD_and_DR", None),
        ("drama", None),
        ("notes", None),
    ],
)
def test_names_of_files(name, dataset):
    found = dataset_of_name(name)
    assert (found.name if found else None) == dataset


def test_a_join_by_ids_and_by_row_numbers(tmp_path):
    by_id = lines(tmp_path / "a.jsonl", *({"id": row.id, "output": "no"} for row in (RECORDS[2], IRF)))
    found = read_predictions(by_id, ReadAs(gold=GOLD))
    assert [(row.id, row.label, row.aspect, row.post_id) for row in found.rows] == [
        (row.id, row.label, row.aspect, row.post_id) for row in (RECORDS[2], IRF)
    ]
    assert found.posts_known
    assert found.rows[0].explanation == "Made up."
    assert found.gold == "gold, joined by id (column 'id'; row numbers count from 1)"

    from_one = table(tmp_path / "DR.csv", "id,output\n1,yes\n3,yes\n4,yes\nx,yes\n")
    assert "may count from 0 or from 1" in told(from_one, gold=GOLD)
    found = read_predictions(from_one, ReadAs({"first": "1"}, gold=GOLD))
    assert [row.id for row in found.rows] == ["DR/test/1", "DR/test/3"]
    assert [(row.row, row.reason) for row in found.left_out] == [
        (3, "its id '4' is that of no row with gold, whose ids are such as 'DR/test/1'"),
        (4, "its id 'x' is that of no row with gold, whose ids are such as 'DR/test/1'"),
    ]
    from_zero = table(tmp_path / "DR_0.csv", "id,output\n2,yes\n0,yes\n")
    found = read_predictions(from_zero, ReadAs(gold=GOLD))
    assert [row.id for row in found.rows] == ["DR/test/3", "DR/test/1"]
    assert "count from 0" in found.gold


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_the_number_of_a_request_that_failed_counts_as_well(tmp_path, lost):
    rows = [
        {"custom_id": str(n), "response": {"status_code": 400, "body": {}} if n == lost else body(gold.label)}
        for n, gold in enumerate(RECORDS)
    ]
    found = read_predictions(lines(tmp_path / "DR.jsonl", *rows), ReadAs(gold=GOLD))
    kept = [record for n, record in enumerate(RECORDS) if n != lost]
    assert [(row.id, row.label) for row in found.rows] == [(record.id, record.label) for record in kept]
    assert all(row.label == row.generated_text for row in found.rows)
    assert "count from 0" in found.gold


NUMBERS = [
    ("0 1", ["DR/test/1", "DR/test/2"]),
    ("0", ["DR/test/1"]),
    ("3", ["DR/test/3"]),  # the last of three, so not from 0
    ("1 3", ["DR/test/1", "DR/test/3"]),
    ("1 2", None),  # row 0 may have failed, and stand in no file
    ("2", None),
    ("2 3 4", None),  # more than the gold has, so its last row says nothing
    ("DR/1 DR/2", ["DR/test/1", "DR/test/2"]),
    ("DR/0 DR/2", ["DR/test/1", "DR/test/3"]),
    ("DR/test/1 DR/test/2", ["DR/test/1", "DR/test/2"]),
]


@pytest.mark.parametrize(("ids", "joined"), NUMBERS)
def test_row_numbers_are_joined_where_it_is_known_what_they_count_from(tmp_path, ids, joined):
    answers = [{"id": id_, "output": "yes"} for id_ in [*ids.split(), "x"]]
    own = [{"id": id_, "dataset": "DR", "post_id": "p", "label": "", "generated_text": ""} for id_ in ids.split()]
    for path in (lines(tmp_path / "DR.jsonl", *answers), lines(tmp_path / "own.jsonl", *own)):
        if joined is None:
            assert "as none is 0 and the highest is not that of the last gold row; say it by" in told(path, gold=GOLD)
            found = read_predictions(path, ReadAs({"first": "0"}, gold=GOLD))
            expected = [f"DR/test/{int(id_) + 1}" for id_ in ids.split() if id_ in "012"]
        else:
            found, expected = read_predictions(path, ReadAs(gold=GOLD)), joined
        assert [row.post_id for row in found.rows] == [GOLD.find(id_, None, 1).post_id for id_ in expected]


def test_what_numbers_count_from_is_said_beside_gold_and_is_0_or_1():
    for said, gold in (("0", None), ("2", GOLD), ("one", GOLD)):
        with pytest.raises(UserError, match="--columns first="):
            ReadAs({"first": said}, gold=gold)


def test_a_join_that_would_be_a_guess_is_refused(tmp_path):
    both = GoldRows("gold", [*RECORDS, Record("DR/train/1", "DR", "Another post.", "no", split="train")])
    for number in (1, 3):  # the third row of the test split may still be meant to be one of the training rows
        path = table(tmp_path / "DR.csv", f"id,output\n{number},yes\n")
        assert "that of several gold rows; give one split" in told(path, gold=both)
    assert "its id 'DR/test/1' is that of a row of DR, not of SAD" in told(
        table(tmp_path / "b.csv", "id,output\nDR/test/1,yes\n"), gold=GOLD, dataset=TASKS["SAD"]
    )
    twice = table(tmp_path / "c.csv", "id,output\nDR/test/1,yes\nDR/1,no\n")
    assert "row 2: id 'DR/test/1' is that of row 1 too" in told(twice, gold=GOLD)
    assert "has no column id" in told(table(tmp_path / "d.csv", "nr,output\n1,yes\n"), gold=GOLD)


def body(content) -> dict:
    return {"status_code": 200, "body": {"choices": [{"message": {"role": "assistant", "content": content}}]}}


def test_openai_batch_output(tmp_path):
    rows = [
        {"id": "r1", "custom_id": "DR/test/1", "response": body("Yes."), "error": None},
        {"id": "r2", "custom_id": "DR/test/2", "response": {"status_code": 500, "body": {}}, "error": None},
        {"id": "r3", "custom_id": "DR/test/3", "response": None, "error": {"code": "batch_expired", "message": POST}},
        {"id": "r4", "custom_id": "IRF/test/1", "response": body([{"type": "text", "text": "No."}]), "error": None},
    ]
    path = lines(tmp_path / "batch.jsonl", *rows)
    found = read_predictions(path, ReadAs(gold=GOLD))
    assert [(row.id, row.generated_text) for row in found.rows] == [("DR/test/1", "Yes."), ("IRF/test/1", "No.")]
    assert [(row.row, row.reason) for row in found.left_out] == [
        (2, "its request failed (status '500')"),
        (3, "its request failed ('batch_expired')"),
    ]
    assert "OpenAI batch output" in found.forms[0]
    assert "holds no gold; give --gold SOURCE" in told(path)


SAID = [{"type": "output_text", "text": "Yes."}]


@pytest.mark.parametrize(
    "response",
    [
        {"status_code": 200, "body": {"choices": [{"text": "Yes."}]}},
        {"body": {"output": [{"type": "reasoning"}, {"type": "message", "content": SAID}]}},
        {"body": {"choices": [{"message": {"content": None, "refusal": "Yes."}}]}},
        {"body": {"output": [{"type": "message", "content": [{"type": "refusal", "refusal": "Yes."}]}]}},
    ],
)  # fmt: skip
def test_other_bodies_of_a_batch(tmp_path, response):
    path = lines(tmp_path / "b.jsonl", {"custom_id": "DR/test/1", "response": response})
    assert read_predictions(path, ReadAs(gold=GOLD)).rows[0].generated_text == "Yes."


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ({"body": {"choices": [{"message": {"content": None}, "finish_reason": "length"}]}}, ""),
        ({"body": {"status": "incomplete", "output": [{"type": "reasoning"}]}}, ""),
        ({"body": {"status": "completed", "output": [{"type": "reasoning"}]}}, "it has 0 outputs; keep one of them"),
    ],
)
def test_an_answer_of_a_batch_that_was_thought_away_is_empty(tmp_path, response, reason):
    whole = {"custom_id": "DR/test/1", "response": body("Yes.")}
    path = lines(tmp_path / "b.jsonl", whole, {"custom_id": "DR/test/2", "response": response})
    found = read_predictions(path, ReadAs(gold=GOLD))
    assert [row.generated_text for row in found.rows] == (["Yes."] if reason else ["Yes.", ""])
    assert [row.reason for row in found.left_out] == ([reason] if reason else [])


PROMPT = instruction_query(RECORDS[0])


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": PROMPT, "generated_text": f"{PROMPT} Yes."},
        {"prompt": PROMPT, "outputs": [{"index": 0, "text": " Yes."}]},
        {"generated_text": [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": " Yes."}]},
        {"outputs": [" Yes."]},
    ],
)
def test_lines_of_vllm_and_hugging_face(tmp_path, row):
    path = lines(tmp_path / "DR.jsonl", [row | {"label": "yes"}], row | {"label": "no"})
    assert labels(read_predictions(path)) == [("yes", " Yes."), ("no", " Yes.")]
    whole = tmp_path / "DR.json"
    whole.write_text(json.dumps([row | {"label": "yes"}]))
    assert labels(read_predictions(whole)) == [("yes", " Yes.")]


def test_a_query_tells_data_set_aspect_and_post(tmp_path):
    rows = [{"query": instruction_query(IRF), "gold": "0", "prediction": None}, {"query": POST, "gold": "0"}]
    found = read_predictions(lines(tmp_path / "out.jsonl", *rows))
    row = found.rows[0]
    assert (row.dataset, row.aspect, row.post_id, row.generated_text) == ("IRF", IRF.aspect, post_id(POST), "")
    assert [row.reason for row in found.left_out] == ["it has no output"]


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (["a", "b"], "it has 2 outputs; keep one of them"),
        ([{"role": "user", "content": POST}], "does not end with a message of the assistant"),
        ({"tokens": [1]}, "its output is an object without a text"),
        ([[[[[[[[[["a"]]]]]]]]]], "nested too deeply"),
    ],
)
def test_an_output_that_is_no_single_text_is_counted(tmp_path, output, reason):
    path = lines(tmp_path / "DR.jsonl", {"gold": 1, "output": "yes"}, {"gold": 1, "output": output})
    found = read_predictions(path)
    assert reason in found.left_out[0].reason
    assert len(found.rows) == 1


def sample(number: int, response: str, name: str = "none", **changes) -> dict:
    return {
        "doc_id": number,
        "doc": {"query": instruction_query(RECORDS[number]), "gpt-3.5-turbo": "x"},
        "target": RECORDS[number].label,
        "arguments": {"gen_args_0": {"arg_0": PROMPT, "arg_1": {"until": ["\n"]}}},
        "resps": [[response]],
        "filtered_resps": [response],
        "filter": name,
        "acc": 1.0,
    } | changes


def test_samples_of_the_harness(tmp_path):
    path = lines(tmp_path / "samples_imhi_DR_2026.jsonl", sample(0, "Yes."), sample(2, "No."))
    found = read_predictions(path)
    assert labels(found) == [("yes", "Yes."), ("yes", "No.")]
    assert found.posts_known
    assert [row.post_id for row in found.rows] == [RECORDS[0].post_id, RECORDS[2].post_id]
    joined = read_predictions(path, ReadAs(gold=GOLD))
    assert [row.id for row in joined.rows] == ["DR/test/1", "DR/test/3"]
    assert "count from 0" in joined.gold
    assert labels(read_predictions(tmp_path)) == labels(found)


def test_filters_of_the_harness_are_not_mixed(tmp_path):
    path = lines(tmp_path / "samples_DR_1.jsonl", sample(0, "No.", "strict"), sample(0, "Yes.", "flexible"))
    assert "the filters 'strict', 'flexible'; choose by --columns filter=NAME" in told(path)
    assert labels(read_predictions(path, ReadAs({"filter": "flexible"}))) == [("yes", "Yes.")]
    assert "has no filter 'other'" in told(path, columns={"filter": "other"})


def test_multiple_choice_of_the_harness(tmp_path):
    choices = {f"gen_args_{place}": {"arg_0": PROMPT, "arg_1": f" {text}"} for place, text in enumerate((YES, NO))}
    scored = {"arguments": choices, "target": "0", "filtered_resps": [["-4.5", "False"], ["-2.25", "True"]]}
    broken = scored | {"filtered_resps": [["nan", "False"], ["-2.25", "True"]]}
    found = read_predictions(lines(tmp_path / "samples_DR.jsonl", sample(0, "", **scored), sample(1, "", **broken)))
    assert labels(found) == [("yes", NO)]
    assert found.rows[0].label_log_probabilities == {"yes": {"sum": -4.5}, "no": {"sum": -2.25}}
    assert [row.reason for row in found.left_out] == ["it has no finite log-likelihood for each of its choices"]


def test_own_predictions_are_joined_to_gold_as_well(tmp_path):
    row = {"id": "DR/test/2", "dataset": "DR", "post_id": "p", "label": "", "generated_text": "no"}
    path = lines(tmp_path / "p.jsonl", row, row | {"id": "DR/test/9"})
    found = read_predictions(path, ReadAs(gold=GOLD))
    assert [(row.id, row.label, row.post_id) for row in found.rows] == [("DR/test/2", "no", RECORDS[1].post_id)]
    assert len(found.left_out) == 1
    assert "leave out --dataset" in told(path, dataset=TASKS["DR"])


def test_the_command_scores_them_and_says_what_was_read(tmp_path, capsys):
    gold = tmp_path / "gold.jsonl"
    lines(gold, *({"id": r.id, "dataset": "DR", "post": r.post, "label": r.label, "split": "test"} for r in RECORDS))
    outputs = table(tmp_path / "out.csv", "nr;said\n1;yes\n2;yes\n3;yes\n9;no\n")
    words = ["evaluate", str(outputs), "--columns", "id=nr,text=said,first=1", "--gold", f"{gold}:test"]
    words += ["--dataset", "dr"]
    assert main([*words, "--out", str(tmp_path / "s")]) == 0
    scores = json.loads((tmp_path / "s" / "scores.json").read_text())
    assert scores["pooled"]["n"] == 3
    assert scores["pooled"]["accuracy"] == pytest.approx(2 / 3)
    assert "semicolons between columns; columns id='nr', text='said'" in scores["signature"]["forms"][0]
    assert scores["datasets"]["DR"]["left_out"] == 1
    assert "1 of 4 rows are not scored" in capsys.readouterr().out
