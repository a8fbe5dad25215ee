"""A loaded model: posts, conversations and label scores, one or several, with tasks of one's own."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from toy_answerer import CONFIG, toy_answerer

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.trust.risk_signs import Risk
from mentallama_jax.generation.engine import Settings
from mentallama_jax.imhi.prompts import encode_question, stop_ids
from mentallama_jax.imhi.tasks import TASKS, Task, task_named
from mentallama_jax.jobs.analyse import AnalysisSettings, analyse_posts
from mentallama_jax.jobs.answer import Answerer
from mentallama_jax.jobs.loaded_model import LoadedModel, named_task
from mentallama_jax.terminal import Console, CountingBar

POSTS = ["I count the cracks of the ceiling.", "The rain stopped and I went out."]
SLEEP = Task(
    name="sleep",
    kind="sleep",
    source="diaries",
    question="Does the writer sleep badly?",
    sentences={"yes": "Yes, the writer sleeps badly.", "no": "No, the writer sleeps well."},
    completion_prefix="The writer sleeps",
    completion_words={"yes": "badly", "no": "well"},
)


class Opened:
    """What a model that was opened says of itself."""

    name = "toy"
    config = CONFIG


@pytest.fixture(scope="module")
def answerer() -> Answerer:
    return replace(toy_answerer(), opened=Opened())


@pytest.fixture(scope="module")
def model(answerer: Answerer) -> LoadedModel:
    return LoadedModel(answerer)


def test_it_shows_what_it_is(model: LoadedModel) -> None:
    assert repr(model) == "<LoadedModel toy: 72,544 parameters, float32, style plain, 256 tokens>"


def test_analyses_are_those_of_the_job(model: LoadedModel, answerer: Answerer) -> None:
    several = model.analyse(POSTS, "DR", max_new_tokens=4, batch_size=1)
    assert several == analyse_posts(answerer, POSTS, "DR", settings=AnalysisSettings(4, batch_size=1))
    scores = model.score_labels(POSTS, "DR", batch_size=1)
    assert [max(each, key=lambda label: each[label]) for each in scores] == [each.label for each in several]
    assert model.score_labels(POSTS[1], "DR") == pytest.approx(scores[1], rel=1e-4)
    unsure = model.analyse(POSTS, "DR", max_new_tokens=4, abstain_below=1.0, batch_size=1)
    assert {each.abstained for each in unsure} == {True}


def test_an_analysis_shows_itself_and_its_repr_holds_nothing_of_the_explanation(model: LoadedModel) -> None:
    (found, _) = model.analyse(POSTS, "DR", max_new_tokens=4, batch_size=1)
    found = replace(found, explanation="They <b>count</b>\x1b[31m the cracks.")
    assert repr(found).startswith(f"<Analysis DR: {found.label} ")
    assert "cracks" not in repr(found)
    assert "the cracks." in str(found)
    assert "\x1b" not in str(found)
    assert "For research only" in str(found)
    risky, calm = (replace(found, risk=Risk(because)) for because in (("words",), ()))
    assert "findahelpline.com" in str(risky)
    assert "findahelpline.com" not in str(calm)
    assert "&lt;b&gt;count&lt;/b&gt;" in found._repr_html_()


def test_tasks_of_ones_own_are_known_while_they_are_asked(answerer: Answerer, tmp_path: Path) -> None:
    known = LoadedModel(answerer, [SLEEP])
    for task in (SLEEP, "sleep"):
        found = known.analyse(POSTS, task, max_new_tokens=4, batch_size=1)
        assert {each.task for each in found} == {"sleep"}
    assert "sleep" not in TASKS
    with pytest.raises(UserError, match="unknown data set 'sleep'"):
        LoadedModel(answerer).analyse(POSTS[0], "sleep")
    file = tmp_path / "sleep.yaml"
    file.write_text(
        "name: nights\nquestion: Does the writer sleep badly?\nlanguage: en\n"
        "labels:\n  yes: {sentence: 'Yes, it is so.'}\n  no: {sentence: 'No, it is not.'}\n"
    )
    for place in (file, str(file)):
        with named_task(place) as name:
            assert TASKS[name].question == "Does the writer sleep badly?"
    with named_task(task_named("DR")) as name:
        assert name == "DR"
    assert TASKS.own == ()
    for task, message in ((replace(SLEEP, sentences={}), "sleep"), (3, "not int"), ("gone.yaml", "no such task file")):
        with pytest.raises(UserError, match=message), named_task(task):
            pass


def test_conversations_are_answered_as_the_engine_does(model: LoadedModel, answerer: Answerer) -> None:
    texts = ["Say something.", "And something else."]
    several = model.generate(texts, max_new_tokens=5, batch_size=1)
    tokenizer = answerer.tokenizer
    prompts = [encode_question(text, "plain", tokenizer) for text in texts]
    ends = stop_ids("plain", tokenizer)
    found = {}
    for batch in answerer.engine.answers(prompts, ["0", "1"], Settings(5, batch_size=1), ends):
        found |= {place: tokenizer.decode(answer.tokens).strip() for place, answer in batch.items()}
    assert several == [found[0], found[1]]
    messages = [[{"role": "user", "content": text}] for text in texts]
    assert model.generate(messages, max_new_tokens=5, batch_size=1) == several
    sampled = [model.generate(texts, max_new_tokens=5, temperature=2.0, seed=seed, batch_size=1) for seed in (1, 1, 2)]
    assert sampled[0] == sampled[1] != sampled[2]
    assert model.generate([]) == []


def test_an_answer_ends_before_a_stop(model: LoadedModel) -> None:
    texts = ["Say something.", "And something else."]
    (whole, _) = model.generate(texts, max_new_tokens=5, batch_size=1)
    stop = whole[2:4]
    cut = model.generate(texts, max_new_tokens=5, stop=[stop], batch_size=1)[0]
    assert cut == whole.partition(stop)[0].strip()
    assert len(cut) < len(whole)
    assert model.generate(texts, max_new_tokens=5, stop=stop, batch_size=1)[0] == cut


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ("zanzibar " * 400, r"the conversation has [\d,]+ tokens; with an answer of 8"),
        ([{"role": "robot", "content": "zanzibar"}], "a message needs a role"),
        ([{"role": ["user"], "content": "zanzibar"}], "a message needs a role"),
        ([{"role": "user", "content": 3}], "a message needs a role"),
        ([{"role": "assistant", "content": "zanzibar"}], "take turns"),
        (["Hello.", 3], "conversation 2: expected a text"),
        ([["zanzibar"]], "a message needs a role"),
        ("zanzibar \ud800", "half of a surrogate pair"),
    ],
    ids=["long", "role", "no role", "no text", "turns", "number", "words", "surrogate"],
)
def test_what_is_no_conversation_is_refused_and_not_quoted(model: LoadedModel, messages, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        model.generate(messages, max_new_tokens=8)
    assert "zanzibar" not in str(caught.value)


def test_a_notebook_sees_a_bar_that_needs_no_widget(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    with CountingBar(3, Console(force_jupyter=True)) as bar:
        bar.add(1)
        bar.add(2)
    first, *_, last = stream.getvalue().split("\r")[1:]
    assert first == "························ 0/3"
    assert last == "████████████████████████ 3/3\n"
    elsewhere = io.StringIO()
    with CountingBar(3, Console(file=elsewhere)) as bar:
        bar.add(3)
    assert elsewhere.getvalue() == ""
