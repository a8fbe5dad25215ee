"""Explanations of known labels from an endpoint: what is asked, what is checked, what is written."""

import json
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from asked_rows import remote
from misbehaving_server import server

from mentallama_jax.cli.main import main
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation import explanation_checks as checks
from mentallama_jax.evaluation.explanation_checks import Checked, Collected, Thresholds, check_labels
from mentallama_jax.evaluation.reading import read_predictions
from mentallama_jax.formats.tokenizers.tokenizer import Tokenizer, load_tokenizer
from mentallama_jax.generation.engine import Answer, Settings
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.explanation_prompts import examples_for, expert_examples, explanation_question
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.jobs import explain as job
from mentallama_jax.jobs.explain import CheckModels, Collection, check
from mentallama_jax.jobs.explanation_answers import endpoint_explanations, local_explanations
from mentallama_jax.scorers.label_classifier import Classes

SAMPLE_TOKENIZER = Path(__file__).resolve().parents[2] / "mentallama_jax" / "imhi" / "sample" / "tokenizer"
YES, NO = "Yes, the poster suffers from depression.", "No, the poster does not suffer from depression."
EXPERTS = [
    Record(f"e{number}", "DR", f"expert post {number}", ("yes", "no")[number % 2], f"expert reason {number}")
    for number in range(6)
]
ROWS = [Record(f"r{number}", "DR", f"grey day {number}", ("yes", "no")[number % 2]) for number in range(8)]


def collection(rows: list[Record] = ROWS, count: int = 2) -> Collection:
    return Collection(records=rows, experts=expert_examples(EXPERTS, rows, count, 0), count=count)


def test_a_prompt_holds_the_instruction_the_examples_of_each_label_and_the_gold_label() -> None:
    asked = ROWS[0]
    shown = examples_for(asked, collection().experts, 2)
    assert [example.label for example in shown] == ["yes", "no", "yes", "no"]
    text = explanation_question(asked, shown, "Explain.")
    assert text.startswith("Explain.\n\nPost: expert post ")
    for example in shown:
        assert f"Reasoning: {example.explanation}\n" in text
    assert text.endswith(
        "\n\nPost: grey day 0\nQuestion: Does the poster suffer from depression?\n"
        f"Answer of the annotators: {YES}\nExplanation:"
    )
    assert explanation_question(asked, shown, "Explain.") == text
    with pytest.raises(UserError, match="has no label"):
        explanation_question(Record("x", "DR", "p"), [])


def test_the_own_post_is_never_an_example() -> None:
    for expert in EXPERTS:
        own = Record("other id", "DR", expert.post.upper(), expert.label)
        assert expert.id not in {each.id for each in examples_for(own, collection([own]).experts, 3)}


def test_a_near_copy_of_the_post_is_never_an_example() -> None:
    words = [f"word{number}" for number in range(30)]
    told = replace(EXPERTS[0], id="told", post=" ".join(words))
    for post in (" ".join([*words, "and", "a", "link"]), " ".join(words[:25])):
        own = Record("other id", "DR", post, told.label)
        shown = examples_for(own, expert_examples([*EXPERTS, told], [own], 2, 0), 4)
        assert "told" not in {each.id for each in shown}
        assert sum(each.label == told.label for each in shown) == 3


def test_the_seed_chooses_examples_and_too_few_are_refused() -> None:
    orders = {tuple(r.id for r in examples_for(ROWS[0], expert_examples(EXPERTS, ROWS, 2, s), 2)) for s in range(9)}
    assert len(orders) > 1
    with pytest.raises(UserError, match="3 explanations of the label yes of DR, and 4 are shown"):
        expert_examples(EXPERTS, ROWS, 4, 0)
    risk = [Record("x", "IRF", "p", "yes", aspect="perceived burdensomeness")]
    with pytest.raises(UserError, match="0 explanations of the label yes of IRF about perceived burdensomeness"):
        expert_examples(EXPERTS, risk, 2, 0)


@pytest.mark.parametrize(
    ("text", "finish", "reasons"),
    [
        (f"{YES} Reasoning: The days are grey.", "eos", []),
        (f"{YES} Reasoning: The days are", "length", [checks.CUT]),
        (f"{NO} Reasoning: All is well.", "eos", [checks.OTHER_LABEL]),
        ("The weather is a topic here.", "eos", [checks.NO_LABEL]),
        ("", "eos", [checks.NO_LABEL]),
        (YES, "eos", [checks.EMPTY]),
        (f"{YES} Reasoning: The post shows no signs of depression.", "eos", [checks.CONTRADICTS]),
        ("", "content_filter", [checks.WITHHELD]),
        (None, "", [checks.NO_ANSWER]),
    ],
)
def test_answers_are_rejected_with_their_reason(text: str | None, finish: str, reasons: list[str]) -> None:
    (row,) = check_labels([Collected(ROWS[0], text, finish)], Thresholds())
    assert row.reasons == reasons


def test_short_explanations_are_rejected_where_that_is_asked_for() -> None:
    row = Collected(ROWS[0], f"{YES} Reasoning: It is grey.", "eos")
    assert [check_labels([row], Thresholds(shortest=n))[0].reasons for n in (3, 4)] == [[], [checks.EMPTY]]


def test_consistency_and_bartscore_are_figures_unless_thresholds_are_given() -> None:
    def rows() -> list[Checked]:
        return [Checked(Collected(row, f"{YES} Reasoning: grey.", "eos")) for row in (ROWS[0], ROWS[2], ROWS[4])]

    for thresholds, rejected in (
        (Thresholds(), {}),
        (Thresholds(reject_inconsistent=True, least_bartscore=-3.0), {checks.INCONSISTENT: 1, checks.FAR: 1}),
    ):
        found = rows()
        checks.add_consistency(found, ["no", "yes", None], thresholds)
        checks.add_bartscores(found, {0: -2.0, 2: -4.0}, thresholds)
        report = checks.collection_report(found)
        assert report["all"]["rejected"] == rejected
        assert report["all"]["kept"] == 3 - len(rejected)
        assert report["all"]["consistency"] == {"rows": 2, "share": 0.5}
        assert report["all"]["bartscore"] == {"rows": 2, "mean": -3.0}
        assert report["datasets"]["DR"] == report["all"]


def test_experts_are_what_bartscore_compares_with(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stand:
        def scores(self, pairs: list[Any]) -> Iterator[dict[int, tuple[Any, ...]]]:
            assert [(pair.output, pair.reference) for pair in pairs] == [("Grey.", "expert reason 2")]
            from mentallama_jax.evaluation.pair_metrics import Score

            yield {0: (Score(-1.5),)}

    monkeypatch.setattr("mentallama_jax.jobs.open_scorers.open_model_metrics", lambda *_: [Stand()])
    rows = [ROWS[0], Record("own", "DR", "Expert post 2", "yes")]
    answers = [(f"{YES} Reasoning: Grey.", "eos")] * 2
    found = check(collection(rows), answers, Thresholds(least_bartscore=-1.0), CheckModels(bartscore="x"))
    assert [row.bartscore for row in found] == [None, -1.5]
    assert [row.reasons for row in found] == [[], [checks.FAR]]


def test_classifiers_read_the_explanation_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stand:
        task = TASKS["DR"]
        classes = Classes(TASKS["DR"].labels, "the test", "explanation", 64)

        def read(self, texts: list[str]) -> list[str]:
            assert all("suffer" not in text for text in texts)
            return ["no" if "sunny" in text else "yes" for text in texts]

    monkeypatch.setattr("mentallama_jax.scorers.label_classifier.open_classifiers", lambda *_: {"DR": Stand()})
    texts = (f"{YES} Reasoning: It is grey.", f"{YES} Reasoning: It is sunny.", "", f"{NO} Reasoning: It is sunny.")
    models, rows = CheckModels(classifiers=Path("any")), [ROWS[0], ROWS[0], ROWS[0], ROWS[1]]
    found = check(collection(rows), [(text, "eos") for text in texts], Thresholds(reject_inconsistent=True), models)
    assert [row.reasons for row in found] == [[], [checks.INCONSISTENT], [checks.NO_LABEL], []]
    assert [row.read for row in found] == ["yes", "no", None, "no"]


def answer_of(body: Mapping[str, Any]) -> tuple[str, str]:
    """What a model might write: right, of the other label, cut."""
    asked = body["messages"][-1]["content"].rpartition("Post: ")[2]
    label = YES if YES in asked else NO
    if "day 2" in asked:
        return f"{NO} Reasoning: All is well.", "stop"
    if "day 3" in asked:
        return f"{label} Reasoning: It goes on and", "length"
    return f"{label} Reasoning: The post is about a grey day.", "stop"


def test_an_endpoint_that_misbehaves_gives_every_explanation_once(tmp_path: Path) -> None:
    with server(seed=3, answer=answer_of) as (url, books):
        found, asked = endpoint_explanations(collection(), remote(url), tmp_path / "answers.jsonl")
        again, _ = endpoint_explanations(collection(), remote(url), tmp_path / "answers.jsonl")
    assert (found.missing, found.asked.new, again.asked.new) == (0, 8, 0)
    assert set(books.delivered.values()) == {1}
    assert asked is not None
    assert [finish for _, finish in asked.answers] == ["eos"] * 3 + ["length"] + ["eos"] * 4
    assert (asked.said["model"], asked.said["served_models"]) == ("toy", ["toy-2026"])


class StandEngine:
    """Answers prompts two at a time with the label that they end with; it can be stopped."""

    def __init__(self, tokenizer: Tokenizer, stop_after: int) -> None:
        self.tokenizer, self.stop_after = tokenizer, stop_after
        self.prompts: list[str] = []

    def answers(self, prompts: list[list[int]], names: list[str], *_: object) -> Iterator[dict[int, Answer]]:
        for start in range(0, len(prompts), 2):
            if start >= self.stop_after:
                raise KeyboardInterrupt
            batch = range(start, min(start + 2, len(prompts)))
            texts = [self.tokenizer.decode(prompts[place]) for place in batch]
            self.prompts += texts
            written = [answer_of({"messages": [{"content": text}]})[0] for text in texts]
            yield {
                place: Answer((*self.tokenizer.encode(text), self.tokenizer.eos_id), (), True)
                for place, text in zip(batch, written, strict=True)
            }


def test_a_model_here_that_is_stopped_is_asked_for_the_rest_and_loses_examples_to_fit(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(SAMPLE_TOKENIZER)
    engine = StandEngine(tokenizer, 4)
    opened = SimpleNamespace(name="toy", identity={"model": "toy", "revision": None})
    values = {"style": "plain", "weights": "w", "dtype": "float32", "max_length": 600, "on_mesh": nullcontext}
    answerer: Any = SimpleNamespace(engine=engine, tokenizer=tokenizer, opened=opened, **values)
    rows = [*ROWS[:5], Record("long", "DR", "grey " * 60, "yes"), Record("too long", "DR", "grey " * 300, "yes")]
    settings = Settings(max_new_tokens=40)
    kept = tmp_path / "answers.jsonl"
    with pytest.raises(KeyboardInterrupt):
        local_explanations(collection(rows), answerer, settings, kept)
    assert len(engine.prompts) == 4
    engine.stop_after = 99
    found = local_explanations(collection(rows), answerer, settings, kept)
    assert len(engine.prompts) == 6
    assert [prompt.count("Reasoning: expert reason") for prompt in engine.prompts] == [4] * 5 + [2]
    assert [text is None for text, _ in found.answers] == [False] * 6 + [True]
    assert {finish for _, finish in found.answers[:6]} == {"eos"}
    assert found.answers[0][0] == f"{YES} Reasoning: The post is about a grey day."
    assert local_explanations(collection(rows), answerer, settings, kept) == found
    assert len(engine.prompts) == 6


def write(path: Path, records: list[Record]) -> str:
    from dataclasses import asdict

    path.write_text("".join(json.dumps(asdict(record)) + "\n" for record in records))
    return str(path)


def test_the_command_writes_kept_and_rejected_rows_that_train_and_annotate_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, experts = write(tmp_path / "data.jsonl", ROWS), write(tmp_path / "experts.jsonl", EXPERTS)
    out = tmp_path / "out"
    with server(share=0.0, answer=answer_of) as (url, _):
        words = ["data", "explain", data, "--examples", experts, "--model", "toy", "--endpoint", url, "--out", str(out)]
        assert main(words) == 0
    printed = capsys.readouterr()
    assert "kept 6 of 8 explanations; their labels agree in 87.5%" in printed.out
    assert f"rejected, as {checks.OTHER_LABEL}: 1" in printed.out
    assert "this machine" in printed.err
    kept = read_records([out / job.KEPT]).records
    assert [record.id for record in kept] == [f"r{number}" for number in (0, 1, 4, 5, 6, 7)]
    assert {record.explanation for record in kept} == {"The post is about a grey day."}
    rejected = [json.loads(line) for line in (out / job.REJECTED).read_text().splitlines()]
    assert [(row["id"], row["reasons"]) for row in rejected] == [("r2", [checks.OTHER_LABEL]), ("r3", [checks.CUT])]
    report = json.loads((out / job.REPORT).read_text())
    assert report["all"]["rejected"] == {checks.CUT: 1, checks.OTHER_LABEL: 1}
    assert report["made_by"]["examples_of_a_label"] == 2
    predictions = read_predictions(out / job.ANSWERS)
    assert [row.goldens for row in predictions.rows] == [row.generated_text for row in predictions.rows]
    study = ["data", "annotate", str(out / job.ANSWERS), "--data", str(out / job.KEPT), "--rows", "3"]
    assert main([*study, "--out", str(tmp_path / "study")]) == 0


def test_explanations_that_are_missing_are_an_error_of_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, experts = write(tmp_path / "data.jsonl", ROWS), write(tmp_path / "experts.jsonl", EXPERTS)
    with server(share=1.0, faults=("500",)) as (url, _):
        words = ["data", "explain", data, "--examples", experts, "--model", "toy", "--endpoint", url, "--retries", "0"]
        assert main([*words, "--out", str(tmp_path / "out")]) == 1
    err = capsys.readouterr().err
    assert (
        err.rstrip("\n").splitlines()[-1]
        == "error: 8 rows have no answer yet; no answer to 8 requests: HTTP status 500"
    )
    assert err.count("error: ") == 1


def test_options_that_do_not_go_together_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, experts = write(tmp_path / "data.jsonl", ROWS), write(tmp_path / "experts.jsonl", EXPERTS)
    words = ["data", "explain", data, "--examples", experts, "--model", "toy", "--out", str(tmp_path / "out")]
    for more, said in (
        (["--max-cost", "1"], "--max-cost goes with --endpoint"),
        (["--reject-inconsistent"], "needs --classifiers"),
        (["--min-bartscore", "-3"], "needs --bartscore-model"),
        (["--examples-per-label", "9", "--endpoint", "http://localhost:1/v1"], "and 9 are shown"),
        (["--endpoint", "https://api.example.invalid/v1", "--price-in", "0", "--price-out", "0"], "nothing was sent"),
    ):
        assert main([*words, *more]) == 2
        assert said in capsys.readouterr().err
