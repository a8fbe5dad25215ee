"""Addresses, keys, prices, the journal of kept answers, and label probabilities of alternatives."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from asked_rows import remote, rows
from misbehaving_server import server

from mentallama_jax.baselines.endpoints.chat_requests import chat_request
from mentallama_jax.baselines.endpoints.endpoint import ApiKey, Endpoint, key_for, parse_endpoint
from mentallama_jax.baselines.endpoints.endpoint_client import read_answer
from mentallama_jax.baselines.endpoints.kept_answers import KeptAnswer, open_journal
from mentallama_jax.baselines.endpoints.label_alternatives import label_log_probabilities
from mentallama_jax.baselines.endpoints.rate_limits import RateLimits
from mentallama_jax.baselines.endpoints.spending import Prices, Spending, find_prices, token_bound
from mentallama_jax.baselines.endpoints.token_counts import token_counter
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.trust.label_probabilities import label_probabilities
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.jobs.ask import ask_about

ANSWER = KeptAnswer("Yes.", "stop", "toy", 5, 2, (("Yes", -0.1, {"Yes": -0.1, "No": -2.4}),))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://api.openai.com/v1/", Endpoint("https://api.openai.com/v1", "api.openai.com", False, True)),
        ("http://localhost:8000/v1", Endpoint("http://localhost:8000/v1", "localhost:8000", True, False)),
        ("http://127.9.0.1/v1/chat/completions", Endpoint("http://127.9.0.1/v1", "127.9.0.1", True, False)),
        ("http://[::1]:80/v1", Endpoint("http://[::1]:80/v1", "[::1]:80", True, False)),
        ("http://127.0.0.1.me.com", Endpoint("http://127.0.0.1.me.com", "127.0.0.1.me.com", False, False)),
        ("http://localhost.me.com", Endpoint("http://localhost.me.com", "localhost.me.com", False, False)),
        ("http://10.0.0.1:9", Endpoint("http://10.0.0.1:9", "10.0.0.1:9", False, False)),
    ],
)  # fmt: skip
def test_an_address_says_whether_posts_leave_the_machine(text: str, expected: Endpoint) -> None:
    assert parse_endpoint(text) == expected


@pytest.mark.parametrize(
    "text", ["", "api.openai.com", "ftp://x/v1", "https://", "http://x:99999", "http://x:y", "https://me:sk-abc@x/v1",
             "https://sk-abc@x", "https://x/v1?key=sk-abc", "https://x/v1#sk-abc", "http://[::1"]
)  # fmt: skip
def test_what_is_no_address_or_holds_a_secret_is_refused_without_the_secret(text: str) -> None:
    with pytest.raises(UserError) as error:
        parse_endpoint(text)
    assert "sk-abc" not in str(error.value)


def test_keys_come_from_the_environment_and_show_themselves_never(monkeypatch: pytest.MonkeyPatch) -> None:
    away, here = parse_endpoint("https://api.example.com/v1"), parse_endpoint("http://localhost/v1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert key_for(here).reveal() == "none"
    with pytest.raises(UserError, match="environment variable OPENAI_API_KEY is not set"):
        key_for(away)
    monkeypatch.setenv("MY_KEY", " sk-abc\n")
    key = key_for(away, "MY_KEY")
    assert key.reveal() == "sk-abc"
    assert f"{key} {key!r} {[key]} {vars(type(key)).get('__dict__')}" == "*** *** [***] None"
    with pytest.raises(TypeError):
        json.dumps(key)
    with pytest.raises(UserError, match="not the key itself") as error:
        key_for(away, "sk-abc")
    assert "sk-abc" not in str(error.value)
    monkeypatch.setenv("MY_KEY", "sk-äbc two")
    with pytest.raises(UserError, match="does not hold a key") as error:
        key_for(away, "MY_KEY")
    assert "bc two" not in str(error.value)
    assert isinstance(key, ApiKey)


def test_prices_are_given_or_looked_up_and_never_guessed(tmp_path: Path) -> None:
    table = tmp_path / "prices.yaml"
    table.write_text("gpt-4o-mini: {in: 0.15, out: 0.6}\nbad: {in: 1}\nworse: {in: -1, out: 2}\n")
    assert find_prices("gpt-4o-mini", None, None, table) == Prices(0.15, 0.6)
    assert find_prices("gpt-4o-mini", 1.0, 2.0, table) == Prices(1.0, 2.0)
    assert find_prices("gpt-4o", None, None, table) is None
    for model, prompt, answer, match in (
        ("x", 1.0, None, "go together"),
        ("bad", None, None, "needs `in` and `out`"),
        ("worse", None, None, "a price is a number"),
        ("x", -1.0, 1.0, "a price is a number"),
        ("x", float("nan"), 1.0, "a price is a number"),
    ):
        with pytest.raises(UserError, match=match):
            find_prices(model, prompt, answer, table)


def test_the_bound_of_tokens_is_by_bytes_or_by_a_tokenizer() -> None:
    messages = [{"role": "user", "content": "grün"}, {"role": "assistant", "content": "ab"}]
    assert token_bound(messages) == 5 + 2 + 3 * 8
    assert token_bound(messages, lambda text: 1) == 2 + 3 * 8


def test_a_tokenizer_of_the_user_counts(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert token_counter(tmp_path)("a b a") == token_counter(tmp_path / "tokenizer.json")("a b a") == 3
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.json: not valid tokenizer\.json"):
        token_counter(tmp_path)


def test_spending_reserves_settles_and_stops() -> None:
    spending = Spending(1.0)
    assert spending.reserve(0.6)
    assert not spending.reserve(0.6)
    spending.settle(0.6, paid=0.1)
    assert spending.reserve(0.6)
    spending.settle(0.6, perhaps=0.6)
    assert (spending.paid, spending.perhaps, spending.reserved, spending.under_way) == (0.1, 0.6, 0.0, 0)
    assert not spending.reserve(0.4)


def test_a_limit_that_one_request_passes_is_refused() -> None:
    with pytest.raises(UserError, match="one request has up to 100 tokens"):
        RateLimits(None, 100, 100)
    with pytest.raises(UserError, match="give a number from 1"):
        RateLimits(0, None, 1)
    RateLimits(1, None, 1)


def test_kept_answers_survive_a_cut_at_any_byte(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    with open_journal(whole, None) as journal:
        for key in ("a", "b"):
            assert journal.spending.reserve(1.0)
            journal.keep(journal.begin(key, 1.0), 1.0, key, ANSWER, 0.25)
        assert journal.spending.reserve(1.0)
        journal.fail(journal.begin("c", 1.0), 1.0, perhaps=1.0)
    assert whole.stat().st_mode & 0o077 == 0
    content = whole.read_bytes()
    ends = [place for place, byte in enumerate(content) if byte == 10]
    for cut in sorted({*range(0, len(content), 7), *ends, *(end + 1 for end in ends)}):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(content[:cut])
        with open_journal(path, 5.0) as journal:
            lines = sum(end < cut for end in ends)
            assert list(journal.answers) == ["a", "b"][: max(0, (lines - 1) // 2)]
            assert all(answer == ANSWER for answer in journal.answers.values())
            spending = journal.spending
            assert spending.paid == 0.25 * len(journal.answers)
            # An attempt without an end was under way when the program was killed.
            assert spending.perhaps == (1.0 if lines in (2, 4, 6, 7) else 0.0)
            assert spending.reserve(1.0)
            assert journal.begin("d", 1.0) >= len(journal.answers)
        with open_journal(path, None) as journal:
            assert len(journal.answers) == min(2, max(0, (lines - 1) // 2))


def test_damaged_and_foreign_journals_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    form = b'{"form": "mentallama answers 1"}\n'
    over = b'{"over": 0, "key": "a", "cost": 1, "text": "t", "finish": "stop", "model": "m", "prompt_tokens": 1, '
    for content, match in (
        (b'{"id": "x"}\n', "no file of kept answers"),
        (b'{"id": "x"}\n{"id": "y"}', "no file of kept answers"),
        (b"notes of mine, one line and no line feed", "no file of kept answers"),
        (form + b"a post\n", "line 2"),
        (form + b"[]\n", "line 2: is damaged"),
        (form + b'{"over": {}}\n', "line 2: is damaged"),
        (form + b'{"attempt": 1, "most": null}\n', "line 2: is damaged"),
        (form + over + b'"answer_tokens": "x", "tokens": null}\n', "line 2: is damaged"),
        (form + over + b'"answer_tokens": 1, "tokens": [["a"]]}\n', "line 2: is damaged"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=match), open_journal(path, None):
            pass
        assert path.read_bytes() == content


def test_two_processes_do_not_write_one_journal(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    with open_journal(path, None), pytest.raises(UserError, match="another process"), open_journal(path, None):
        pass


@pytest.mark.parametrize(
    "content",
    [None, [], {}, {"choices": []}, {"choices": None}, {"choices": [None]}, {"choices": [{"message": {}}]},
     {"choices": [{"message": {"content": "x"}}]}, {"choices": [{"message": {"content": 1}, "finish_reason": "stop"}]},
     {"choices": [{"message": {"content": None}, "finish_reason": "stop"}]}]
)  # fmt: skip
def test_what_is_no_answer_is_seen(content: Any) -> None:
    assert read_answer(content) is None


@pytest.mark.parametrize(
    ("message", "finish", "text"),
    [
        ({"content": None}, "length", ""),
        ({}, "length", ""),
        ({"content": "", "reasoning_content": "thought"}, "length", ""),
        ({"content": None}, "content_filter", ""),
        ({"content": None, "refusal": "I cannot."}, "stop", "I cannot."),
        ({"content": None, "refusal": ""}, "stop", ""),
        ({"content": "", "refusal": "I cannot."}, "content_filter", "I cannot."),
        ({"content": "Yes.", "refusal": None}, "stop", "Yes."),
        ({"content": "Yes.", "refusal": "I cannot."}, "stop", "Yes."),
        ({"content": None, "refusal": None}, "stop", None),
        ({"content": [{"type": "text", "text": "Yes."}]}, "length", None),
        ({"content": [], "refusal": 1}, "content_filter", None),
    ],
)
def test_refusals_and_answers_without_text_are_answers(message: Any, finish: str, text: str | None) -> None:
    found = read_answer({"choices": [{"message": message, "finish_reason": finish}]})
    assert found == (None if text is None else KeptAnswer(text, finish, ""))


def test_odd_parts_of_an_answer_are_left_out() -> None:
    choice = {"message": {"content": "a\ud800b"}, "finish_reason": "A VERY ODD REASON", "logprobs": {"content": [{}]}}
    found = read_answer({"choices": [choice], "usage": {"prompt_tokens": -1, "completion_tokens": True}, "model": 7})
    assert found == KeptAnswer("a\ufffdb", "unknown", "", 0, 0, None)


def test_a_key_names_address_model_messages_and_settings() -> None:
    from mentallama_jax.baselines.endpoints.chat_requests import ChatSettings

    here, there = parse_endpoint("http://localhost:1/v1"), parse_endpoint("https://api.openai.com/v1")
    message = [{"role": "user", "content": "grey"}]
    base = ("m", here, ChatSettings())
    keys = {
        chat_request("row", messages, model, endpoint, settings, 9).key
        for messages, model, endpoint, settings in (
            (message, *base),
            ([*message, *message], *base),
            (message, "n", here, ChatSettings()),
            (message, "m", there, ChatSettings()),
            (message, "m", here, ChatSettings(max_new_tokens=1)),
            (message, "m", here, ChatSettings(left_out=("seed",))),
        )
    }
    assert len(keys) == 6
    assert chat_request("other row", message, *base, 1).key in keys
    request = chat_request("row", message, "m", there, ChatSettings(left_out=("temperature", "logprobs")), 9)
    assert request.body.keys() == {"model", "messages", "max_completion_tokens", "seed"}
    assert "grey" not in repr(request)


def log(share: float) -> float:
    return math.log(share)


def test_label_probabilities_come_from_the_token_that_decides() -> None:
    tokens = [("Yes", log(0.7), {"Yes": log(0.7), "No": log(0.2), "no": log(0.05), "The": log(0.04), "x": log(1e-6)})]
    found = label_log_probabilities(tokens, TASKS["DR"], "yes")
    assert found is not None
    assert found["yes"]["sum"] == pytest.approx(log(0.7))
    assert found["no"]["sum"] == pytest.approx(log(0.25))


def test_label_probabilities_go_along_what_labels_have_in_common() -> None:
    common = [(word, log(0.5), {word: log(0.5), "?": log(1e-9)}) for word in ("This", " post", " shows")]
    tail = {" depression": log(0.6), " PTSD": log(0.3), " suicide": log(0.09), " no": log(0.01), " x": log(1e-9)}
    found = label_log_probabilities([*common, (" depression", log(0.6), tail)], TASKS["T-SID"], "depression")
    assert found is not None
    assert {label: round(math.exp(each["sum"]) / 0.125, 4) for label, each in found.items()} == {
        "depression": 0.6,
        "ptsd": 0.3,
        "suicide or self-harm tendency": 0.09,
        "no mental disorders": 0.01,
    }


@pytest.mark.parametrize(
    ("tokens", "stated"),
    [
        ([("Yes", log(0.7), {"Yes": log(0.7), "The": log(0.2)})], "yes"),  # where is No?
        ([("The", log(0.7), {"The": log(0.7), "No": log(0.2)})], "yes"),  # it begins with no label
        ([("No", log(0.7), {"Yes": log(0.3), "x": log(1e-9)}), ("t", 0.0, {})], "yes"),  # the reader disagrees
        ([("Yes", log(0.7), {"Yes": log(0.7), "No": log(0.2), "x": log(1e-9)})], None),
        ([("", 0.0, {"": 0.0})], "yes"),
        ([], "yes"),
    ],
)
def test_label_probabilities_that_are_not_known_are_absent(tokens: Any, stated: str | None) -> None:
    assert label_log_probabilities(tokens, TASKS["DR"], stated) is None


def test_alternatives_that_leave_two_labels_possible_are_not_shared_out() -> None:
    words = [("This post shows the stress cause related to", log(1.0), {"x": log(1e-9)})]
    tail = {" work": log(0.6), " s": log(0.3), " x": log(1e-9)}  # school or social relationships?
    assert label_log_probabilities([*words, (" work", log(0.6), tail)], TASKS["SAD"], "work") is None


def test_log_probabilities_of_an_endpoint_are_read_by_calibration(tmp_path: Path) -> None:
    first = {
        "token": "Yes",
        "logprob": log(0.8),
        "top_logprobs": [
            {"token": token, "logprob": log(share)} for token, share in (("Yes", 0.8), ("No", 0.2), ("x", 1e-8))
        ],
    }
    with server(share=0.0, logprobs={"content": [first]}) as (url, _):
        _, predictions = ask_about(remote(url), rows(4), ["test"], tmp_path / "out.jsonl")
    found = label_probabilities("DR", predictions)
    assert found.without == 0
    assert math.exp(found.log_RC[0][0]) == pytest.approx(0.8)


def test_the_journal_is_no_place_for_keys_and_posts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-7")
    with server(seed=6) as (url, books):
        ask_about(remote(url), rows(10), ["test"], tmp_path / "out.jsonl")
    assert all(sent["authorization"] == "Bearer sk-planted-7" for sent in books.headers)
    assert "openai-organization" not in books.headers[0]
    for file in tmp_path.iterdir():
        assert "sk-planted" not in file.read_text()
        assert "was grey" not in file.read_text()
    assert os.environ["OPENAI_API_KEY"] == "sk-planted-7"
