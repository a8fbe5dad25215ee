"""OpenAI's fields: those that are kept, those that are ignored, and those that are refused by name."""

from typing import Any

import pytest

from mentallama_jax.generation.sampling import Sampling
from mentallama_jax.imhi.conversations import ChatMessage
from mentallama_jax.serving.api_errors import ApiError
from mentallama_jax.serving.requested import read_chat, read_completion

ASKED = [{"role": "user", "content": "Hello"}]


def test_nothing_said_is_as_with_openai() -> None:
    messages, wanted = read_chat({"messages": ASKED})
    assert messages == [ChatMessage("user", "Hello")]
    assert (wanted.choices, wanted.sampling, wanted.stops, wanted.max_tokens) == (1, Sampling(1.0), (), None)
    assert (wanted.stream, wanted.logprobs, wanted.schema, wanted.model) == (False, None, None, None)
    assert wanted.seed != read_chat({"messages": ASKED})[1].seed
    assert read_completion({"prompt": "Hello"}, 10)[1].max_tokens == 16


def test_everything_said_is_kept() -> None:
    body = {
        "model": "m", "n": 3, "seed": -5, "temperature": 0.5, "top_p": 0.9, "top_k": 7, "min_p": 0.1,
        "repetition_penalty": 1.2, "stop": ["a", "b", "a"], "logprobs": True, "top_logprobs": 4, "max_tokens": 9,
        "max_completion_tokens": 8, "stream": True, "stream_options": {"include_usage": True},
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "integer"}}},
    }  # fmt: skip
    roles = [{"role": "developer", "content": "Be brief."}, *ASKED, {"role": "assistant", "content": "Yes?"}]
    parts = {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "n"}
    messages, wanted = read_chat({"messages": [*roles, parts]} | body)
    assert [message.role for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[-1].content == "ab"
    settings = wanted.settings(8)
    assert settings.sampling == Sampling(0.5, 7, 0.9, 0.1, 1.2)
    assert (settings.seed, settings.stop_strings, settings.alternatives) == (-5, ("a", "b"), True)
    assert (wanted.model, wanted.choices, wanted.max_tokens, wanted.logprobs) == ("m", 3, 8, 4)
    assert wanted.stream
    assert wanted.usage_in_stream
    assert wanted.schema is not None
    assert wanted.schema.schema == {"type": "integer"}


@pytest.mark.parametrize("field", ["temperature", "top_p"])
def test_zero_is_the_likeliest_token_whatever_the_filters_are(field: str) -> None:
    _, wanted = read_chat({"messages": ASKED, "temperature": 1, "top_p": 0.5, "top_k": 3} | {field: 0})
    assert wanted.sampling == Sampling()


@pytest.mark.parametrize(
    "harmless",
    [
        {"user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "parallel_tool_calls": True},
        {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "tools": [], "tool_choice": "none"},
        {"n": None, "stop": None, "tools": None, "audio": None, "response_format": {"type": "text"}},
    ],
)
def test_what_changes_nothing_is_ignored(harmless: dict[str, Any]) -> None:
    assert read_chat({"messages": ASKED, "seed": 1} | harmless)[1] == read_chat({"messages": ASKED, "seed": 1})[1]


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"presence_penalty": False}, "presence_penalty"),
        ({"logit_bias": {"5": 100}}, "logit_bias"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"audio": {}}, "audio"),
        ({"best_of": 2}, "best_of"),
        ({"temprature": 0}, "temprature"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"n": True}, "n"),
        ({"n": 1.0}, "n"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "0"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"seed": 2**63}, "seed"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": [1]}, "stop"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logprobs": 1}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 6}, "top_logprobs"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {}}, "stream_options"),
        ({"stream": True, "stream_options": {"other": 1}}, "stream_options.other"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": []}}},
            "response_format.json_schema.schema",
        ),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": ["x"]}, "messages.0"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [1]}]}, "messages.0.tool_calls"),
        ({"messages": ASKED * 257}, "messages"),
    ],
)
def test_what_would_change_an_answer_is_refused_by_its_name(changed: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as refused:
        read_chat({"messages": ASKED} | changed)
    assert (refused.value.status, refused.value.param) == (400, param)


@pytest.mark.parametrize(
    ("prompt", "read"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2, 3]], [[1], [2, 3]]), ("", [""])],
)
def test_prompts_are_texts_or_token_ids(prompt: Any, read: list[Any]) -> None:
    assert read_completion({"prompt": prompt}, 10)[0] == read


@pytest.mark.parametrize("prompt", [None, [], [[]], [1, "a"], ["a", 1], 5, [10], [-1], [True], ["a"] * 65, {"a": 1}])
def test_other_prompts_are_refused(prompt: Any) -> None:
    with pytest.raises(ApiError) as refused:
        read_completion({"prompt": prompt}, 10)
    assert refused.value.param == "prompt"
