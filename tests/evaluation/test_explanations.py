"""Explanations beside gold: by the libraries that define the metrics, of the right texts, with intervals over posts."""

import json
import random
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallama_jax.cli.main import main
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation import overlap
from mentallama_jax.evaluation.explanations import ExplanationScores, pairs_of, score_explanations
from mentallama_jax.evaluation.ngrams import character_ngrams
from mentallama_jax.evaluation.overlap import FAMILIES, OverlapMetric, longest_common_subsequence, overlap_metrics
from mentallama_jax.evaluation.pair_metrics import PARTS, Figure, OverlapScores, Pair, Score
from mentallama_jax.evaluation.schema import FIELDS
from mentallama_jax.evaluation.score_report import explanation_tables, metric_notes
from mentallama_jax.evaluation.score_store import read_scores
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.imhi.labels.gold_response import explanation_in
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.tasks import TASKS

pytest.importorskip("sacrebleu", reason="the extra metrics is not installed")
pytest.importorskip("rouge_score", reason="the extra metrics is not installed")

TEXT = "the post shows that sleep does not come and every morning feels heavy with no joy left in it"
WORDS = tuple(TEXT.split())
INTERVALS = IntervalSettings()
ALL = ("rouge", "bleu", "chrf")


def row(number: int, output: str, gold: str, dataset: str = "DR", post: str = "") -> Prediction:
    label = TASKS[dataset].labels[0]
    return Prediction(
        id=f"{dataset}/test/{number}", dataset=dataset, post_id=post or f"p{number}", label=label, goldens=gold,
        generated_text=output,
    )  # fmt: skip


def rows(count: int = 12) -> list[Prediction]:
    source = random.Random(0)
    text = lambda: " ".join(source.choices(WORDS, k=source.randrange(4, 25)))  # noqa: E731
    made = []
    for number in range(count):
        dataset = ("DR", "SAD")[number % 2]
        sentence = TASKS[dataset].sentences[TASKS[dataset].labels[0]]
        made.append(
            row(
                number, f"{sentence} Reasoning: {text()}", f"{sentence} Reasoning: {text()}", dataset, f"p{number // 3}"
            )
        )
    return made


def scored(
    given: list[Prediction], families: tuple[str, ...], by_row: Path | None = None, processes: int = 1
) -> tuple[ExplanationScores, list[dict]]:
    """The scores, and the table of rows where there is a place for it."""
    metrics = [OverlapScores(families, processes)]
    found = score_explanations(given, metrics, INTERVALS, by_row)
    return found, pyarrow.parquet.read_table(by_row).to_pylist() if by_row else []


def test_scores_are_those_of_the_libraries(tmp_path: Path) -> None:
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU, CHRF

    scores, table = scored(rows(), ALL, tmp_path / "rows.parquet")
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    bleu, chrf = BLEU(effective_order=True), CHRF()
    for part in PARTS:
        pairs = pairs_of(rows(), part)
        lines = [line for line in table if line["part"] == part]
        assert [line["id"] for line in lines] == [pair.id for pair in pairs]
        for line, pair in zip(lines, pairs, strict=True):
            wanted = scorer.score(pair.reference, pair.output)
            for name in ("rouge1", "rouge2", "rougeL"):
                assert line[name] == pytest.approx(wanted[name].fmeasure, abs=1e-12)
            assert line["bleu"] == pytest.approx(bleu.sentence_score(pair.output, [pair.reference]).score / 100)
            assert line["chrf"] == pytest.approx(chrf.sentence_score(pair.output, [pair.reference]).score / 100)
        for name, figure in scores.pooled[part].metrics.items():
            assert figure.mean == pytest.approx(np.mean([line[name] for line in lines]))
            assert 0 <= figure.interval[0] < figure.mean < figure.interval[1] <= 1
        outputs, references = [pair.output for pair in pairs], [pair.reference for pair in pairs]
        assert scores.pooled[part].metrics["bleu"].corpus == pytest.approx(
            BLEU().corpus_score(outputs, [references]).score / 100
        )
        assert scores.pooled[part].metrics["chrf"].corpus == pytest.approx(
            CHRF().corpus_score(outputs, [references]).score / 100
        )
        assert scores.pooled[part].metrics["rouge1"].corpus is None
        assert (scores.pooled[part].rows, scores.pooled[part].posts) == (12, 4)
    assert list(scores.datasets) == ["DR", "SAD"]
    assert scores.datasets["DR"]["response"].rows == 6
    assert scores.signatures["bleu"].startswith("sacrebleu ")
    assert "smooth:exp" in scores.signatures["bleu"]


@given(*2 * [st.lists(st.sampled_from("abcd"), max_size=70)])
def test_the_longest_common_subsequence_is_that_of_rouge_score(first: list[str], second: list[str]) -> None:
    from rouge_score.rouge_scorer import _lcs_table

    assert longest_common_subsequence(first, second) == _lcs_table(first, second)[-1][-1]


@given(*2 * [st.text(max_size=40) | st.text(alphabet="ab c", max_size=120)])
def test_character_ngrams_are_those_of_sacrebleu(output: str, reference: str) -> None:
    from sacrebleu.metrics import CHRF

    wanted = CHRF()._extract_corpus_statistics([output], [[reference]])[0]
    assert character_ngrams(output, reference) == tuple(wanted)


def test_texts_of_very_many_characters_are_left_to_sacrebleu() -> None:
    assert character_ngrams("".join(map(chr, range(0x4E00, 0x4E00 + 1100))), "a") is None


@given(*2 * [st.text(alphabet="aB1 .-\nß", max_size=60)])
def test_rouge_of_any_texts_is_that_of_rouge_score(output: str, reference: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    wanted = RougeScorer(list(FAMILIES["rouge"])).score(reference, output)
    for metric in overlap_metrics(["rouge"]):
        assert metric.score(output, reference) == wanted[metric.name].fmeasure


def test_the_released_scorers_definitions() -> None:
    from sacrebleu.metrics import BLEU

    pairs = pairs_of(rows(40), "response")
    outputs, references = [pair.output for pair in pairs], [pair.reference for pair in pairs]
    (bleu,) = overlap_metrics(["upstream_bleu"])
    counts = [bleu.statistics(*texts) for texts in zip(outputs, references, strict=True)]
    plain = BLEU(smooth_method="none")
    assert bleu.corpus(counts) == pytest.approx(plain.corpus_score(outputs, [references]).score / 100)
    for output, reference in (("no joy, is left.", "no joy is left"), ("a b c d", "a b c d"), ("so", "so"), ("", "so")):
        assert bleu.score(output, reference) == pytest.approx(
            BLEU(smooth_method="none").corpus_score([output], [[reference]]).score / 100
        )
    rouge = overlap_metrics(["upstream_rouge"])
    assert [metric.name for metric in rouge] == ["upstream_rouge1", "upstream_rouge2", "upstream_rougeL"]
    scores = [rouge[0].score(*texts) for texts in zip(outputs, references, strict=True)]
    median = rouge[0].corpus([(score,) for score in scores])
    assert median == pytest.approx(np.mean(scores), abs=0.01)
    assert median == rouge[0].corpus([(score,) for score in scores])


@pytest.mark.parametrize(
    ("text", "explanation"),
    [
        ("Yes, the poster suffers from depression. Reasoning: No joy is left.", "No joy is left."),
        ("Yes, the poster suffers from depression.", ""),
        ("Yes, the poster suffers from depression. No joy is left.", "No joy is left."),
        ("yes. Reasoning:", ""),
        ("No joy is left in the post.", "No joy is left in the post."),
        ("No. Joy is there.", "Joy is there."),
        ("The post tells of no joy.", "The post tells of no joy."),
        ("<think>Reasoning: a song?</think>Yes, the poster suffers from depression. Reasoning: No joy.", "No joy."),
        ("<think>Is it a song?</think>No joy is left in the post.", "No joy is left in the post."),
        ("[THINK]A song.[/THINK]\nyes.", ""),
        ("It may be a song.</think>No. Joy is there.", "Joy is there."),
        ("<think>Yes, the poster suffers from depression. Reasoning: No joy", ""),
        ("", ""),
    ],
)
def test_the_explanation_of_an_output_is_what_stands_besides_its_label(text: str, explanation: str) -> None:
    assert explanation_in(text, TASKS["DR"]) == explanation


def test_responses_are_compared_without_reasoning_traces() -> None:
    gold = "Yes, the poster suffers from depression. Reasoning: No joy is left."
    given = [row(1, f"<think>Reasoning: a song?</think>{gold}", gold), row(2, f"<think>{gold}", gold)]
    assert [pair.output for pair in pairs_of(given, "response")] == [gold, ""]
    assert [pair.output for pair in pairs_of(given, "explanation")] == ["No joy is left.", ""]


def test_rows_without_a_reference_are_counted_and_empty_outputs_are_zero(tmp_path: Path) -> None:
    gold = "Yes, the poster suffers from depression. Reasoning: No joy is left."
    given = [row(1, gold, gold), row(2, "", gold), row(3, gold, ""), row(4, gold, gold.partition("Reasoning")[0])]
    scores, table = scored(given, ("rouge",), tmp_path / "rows.parquet")
    whole, alone = scores.pooled["response"], scores.pooled["explanation"]
    assert (whole.rows, whole.without_reference, whole.empty) == (3, 1, 1)
    assert (alone.rows, alone.without_reference, alone.empty) == (2, 2, 1)
    assert alone.metrics["rouge1"].mean == 0.5
    values = {(line["id"], line["part"]): line["rouge1"] for line in table}
    assert values["DR/test/2", "response"] == 0.0
    assert values["DR/test/3", "response"] is None
    assert values["DR/test/1", "explanation"] == 1.0
    nothing, _ = scored([row(1, gold, "")], ("rouge",))
    assert nothing.pooled["response"].metrics == {}
    assert nothing.pooled["response"].without_reference == 1
    assert explanation_tables({"": nothing}) == []  # no table of empty cells
    assert metric_notes(nothing) == [
        "rouge1, rouge2, rougeL: none of 1 rows has a gold text; --gold SOURCE takes it by the ids of rows"
    ]


def test_order_does_not_matter_and_the_same_again_is_the_same() -> None:
    made = rows()
    first, _ = scored(made, ALL)
    again, _ = scored(made, ALL)
    assert first == again
    other, _ = scored(made[::-1], ("rouge",))
    for part in PARTS:
        for name, figure in other.pooled[part].metrics.items():
            assert figure.mean == pytest.approx(first.pooled[part].metrics[name].mean)
            assert figure.interval == pytest.approx(first.pooled[part].metrics[name].interval)


def test_a_score_that_is_no_number_names_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = OverlapMetric("chrf", lambda output, reference: float("nan"), None, "made up")
    monkeypatch.setattr(overlap, "_chrf", lambda: [broken])
    with pytest.raises(UserError, match="row 'DR/test/1': its chrf is nan"):
        scored([replace(rows()[0], id="DR/test/1")], ("chrf",))


@pytest.mark.long
def test_processes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = scored(rows(), ALL)
    monkeypatch.setattr(overlap, "_WORTH_A_PROCESS", 4)
    monkeypatch.setattr(overlap, "_ROWS_AT_ONCE", 5)
    assert scored(rows(), ALL, processes=2) == alone


def test_unknown_metrics_and_a_missing_extra_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="--metrics meteor: there are: rouge, bleu, chrf"):
        overlap_metrics(["rouge", "meteor"])

    def absent() -> list[OverlapMetric]:
        raise ImportError("No module named 'sacrebleu'", name="sacrebleu")

    monkeypatch.setattr(overlap, "_bleu", absent)
    with pytest.raises(UserError, match=r"needs sacrebleu; pip install 'mentallama-jax\[metrics\]'"):
        overlap_metrics(["bleu"])


def test_the_command_shows_a_table_and_writes_scores_by_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_text("".join(one.to_line() for one in rows()))
    assert main(["evaluate", str(path), "--out", str(tmp_path / "scores"), "--metrics", "rouge,chrf"]) == 0
    shown = capsys.readouterr().out
    assert "Explanations beside the gold responses" in shown
    assert "rouge1, rouge2, rougeL: rouge-score" in shown
    written = json.loads((tmp_path / "scores" / "scores.json").read_text())["explanations"]
    assert written.keys() == FIELDS["explanations"].keys()
    assert written["pooled"]["response"]["metrics"].keys() == {"rouge1", "rouge2", "rougeL", "chrf"}
    by_row = pyarrow.parquet.read_table(tmp_path / "scores" / "scores_by_row.parquet").to_pylist()
    assert len(by_row) == 24
    assert by_row[0].keys() == {"id", "dataset", "part", "content", "rouge1", "rouge2", "rougeL", "chrf", "chrf_counts"}
    assert main(["evaluate", str(path), "--out", str(tmp_path / "plain")]) == 0
    assert "explanations" not in json.loads((tmp_path / "plain" / "scores.json").read_text())
    assert not (tmp_path / "plain" / "scores_by_row.parquet").exists()
    assert main(["evaluate", str(path), "--out", str(tmp_path / "x"), "--metrics", "meteor"]) == 2
    assert "there are: rouge, bleu, chrf, upstream_rouge" in capsys.readouterr().err


class Counting:
    """A metric that tells how many pairs it was asked for: the length of the output, less than 0."""

    empty_score = None

    def __init__(self, signature: str = "first", fails_after: int | None = None) -> None:
        self.figures = [Figure("length", signature, "nats", (-float("inf"), 0.0))]
        self.asked: list[str] = []
        self._fails_after = fails_after

    def scores(self, pairs: list[Pair]):
        for place, pair in enumerate(pairs):
            if self._fails_after is not None and len(self.asked) >= self._fails_after:
                raise KeyboardInterrupt
            self.asked.append(pair.id)
            yield {place: (Score(-float(len(pair.output))),)}


def test_a_second_run_computes_what_is_missing(tmp_path: Path) -> None:
    by_row, made = tmp_path / "rows.parquet", rows()
    stopped = Counting(fails_after=7)
    with pytest.raises(KeyboardInterrupt):
        score_explanations(made, [stopped], INTERVALS, by_row)
    again = Counting()
    found = score_explanations(made, [again], INTERVALS, by_row)
    assert (len(stopped.asked), len(again.asked)) == (7, 17)
    assert found == score_explanations(made, [Counting()], INTERVALS)
    assert found.pooled["response"].metrics["length"].unit == "nats"
    third = Counting()
    other = [replace(made[0], generated_text="something else"), *made[1:]]
    score_explanations(other, [third], INTERVALS, by_row)
    assert third.asked == [made[0].id] * 2  # both parts of the row that changed
    fourth = Counting("second")
    score_explanations(other, [fourth], INTERVALS, by_row)
    assert len(fourth.asked) == 24
    by_row.write_bytes(by_row.read_bytes()[:-40])
    fifth = Counting("second")
    score_explanations(other, [fifth], INTERVALS, by_row)
    assert len(fifth.asked) == 24
    # Figures of all rows need counts, which are kept beside the scores.
    first, table = scored(made, ALL, tmp_path / "overlap.parquet")
    assert table[0]["bleu_counts"]
    assert scored(made, ALL, tmp_path / "overlap.parquet")[0] == first


def test_the_unit_and_bounds_of_figures_are_kept_beside_their_scores(tmp_path: Path) -> None:
    by_row, made = tmp_path / "rows.parquet", rows()
    score_explanations(made, [Counting()], INTERVALS, by_row)
    scored(made, ("rouge",), by_row)
    found = read_scores(by_row).figures
    assert {name: (each.signature, each.unit, each.bounds) for name, each in found.items() if name != "length"} == {
        name: (found[name].signature, "share", (0.0, 1.0)) for name in ("rouge1", "rouge2", "rougeL")
    }
    assert (found["length"].signature, found["length"].unit, found["length"].bounds) == (
        "first",
        "nats",
        (-float("inf"), 0.0),
    )


def test_a_table_without_units_is_not_guessed_and_gets_them_without_computing_again(tmp_path: Path) -> None:
    by_row, made = tmp_path / "rows.parquet", rows()
    score_explanations(made, [Counting()], INTERVALS, by_row)
    table = pyarrow.parquet.read_table(by_row)
    metadata = {key: value for key, value in table.schema.metadata.items() if key != b"scales"}
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), by_row)
    with pytest.raises(UserError, match=r"does not say the unit of 'length'.*computes no score again"):
        read_scores(by_row)
    scored(made, ("rouge",), by_row)  # of another metric: nothing is known of the first, whose column stays
    with pytest.raises(UserError, match="does not say the unit of 'length'"):
        read_scores(by_row)
    again = Counting()
    score_explanations(made, [again], INTERVALS, by_row)
    assert not again.asked
    assert read_scores(by_row).figures["length"].unit == "nats"


def test_columns_of_other_metrics_stay(tmp_path: Path) -> None:
    by_row, made = tmp_path / "rows.parquet", rows()
    score_explanations(made, [Counting()], INTERVALS, by_row)
    scored(made, ALL, by_row)
    again = Counting()
    score_explanations(made, [again], INTERVALS, by_row)
    assert again.asked == []
    table = pyarrow.parquet.read_table(by_row)
    assert {"length", "rougeL", "bleu_counts"} <= set(table.column_names)
    other = [replace(made[0], generated_text="something else"), *made[1:]]
    scored(other, ("rouge",), by_row)
    lengths = pyarrow.parquet.read_table(by_row)["length"].to_pylist()
    assert [value is None for value in lengths].count(True) == 2  # the row that changed, in both parts


def test_scores_without_bounds_have_no_interval_where_nothing_varies() -> None:
    found = score_explanations([row(1, "so it is", "so it is")] * 3, [Counting()], INTERVALS)
    figure = found.pooled["response"].metrics["length"]
    assert (figure.mean, figure.interval) == (-8.0, None)
    assert json.dumps(asdict(found), allow_nan=False)
