"""Rows that can be scored and look odd: said, or refused where the figures would be wrong."""

import json
import shlex
from pathlib import Path

import pytest

from mentallama_jax.cli.main import main
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.foreign_outputs.gold_rows import GoldRows
from mentallama_jax.evaluation.foreign_outputs.read_as import ReadAs
from mentallama_jax.evaluation.reading import read_predictions
from mentallama_jax.evaluation.system_predictions import pool
from mentallama_jax.imhi.labels.gold_response import read_gold
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.imhi.wording import instruction_query

GOLD = GoldRows(
    "gold",
    [
        Record(
            id=f"DR/test/{n}",
            dataset="DR",
            aspect="",
            post=f"Day {n} without sleep.",
            label=label,
            explanation="So.",
            split="test",
        )
        for n, label in enumerate(("yes", "no", "yes"), start=1)
    ],
)


def query(post: str) -> str:
    """The query about a post of DR, as a cell of a table."""
    record = Record(id="DR/test/1", dataset="DR", aspect="", post=post, label="yes", explanation="So.", split="test")
    return f'"{instruction_query(record).replace(chr(34), chr(34) * 2)}"'


def table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def odd(path: Path, **read_as) -> str:
    return " | ".join(read_predictions(path, ReadAs(**read_as)).remarks)


def test_a_name_and_sentences_of_another_data_set(tmp_path):
    yes = "Yes. The poster suffers from depression."
    path = table(tmp_path / "DR_a.csv", "gold,output", "yes,Yes.", "no,No.")
    assert odd(path) == ""
    assert odd(path, dataset=TASKS["dreaddit"]).endswith("named after DR, and read as dreaddit, as --dataset says")
    of_dr = "Yes, the poster suffers from depression. Reasoning: So."
    path = table(tmp_path / "out.csv", "gold;output", *[f"yes;{of_dr}"] * 3, f"yes;{yes}")
    assert odd(path, dataset=TASKS["DR"]) == ""
    assert odd(path, dataset=TASKS["dreaddit"]).endswith("3 rows read as dreaddit open with a label sentence of DR")
    few = table(tmp_path / "few.csv", "gold;output", f"yes;{of_dr}", *["no;No."] * 10)
    assert odd(few, dataset=TASKS["dreaddit"]) == ""  # a model may be wrong


def test_a_gold_sentence_of_another_data_set_is_no_gold(tmp_path):
    of_dr = "Yes, the poster suffers from depression. Reasoning: So."
    path = table(tmp_path / "out.csv", "gold;output", f"{of_dr};Yes.", "yes, really;Yes.")
    assert len(read_predictions(path, ReadAs(dataset=TASKS["DR"])).rows) == 2
    found = read_predictions(path, ReadAs(dataset=TASKS["dreaddit"]))
    assert [row.row for row in found.left_out] == [1]
    with pytest.raises(UserError, match="begins with a label sentence of DR, not of dreaddit"):
        read_gold(of_dr, TASKS["dreaddit"])
    assert read_gold(of_dr, TASKS["CLP"])[0] == "yes"  # which has the same sentences


@pytest.mark.parametrize(
    ("column", "lines", "found"),
    [
        ("gold", ["1,Yes.", "2,No."], "'gold' holds the numbers 1, 2"),
        ("gold", ["0,Yes.", "-1,No.", "1,No."], "'gold' holds the numbers -1, 0, 1"),
        ("gold", ["1.0,Yes.", "3.0,No.", "no,No."], "'gold' holds the numbers 1, 3"),
        ("output", ["yes,1", "no,2"], "'output' holds the numbers 1, 2"),
    ],
)
def test_numbers_that_are_not_1_and_0_are_no_yes_and_no(tmp_path, column, lines, found):
    path = table(tmp_path / "DR.csv", "gold,output", *lines)
    with pytest.raises(UserError, match=f"column {found}, and those of DR are 1 for yes and 0 for no"):
        read_predictions(path)


def test_numbers_among_words_of_outputs_are_answers(tmp_path):
    path = table(tmp_path / "DR.csv", "gold,output", "1,1", "0,2", "1.0,Yes.")
    assert [row.label for row in read_predictions(path).rows] == ["yes", "no", "yes"]


def test_one_column_has_one_role(tmp_path):
    path = table(tmp_path / "DR.csv", "answer,said", "yes,Yes.")
    with pytest.raises(UserError, match="the column 'answer' cannot be both gold and text"):
        read_predictions(path, ReadAs(columns={"gold": "answer", "text": "answer"}))


def test_posts_that_are_asked_about_twice(tmp_path):
    lines = [f"{query(f'Day {n}.')},{gold},No." for n, gold in ((1, "yes"), (2, "no"))]
    path = table(tmp_path / "DR.csv", "query,gold,output", *lines)
    assert odd(path) == ""
    assert odd(table(path, "query,gold,output", *lines, lines[1])).endswith(
        "1 row with the post and the question of another row"
    )
    unlike = lines[1].replace(",no,", ",yes,")
    said = odd(table(path, "query,gold,output", *lines, unlike, lines[0]))
    assert said.endswith(
        "2 rows with the post and the question of another row; the gold of 1 of these posts contradicts itself"
    )


def test_gold_of_the_file_that_contradicts_the_one_that_is_joined(tmp_path):
    path = table(tmp_path / "DR.csv", "id,label,output", "DR/test/1,no,Yes.", "DR/test/2,0,No.", "DR/test/3,?,No.")
    found = read_predictions(path, ReadAs(gold=GOLD))
    assert [row.label for row in found.rows] == ["yes", "no", "yes"]
    assert found.remarks[0].endswith(
        "column 'label' of 1 row, such as 'DR/test/1', says another label than --gold, which counts"
    )
    row = {"id": "DR/test/2", "dataset": "DR", "post_id": "p", "label": "yes", "generated_text": "no"}
    own = table(tmp_path / "own.jsonl", json.dumps(row), json.dumps(row | {"id": "DR/test/1"}))
    assert odd(own, gold=GOLD).endswith(
        "column 'label' of 1 row, such as 'DR/test/2', says another label than --gold, which counts"
    )


def test_a_file_without_ids_is_joined_by_its_posts(tmp_path):
    lines = [f"{query(f'day {n}  without sleep.')},No." for n in (3, 1, 9)]
    found = read_predictions(table(tmp_path / "out.csv", "query,output", *lines), ReadAs(gold=GOLD))
    assert [(row.id, row.label) for row in found.rows] == [("DR/test/3", "yes"), ("DR/test/1", "yes")]
    assert [row.reason for row in found.left_out] == ["it asks about a post that no row with gold is about"]
    assert found.gold == "gold, joined by post (column 'query')"
    with pytest.raises(UserError, match=r"its question is that of DR.*, not of SAD"):
        read_predictions(tmp_path / "out.csv", ReadAs(gold=GOLD, dataset=TASKS["SAD"]))
    posts = table(tmp_path / "posts.csv", "post,output", "Day 2 without sleep.,No.")
    assert [row.id for row in read_predictions(posts, ReadAs(gold=GOLD)).rows] == ["DR/test/2"]
    with pytest.raises(UserError, match="it asks about a post that no row with gold is about"):
        read_predictions(posts, ReadAs(gold=GOLD, dataset=TASKS["SAD"]))
    with pytest.raises(
        UserError, match=r"has no column id .* where there is none, rows are joined by a column `query`"
    ):
        read_predictions(table(tmp_path / "bare.csv", "output", "Yes."), ReadAs(gold=GOLD))


def test_a_post_with_several_gold_rows_needs_ids(tmp_path):
    both = [
        Record(
            id=f"IRF/test/{n}",
            dataset="IRF",
            aspect=aspect,
            post="Alone.",
            label=label,
            explanation="So.",
            split="test",
        )
        for n, (aspect, label) in enumerate(zip(TASKS["IRF"].aspects, ("yes", "no"), strict=True), start=1)
    ]
    gold = GoldRows("gold", both)
    path = table(tmp_path / "out.csv", "post,output", "Alone.,Yes.")
    with pytest.raises(UserError, match="it may be any of 2 gold rows about its post"):
        read_predictions(path, ReadAs(gold=gold))
    aspect = TASKS["IRF"].aspects[1]
    path = table(tmp_path / "out.csv", "post,aspect,output", f"Alone.,{aspect},Yes.")
    assert [row.id for row in read_predictions(path, ReadAs(gold=gold, dataset=TASKS["IRF"])).rows] == ["IRF/test/2"]


def test_what_is_odd_stands_above_the_figures_and_in_the_report(tmp_path, capsys):
    path = table(
        tmp_path / "DR_a.csv", "gold,output", *["yes,Yes.", "no,No."] * 210, "school,No.", "school,No.", ",No."
    )
    assert main(["evaluate", str(path), "--dataset", "dreaddit", "--out", str(tmp_path / "out")]) == 0
    above, _, _ = capsys.readouterr().out.partition("Correctness")
    assert "named after DR, and read as dreaddit" in above
    assert "dreaddit: 420 rows are more than the 414 of the benchmark's test" in above
    assert "3 of 423 rows are not scored" in above
    assert "row 421 and 1 more: 'school' is not a label of dreaddit" in above
    page = (tmp_path / "out" / "report.md").read_text()
    assert "named after DR, and read as dreaddit" in page
    assert "3 rows are not scored" in page


def test_a_folder_of_scores_is_compared_as_it_was_scored(tmp_path, capsys):
    """Whatever is said of the files that stand beside it; and never otherwise than it was scored."""
    path = table(tmp_path / "both.csv", "truth,a,b", *["yes,Yes.,Yes.", "no,No.,Yes."] * 15)
    for name in ("a", "b"):
        words = ["--columns", f"gold=truth,text={name}", "--dataset", "DR", "--out", str(tmp_path / name)]
        assert main(["evaluate", str(path), *words]) == 0
    third = table(tmp_path / "third.csv", "answer,said", *["yes,No.", "no,No."] * 15)
    words = ["--columns", "gold=answer,text=said", "--dataset", "DR", "--out", str(tmp_path / "found")]
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), str(third), *words]) == 0
    values = {
        each["first"]: each["first_value"]
        for each in json.loads((tmp_path / "found" / "comparison.json").read_text())["differences"]
        if each["metric"] == "accuracy"
    }
    assert (values["a"], values["b"]) == (1, 0.5)
    labels = tmp_path / "b" / "labels_by_row.csv"
    labels.write_text(labels.read_text().replace('"no","yes"', '"yes","yes"', 1))
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), *words[-2:]]) == 2
    assert "'DR/2' of" in (said := capsys.readouterr().err)
    assert "is not read as it was when it was scored; run `mentallama evaluate` on it again" in said


def test_the_released_layout_keeps_its_ids_and_reads_numbers(tmp_path):
    path = table(tmp_path / "DR.csv", "id,goldens,generated_text", "b,1,Yes.", "a,0.0,1.0", "c,No. Reasoning: x,0")
    found = read_predictions(path)
    assert [(row.id, row.label) for row in found.rows] == [("b", "yes"), ("a", "no"), ("c", "no")]
    assert [row.generated_text for row in found.rows] == ["Yes.", "yes", "no"]
    assert found.ids_known
    assert not read_predictions(table(path, "goldens,generated_text", "1,Yes.")).ids_known
    with pytest.raises(UserError, match="row 2: id 'b' is that of row 1 too"):
        read_predictions(table(path, "id,goldens,generated_text", "b,1,Yes.", "b,0,No."))
    with pytest.raises(UserError, match="'goldens' holds the numbers 1, 2"):
        read_predictions(table(path, "goldens,generated_text", "1,Yes.", "2,No."))
    with pytest.raises(UserError, match="or give each 'model' a file of its own"):
        read_predictions(table(path, "id,model,gold,output", "b,x,1,Yes.", "b,y,1,No."))


def test_seeds_with_other_gold_are_not_pooled(tmp_path):
    one = read_predictions(table(tmp_path / "DR_1.csv", "goldens,generated_text", "yes,Yes.", "no,No."))
    two = read_predictions(table(tmp_path / "DR_2.csv", "goldens,generated_text", "no,No.", "yes,Yes."))
    with pytest.raises(UserError, match=r"the gold of 'DR/1' differs; without a column of ids .* by their order"):
        pool([one, two])
    assert len(pool([one, one]).rows) == 4


@pytest.mark.parametrize("ending", [{}, {"finish_reason": "stop"}, {"finish_reason": "length"}])
def test_how_an_output_ended_is_read_where_files_say_it(tmp_path, capsys, ending):
    choice = {"message": {"content": "Yes."}} | ending
    line = {"custom_id": "DR/test/1", "response": {"status_code": 200, "body": {"choices": [choice]}}}
    batch = table(tmp_path / "batch.jsonl", json.dumps(line))
    gold = table(tmp_path / "gold.jsonl", json.dumps({"id": "DR/test/1", "dataset": "DR", "post": "p", "label": "yes"}))
    assert main(["evaluate", str(batch), "--gold", str(gold), "--out", str(tmp_path / "out")]) == 0
    faults = json.loads((tmp_path / "out" / "scores.json").read_text())["output_faults"]["pooled"]["over_length"]
    assert (faults["count"], faults["of"]) == (int(ending.get("finish_reason") == "length"), len(ending))
    said = capsys.readouterr().out
    assert ("the files do not say how they ended" in said) == (not ending)
    assert ("No output is unparsed, empty, cut off" in said) == (ending.get("finish_reason") == "stop")
    column = f"finish_reason\nDR/test/1,yes,Yes.,{ending.get('finish_reason', '')}"
    path = table(tmp_path / "DR_x.csv", f"id,gold,output,{column}")
    ended = {"stop": "eos", "length": "length"}.get(ending.get("finish_reason"), "")
    assert read_predictions(path).rows[0].finish == ended


def test_folders_of_the_released_layout_are_compared_by_their_scores(tmp_path, capsys):
    for name, second in (("a", "No."), ("b", "Yes.")):
        (tmp_path / name).mkdir()
        for of in ("DR", "dreaddit"):
            table(tmp_path / name / f"{of}.csv", "goldens,generated_text", *["yes,Yes.", f"no,{second}"] * 15)
    assert main(["evaluate", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "scores")]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("next: "))
    words = [word if word != "COMPARISON" else str(tmp_path / "found") for word in shlex.split(line)[2:]]
    assert main(words) == 0
    assert "rows are paired by their order, as some files have no ids" in capsys.readouterr().out
    standings = json.loads((tmp_path / "found" / "comparison.json").read_text())["standings"]
    pooled = next(each for each in standings if (each["metric"], each["dataset"]) == ("accuracy", "pooled"))
    assert pooled["values"] == {"a": [1.0], "b": [0.5]}
    changed = tmp_path / "a" / "DR.csv"
    changed.write_text(changed.read_text() + "yes,No.\n")
    assert main(words) == 2
    assert "was changed after" in capsys.readouterr().err
    pytest.importorskip("rouge_score")
    files = [str(tmp_path / name) for name in ("a", "b")]
    assert main(["compare", *files, "--metrics", "rouge", "--out", str(tmp_path / "none")]) == 2
    assert "--metrics: no row has a gold text to compare explanations with" in capsys.readouterr().err


def test_gold_that_the_data_do_not_have_and_training_rows_are_said(tmp_path, capsys):
    record = {"id": "DR/train/1", "dataset": "DR", "post": "p", "label": "no", "split": "train"}
    data = table(tmp_path / "data.jsonl", json.dumps(record), json.dumps(record | {"id": "DR/train/2", "label": ""}))
    row = {
        "id": "DR/train/1",
        "dataset": "DR",
        "post_id": "p",
        "label": "yes",
        "generated_text": "Yes.",
        "split": "train",
    }
    path = table(tmp_path / "own.jsonl", json.dumps(row), json.dumps(row | {"id": "DR/train/2"}))
    words = ["evaluate", str(path), "--data", str(data)]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    above, _, _ = capsys.readouterr().out.partition("High risk")
    assert "1 rows, such as 'DR/train/1', have other gold than --data; theirs counts, and --gold takes" in above
    assert "DR: 2 of the rows are training rows" in above
    assert main([*words, "--gold", str(data), "--out", str(tmp_path / "joined")]) == 0
    assert "have other gold" not in capsys.readouterr().out
