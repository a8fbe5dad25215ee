"""The server with the toy model, asked by the real client of OpenAI: every answer is that of its prompt alone."""

import json
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from live_server import LiveServer

from mentallama_jax.generation.engine import Request, Settings
from mentallama_jax.imhi.prompts import encode_question, stop_ids
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.jobs.analyse import Analyser, AnalysisSettings, analysis_of, likeliest
from mentallama_jax.jobs.answer import Answerer
from mentallama_jax.jobs.serve import open_service
from mentallama_jax.serving.service import ServeLimits

MARKER = "zanzibarquokka"
QUESTIONS = [f"Sleep {'and rest ' * (number % 5)}{number}?" for number in range(24)]


@pytest.fixture(scope="module")
def client(server: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=120) as client:
        yield client


def chat(client: openai.OpenAI, text: str, **how: Any) -> Any:
    how = {"temperature": 0, "max_tokens": 12} | how
    return client.chat.completions.create(model="toy", messages=[{"role": "user", "content": text}], **how)


@pytest.fixture(scope="module")
def alone(answerer: Answerer) -> dict[str, str]:
    """The greedy answer to each question, by the engine without a server."""
    prompts = [encode_question(text, "plain", answerer.tokenizer) for text in QUESTIONS]
    ends = stop_ids("plain", answerer.tokenizer)
    decoding = answerer.engine.decoding(4, places=lambda _: 192)
    for prompt in prompts:
        decoding.submit(Request(prompt, "", Settings(12), ends))
    found = [event for events in decoding.run() for event in events if event.answer]
    texts = {event.request: answerer.tokenizer.decode(event.answer.tokens) for event in found}
    return {text: texts[place].removeprefix(" ") for place, text in enumerate(QUESTIONS)}


def streamed(client: openai.OpenAI, text: str, **how: Any) -> tuple[str, list[Any]]:
    pieces = list(chat(client, text, stream=True, **how))
    return "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices), pieces


def test_answers_among_others_are_those_of_their_prompts_alone(
    client: openai.OpenAI, server: LiveServer, alone: dict[str, str]
) -> None:
    leaving = threading.Event()

    def ask(place: int) -> str | None:
        text = QUESTIONS[place]
        if place % 6 == 5:  # these leave after their first piece
            with chat(client, text, stream=True) as stream:
                next(iter(stream))
            leaving.set()
            return None
        if place % 2:
            return streamed(client, text)[0]
        return str(chat(client, text).choices[0].message.content)

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(len(QUESTIONS))))
    assert leaving.is_set()
    assert [
        text for text, answer in zip(QUESTIONS, answers, strict=True) if answer is not None and answer != alone[text]
    ] == []
    assert len({answer for answer in answers if answer}) > 10
    server.wait_until_idle()


def test_a_stream_has_the_pieces_that_clients_wait_for(client: openai.OpenAI, alone: dict[str, str]) -> None:
    text, pieces = streamed(client, QUESTIONS[0], stream_options={"include_usage": True})
    assert text == alone[QUESTIONS[0]]
    assert len({piece.id for piece in pieces}) == 1
    assert pieces[0].choices[0].delta.role == "assistant"
    assert [piece.choices[0].finish_reason for piece in pieces[:-1]] == [None] * (len(pieces) - 2) + ["length"]
    assert pieces[-1].choices == []
    assert pieces[-1].usage.completion_tokens == 12
    assert pieces[-1].usage.total_tokens == 12 + pieces[-1].usage.prompt_tokens
    assert all(piece.object == "chat.completion.chunk" for piece in pieces)


def test_choices_of_a_seed_are_drawn_again(client: openai.OpenAI) -> None:
    def drawn(seed: int, **how: Any) -> list[str]:
        made = chat(client, "Sleep?", n=2, seed=seed, temperature=1.5, **how)
        assert [choice.index for choice in made.choices] == [0, 1]
        assert made.usage.completion_tokens == 24
        return [choice.message.content for choice in made.choices]

    first = drawn(5)
    assert first == drawn(5)
    assert len({*first, *drawn(6)}) == 4
    texts: dict[int, str] = {0: "", 1: ""}
    for piece in chat(client, "Sleep?", n=2, seed=5, temperature=1.5, stream=True):
        texts[piece.choices[0].index] += piece.choices[0].delta.content or ""
    assert list(texts.values()) == first


def test_log_probabilities_of_tokens_and_alternatives(client: openai.OpenAI, alone: dict[str, str]) -> None:
    made = chat(client, QUESTIONS[0], logprobs=True, top_logprobs=3).choices[0]
    content = made.logprobs.content
    assert len(content) == 12
    spelt = b"".join(bytes(token.bytes) for token in content).decode("utf-8", "replace")
    assert spelt.removeprefix(" ") == made.message.content == alone[QUESTIONS[0]]
    for token in content:
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].token == token.token  # greedy
        assert token.top_logprobs[0].logprob == pytest.approx(token.logprob, abs=1e-5)
        assert 0 > token.logprob >= token.top_logprobs[2].logprob
    _, pieces = streamed(client, QUESTIONS[0], logprobs=True, top_logprobs=3)
    in_stream = [token for piece in pieces if piece.choices[0].logprobs for token in piece.choices[0].logprobs.content]
    assert [token.token for token in in_stream] == [token.token for token in content]
    old = client.completions.create(model="toy", prompt=["I", "You"], temperature=0, max_tokens=3, logprobs=2)
    for choice in old.choices:
        assert [len(values) for values in (choice.logprobs.tokens, choice.logprobs.text_offset)] == [3, 3]
        assert all(len(likely) == 2 for likely in choice.logprobs.top_logprobs)
    assert chat(client, "Sleep?").choices[0].logprobs is None


def test_stop_strings_end_an_answer(client: openai.OpenAI, alone: dict[str, str]) -> None:
    whole = alone[QUESTIONS[1]]
    stop = whole[5:8]
    made = chat(client, QUESTIONS[1], stop=[stop, "\n\n\n"]).choices[0]
    assert (made.message.content, made.finish_reason) == (whole[: whole.index(stop)], "stop")
    text, pieces = streamed(client, QUESTIONS[1], stop=stop)
    assert (text, pieces[-1].choices[0].finish_reason) == (whole[: whole.index(stop)], "stop")


def test_completions_go_on_with_texts_and_tokens(client: openai.OpenAI, answerer: Answerer) -> None:
    tokens = [answerer.tokenizer.bos_id, *answerer.tokenizer.encode("I cannot sleep")]
    made = [
        client.completions.create(model="toy", prompt=prompt, temperature=0, max_tokens=6).choices[0].text
        for prompt in ("I cannot sleep", tokens)
    ]
    assert made[0] == made[1] != ""
    pieces = list(client.completions.create(model="toy", prompt=tokens, temperature=0, max_tokens=6, stream=True))
    assert "".join(piece.choices[0].text for piece in pieces) == made[0]
    assert pieces[-1].choices[0].finish_reason == "length"


def test_equal_prompts_of_a_request_draw_each_their_own(client: openai.OpenAI) -> None:
    def drawn(prompts: Any, **how: Any) -> list[str]:
        how = {"temperature": 1.5, "max_tokens": 12, "seed": 5} | how
        return [choice.text for choice in client.completions.create(model="toy", prompt=prompts, **how).choices]

    together = drawn(["Sleep?"] * 3, n=2)
    assert len(set(together)) == 6
    assert together == drawn(["Sleep?"] * 3, n=2)
    assert together[:2] == drawn("Sleep?", n=2)


def test_a_completion_begins_with_the_blank_of_its_first_word_and_stops_there(client: openai.OpenAI) -> None:
    def drawn(**how: Any) -> list[Any]:
        how = {"temperature": 1.5, "max_tokens": 6, "seed": 3, "n": 16, "logprobs": 0} | how
        return list(client.completions.create(model="toy", prompt="I cannot", **how).choices)

    free, stopped = drawn(), drawn(stop=" ")
    for choice in free:
        named = choice.logprobs.tokens
        assert choice.logprobs.text_offset[0] == 0
        if not any(name.startswith("bytes:") for name in named):
            assert choice.text == "".join(named)
    begun = [place for place, choice in enumerate(free) if choice.text.startswith(" ")]
    assert len(begun) > 2
    for place in begun:
        assert (stopped[place].text, stopped[place].finish_reason) == ("", "stop")
        assert len(stopped[place].logprobs.tokens) == 1


def test_json_schemas_are_kept(client: openai.OpenAI, alone: dict[str, str]) -> None:
    pytest.importorskip("llguidance", reason="the extra `serving` is not installed")
    properties = {"label": {"enum": ["yes", "no"]}, "sure": {"type": "boolean"}}
    schema = {"type": "object", "properties": properties, "required": ["label", "sure"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    with ThreadPoolExecutor(2) as pool:
        beside = pool.submit(chat, client, QUESTIONS[2])
        made = chat(client, "Sleep?", response_format=form, max_tokens=40, n=2)
        for choice in made.choices:
            assert choice.finish_reason == "stop"
            value = json.loads(choice.message.content)
            assert value["label"] in ("yes", "no")
            assert isinstance(value["sure"], bool)
        assert beside.result().choices[0].message.content == alone[QUESTIONS[2]]
    text, _ = streamed(client, "Sleep?", response_format=form, max_tokens=40)
    assert text == made.choices[0].message.content
    begun = chat(client, "Sleep?", response_format={"type": "json_object"}).choices[0].message.content
    assert begun.startswith("{")


def test_models_and_what_is_refused(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["toy"]
    assert client.models.retrieve("toy").owned_by == "mentallama-jax"
    with pytest.raises(openai.NotFoundError, match="no such model"):
        client.chat.completions.create(model="other", messages=[{"role": "user", "content": "x"}])
    with pytest.raises(openai.BadRequestError, match="max_tokens") as refused:
        chat(client, "x", max_tokens=0)
    assert refused.value.param == "max_tokens"
    with pytest.raises(openai.BadRequestError, match="too many"):
        chat(client, "sleep " * 300)


def test_tasks_are_those_of_the_table(server: LiveServer) -> None:
    found = {task["name"]: task for task in server.http.get("/v1/tasks").json()["tasks"]}
    assert list(found) == list(TASKS)
    assert found["DR"]["labels"] == ["yes", "no"]
    assert found["DR"]["high_risk"] == list(TASKS["DR"].high_risk)
    assert found["IRF"]["aspects"] == list(TASKS["IRF"].aspects)
    assert all(task["question"] for task in found.values())


POSTS = ["I count the cracks of the ceiling.", "I want to die.", "Ünïcode 🙂"]


def analysed(
    answerer: Answerer, settings: AnalysisSettings, post: str, task: str, aspect: str | None
) -> dict[str, Any]:
    """The analysis by the two passes that it is made of, in slots that are compiled already."""
    analyser = Analyser(answerer, settings)
    (record,) = analyser.questions([post], task, aspect)
    ((scored,),) = answerer.answers([record], Settings(batch_size=1), score_labels=True)
    prompt = analyser.explanation_prompt(record, likeliest(scored)).prompt
    decoding = answerer.engine.decoding(4, places=lambda _: 192)
    decoding.submit(Request(prompt.tokens, record.id, Settings(settings.max_new_tokens), analyser.end_ids))
    (answer,) = [event.answer for events in decoding.run() for event in events if event.answer]
    text = answerer.tokenizer.decode(answer.tokens)
    return analysis_of(record, scored, text, settings, complete=answer.ended).to_json()


def test_analyses_are_those_of_python(server: LiveServer, answerer: Answerer) -> None:
    asked = [*({"post": post, "task": "dr"} for post in POSTS), {"post": "I count.", "task": "IRF"}]
    asked[-1]["aspect"] = TASKS["IRF"].aspects[0].lower()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda body: server.http.post("/v1/analyse", json=body), asked))
    assert [answer.status_code for answer in answers] == [200] * 4
    settings = AnalysisSettings(12)
    for body, answer in zip(asked, answers, strict=True):
        expected = analysed(answerer, settings, body["post"], body["task"], body.get("aspect"))
        found = answer.json()
        chances = expected.pop("probabilities")
        assert found.pop("probabilities") == pytest.approx(chances, abs=1e-5)
        assert found.pop("confidence") == pytest.approx(expected.pop("confidence"), abs=1e-5)
        assert found == expected
        assert found["notice"].startswith("For research only")
    assert "words" in answers[1].json()["risk"]["because"]
    sure = answers[0].json()["confidence"]
    for threshold in (0.0, 1.0):
        body = {"post": POSTS[0], "task": "DR", "aspect": None, "abstain_below": threshold}
        assert server.http.post("/v1/analyse", json=body).json()["abstained"] is (sure < threshold)


def test_temperatures_of_validation_posts_make_calibrated_probabilities(
    server: LiveServer, answerer: Answerer, tmp_path: Path
) -> None:
    scores = {"calibration": {"datasets": {"DR": {"temperature": {"value": 4.0}}}}}
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    limits = ServeLimits(max_new_tokens=12)
    calibrated = open_service(answerer, limits, name="toy", calibration=tmp_path / "scores.json").analyser
    found = []
    for analyser in (calibrated, server.service.analyser):
        question = analyser.question(POSTS[0], "DR", None)
        found.append(analyser.analysis(question, analyser.score(question), [], None, 0.0))
    soft, sharp = (analysis["probabilities"]["yes"] / analysis["probabilities"]["no"] for analysis in found)
    assert soft**4 == pytest.approx(sharp, rel=1e-3)
    assert [analysis["calibrated"] for analysis in found] == [True, False]
    assert found[0]["explanation_complete"] is False  # time was up


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"task": "DR"}, "post"),
        ({"post": "x"}, "task"),
        ({"post": "", "task": "DR"}, "post"),
        ({"post": "\u200b \n", "task": "DR"}, "post"),
        ({"post": f"{MARKER} " * 300, "task": "DR"}, "post"),
        ({"post": "x", "task": "DR", "aspect": "y"}, "aspect"),
        ({"post": "x", "task": "IRF"}, "aspect"),
        ({"post": "x", "task": "depression"}, "task"),
        ({"post": "x", "task": "DR", "abstain_below": 1.5}, "abstain_below"),
        ({"post": "x", "task": "DR", "temperature": 1}, "temperature"),
    ],
)
def test_analyses_that_cannot_be_made(server: LiveServer, body: dict[str, Any], param: str) -> None:
    refused = server.http.post("/v1/analyse", json=body)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == param
    assert MARKER not in refused.text


def test_nothing_that_is_typed_is_kept(
    server: LiveServer,
    client: openai.OpenAI,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Any,
    monkeypatch: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.DEBUG)
    text = f"{MARKER} cannot sleep"
    chat(client, text)
    streamed(client, text, stop=[MARKER], user=MARKER)
    server.http.post("/v1/analyse", json={"post": text, "task": "DR"})
    server.http.post("/v1/analyse", json={"post": text * 60, "task": "DR"})
    server.http.get(f"/{MARKER}?post={MARKER}", headers={"Origin": MARKER})
    server.http.get("/", headers={"Host": MARKER})

    def broken(question: Any) -> None:
        raise ValueError(f"no score for {text}")

    work = server.service.engine.work
    object.__setattr__(work, "score", broken)
    failed = server.http.post("/v1/analyse", json={"post": text, "task": "DR"})
    object.__setattr__(work, "score", server.service.analyser.score)
    assert failed.status_code == 500
    assert MARKER not in failed.text
    said = capfd.readouterr()
    assert "ValueError at test_server_api.py" in said.err
    assert MARKER not in said.out + said.err
    of_clients = ("httpx", "httpcore", "openai")
    logged = [record for record in caplog.records if not record.name.startswith(of_clients)]
    assert not any(MARKER in f"{record.getMessage()} {record.exc_text}" for record in logged)
    assert MARKER not in server.http.get("/metrics").text
    assert os.listdir(tmp_path) == []


def figures(server: LiveServer, names: Sequence[str]) -> list[float]:
    lines = dict(line.rsplit(" ", 1) for line in server.http.get("/metrics").text.splitlines() if line[0] != "#")
    return [float(lines.get(name, 0)) for name in names]


def test_figures_count_what_was_done(server: LiveServer, client: openai.OpenAI) -> None:
    names = (
        "mentallama_generated_tokens_total",
        "mentallama_prompt_tokens_total",
        "mentallama_first_token_seconds_count",
        'mentallama_first_token_seconds_bucket{le="+Inf"}',
        "mentallama_answer_tokens_per_second_count",
        'mentallama_responses_total{route="/v1/chat/completions",status="200"}',
        'mentallama_responses_total{route="/v1/chat/completions",status="400"}',
    )
    before = figures(server, names)
    made = chat(client, "Sleep?")
    with pytest.raises(openai.BadRequestError):
        chat(client, "Sleep?", n=0)
    grown = [now - then for now, then in zip(figures(server, names), before, strict=True)]
    assert grown.pop(4) in (0, 1), "an answer whose tokens all arrive at one moment has no speed"
    assert grown == [12, made.usage.prompt_tokens, 1, 1, 1, 1]
    assert figures(server, ["mentallama_rows", "mentallama_slots", "mentallama_ready"]) == [0, 4, 1]
