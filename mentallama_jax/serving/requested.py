"""What a client asks for in OpenAI's words, checked: fields that would change an answer in a way that the engine does
not know are refused, those that change nothing are ignored."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from mentallama_jax.errors import UserError
from mentallama_jax.generation.requests import Settings
from mentallama_jax.generation.sampling import Sampling
from mentallama_jax.generation.slots import ALTERNATIVES
from mentallama_jax.imhi.conversations import ChatMessage, Role
from mentallama_jax.serving.api_errors import of_user_error, refuse
from mentallama_jax.serving.body_fields import BodyFields

MOST_CHOICES = 16
MOST_MESSAGES = 256
MOST_PROMPTS = 64
_MOST_STOPS = 4
_LONGEST_STOP = 200
_LARGEST_SEED = 2**63 - 1
_NOT_KNOWN = "is not supported by this server"
_HARMLESS = (
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prediction",
    "parallel_tool_calls",
)
_ONLY: dict[str, Sequence[Any]] = {
    "frequency_penalty": (0, 0.0),
    "presence_penalty": (0, 0.0),
    "logit_bias": ({},),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
    "reasoning_effort": ("none",),
    "verbosity": (),
    "echo": (False,),
    "suffix": ("",),
    "best_of": (1,),
}
_ROLES = {"developer": "system"}


@dataclass(frozen=True, slots=True)
class AnswerSchema:
    """The JSON that an answer must be.

    Attributes:
        schema: JSON Schema.
        param: the field that it stands in.
    """

    schema: dict[str, Any]
    param: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """How the prompts of a request are to be answered.

    Attributes:
        model: the name that was asked for; None where none was.
        choices: answers to each prompt.
        sampling: how tokens are chosen.
        seed: of sampling.
        stops: stop strings.
        max_tokens: of an answer, as asked; None where it was not said.
        logprobs: how many likely alternatives of each token are given, besides the token's own log-probability; None
            for neither.
        stream: whether the answer comes in pieces.
        usage_in_stream: whether the last piece counts tokens.
        schema: what the answer must be; None where it is free.
    """

    model: str | None
    choices: int
    sampling: Sampling
    seed: int
    stops: tuple[str, ...]
    max_tokens: int | None
    logprobs: int | None
    stream: bool
    usage_in_stream: bool
    schema: AnswerSchema | None = None

    def settings(self, max_new_tokens: int) -> Settings:
        """The settings of the engine."""
        return Settings(
            max_new_tokens,
            self.sampling,
            self.seed,
            stop_strings=self.stops,
            alternatives=bool(self.logprobs),
        )


def read_chat(body: Any) -> tuple[list[ChatMessage], Wanted]:
    """The conversation of a chat completion, and how it is to be answered.

    Raises:
        ApiError: a field is missing, wrong, or not known.
    """
    fields = BodyFields(body)
    messages = _messages(fields.take("messages"))
    wanted, top = fields.flag("logprobs"), fields.integer("top_logprobs", 0, ALTERNATIVES)
    if top is not None and not wanted:
        refuse("top_logprobs goes with logprobs: true", param="top_logprobs")
    lengths = [fields.integer(name, 1, 1 << 30) for name in ("max_completion_tokens", "max_tokens")]
    longest = next((length for length in lengths if length is not None), None)
    schema = _schema(fields.take("response_format"))
    return messages, _wanted(fields, longest, (top or 0) if wanted else None, schema)


def read_completion(body: Any, vocabulary: int) -> tuple[list[str | list[int]], Wanted]:
    """The prompts of a completion, texts or token ids, and how they are to be answered.

    Args:
        body: the parsed JSON.
        vocabulary: token ids are below it.

    Raises:
        ApiError: a field is missing, wrong, or not known.
    """
    fields = BodyFields(body)
    prompts = _prompts(fields.take("prompt"), vocabulary)
    top = fields.integer("logprobs", 0, ALTERNATIVES)
    longest = fields.integer("max_tokens", 1, 1 << 30)
    schema = _schema(fields.take("response_format"))
    return prompts, _wanted(fields, 16 if longest is None else longest, top, schema)


def _wanted(fields: BodyFields, max_tokens: int | None, logprobs: int | None, schema: AnswerSchema | None) -> Wanted:
    seed = fields.integer("seed", -_LARGEST_SEED - 1, _LARGEST_SEED)
    stream = fields.flag("stream")
    in_stream = fields.take("stream_options")
    usage = False
    if in_stream is not None:
        options = BodyFields(in_stream, "stream_options")
        usage = options.flag("include_usage")
        options.ignore(["include_obfuscation"])
        options.finish()
        if not stream:
            refuse("stream_options goes with stream: true", param="stream_options")
    wanted = Wanted(
        model=fields.text("model"),
        choices=fields.integer("n", 1, MOST_CHOICES) or 1,
        sampling=_sampling(fields),
        seed=secrets.randbits(63) if seed is None else seed,
        stops=_stops(fields.take("stop")),
        max_tokens=max_tokens,
        logprobs=logprobs,
        stream=stream,
        usage_in_stream=usage,
        schema=schema,
    )
    fields.ignore(_HARMLESS)
    fields.only(_ONLY, _NOT_KNOWN)
    fields.finish()
    return wanted


def _sampling(fields: BodyFields) -> Sampling:
    temperature = fields.number("temperature", 0, 2)
    top_p = fields.number("top_p", 0, 1)
    top_k, min_p = fields.integer("top_k", -1, 1 << 30), fields.number("min_p", 0, 1)
    penalty = fields.number("repetition_penalty", 0, 100)
    penalty = 1.0 if penalty is None else penalty
    if temperature == 0 or top_p == 0 or min_p == 1:  # the likeliest token, which the filters always keep
        temperature, top_p, top_k, min_p = 0.0, None, None, None
    try:
        return Sampling(
            1.0 if temperature is None else temperature,
            top_k if top_k and top_k > 0 else None,
            1.0 if top_p is None else top_p,
            min_p or 0.0,
            penalty,
        )
    except UserError as error:
        raise of_user_error(error) from None


def _stops(value: Any) -> tuple[str, ...]:
    stops = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        refuse("stop must be a string or a list of strings", param="stop")
    if len(stops) > _MOST_STOPS or any(not 0 < len(stop) <= _LONGEST_STOP for stop in stops):
        refuse(f"stop takes up to {_MOST_STOPS} strings of 1 to {_LONGEST_STOP} characters", param="stop")
    return tuple(dict.fromkeys(stops))


def _messages(value: Any) -> list[ChatMessage]:
    if not isinstance(value, list) or not value:
        refuse("messages must be a list with at least one message", param="messages")
    if len(value) > MOST_MESSAGES:
        refuse(f"messages holds more than {MOST_MESSAGES} messages", param="messages")
    return [_message(one, f"messages.{place}") for place, one in enumerate(value)]


def _message(value: Any, where: str) -> ChatMessage:
    fields = BodyFields(value, where)
    role = fields.required_text("role")
    role = _ROLES.get(role, role)
    if role not in get_args(Role):
        refuse(f"{where}.role must be system, developer, user or assistant", param=f"{where}.role")
    content = fields.take("content")
    if isinstance(content, list):
        content = "".join(_part(part, f"{where}.content.{place}") for place, part in enumerate(content))
    if not isinstance(content, str):
        refuse(f"{where}.content must be a string or a list of text parts", param=f"{where}.content")
    fields.ignore(["name", "refusal", "annotations", "audio"])
    fields.only({"tool_calls": ([],), "function_call": ()}, _NOT_KNOWN)
    fields.finish()
    return ChatMessage(role, content)  # type: ignore[arg-type]


def _part(value: Any, where: str) -> str:
    fields = BodyFields(value, where)
    if fields.required_text("type") != "text":
        refuse(f"{where}: this server reads text only", param=f"{where}.type")
    text = fields.required_text("text")
    fields.finish()
    return text


def _prompts(value: Any, vocabulary: int) -> list[str | list[int]]:
    """One prompt or several: a text, token ids, or a list of either."""
    if isinstance(value, str) or (isinstance(value, list) and value and _is_id(value[0])):
        value = [value]
    if not isinstance(value, list) or not value:
        refuse("prompt must be a string, a list of strings, or a list of token ids", param="prompt")
    if len(value) > MOST_PROMPTS:
        refuse(f"prompt holds more than {MOST_PROMPTS} prompts", param="prompt")
    return [_prompt(one, vocabulary) for one in value]


def _prompt(value: Any, vocabulary: int) -> str | list[int]:
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value or not all(map(_is_id, value)):
        refuse("prompt must be a string, a list of strings, or a list of token ids", param="prompt")
    if not all(0 <= token < vocabulary for token in value):
        refuse(f"prompt holds a token id that is not below {vocabulary}", param="prompt")
    return value


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _schema(value: Any) -> AnswerSchema | None:
    if value is None:
        return None
    fields = BodyFields(value, "response_format")
    kind = fields.choice("type", ("text", "json_object", "json_schema"))
    if kind is None:
        refuse("response_format.type is missing", param="response_format.type")
    given = fields.take("json_schema")
    fields.finish()
    if kind != "json_schema":
        return AnswerSchema({"type": "object"}, "response_format") if kind == "json_object" else None
    inside = BodyFields(given, "response_format.json_schema")
    inside.ignore(["name", "description", "strict"])
    schema = inside.take("schema")
    inside.finish()
    if not isinstance(schema, dict):
        refuse("response_format.json_schema.schema must be an object", param="response_format.json_schema.schema")
    return AnswerSchema(schema, "response_format.json_schema.schema")
