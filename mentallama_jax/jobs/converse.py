"""Answers conversations of any wording with a model; questions of the benchmark are answered by `jobs.answer`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import holds_half_pair
from mentallama_jax.generation.engine import Settings
from mentallama_jax.generation.stop_strings import text_before_stop
from mentallama_jax.imhi.conversations import ChatMessage, Role, encode_conversation
from mentallama_jax.imhi.prompts import stop_ids
from mentallama_jax.jobs.answer import Answerer

_ROLES: Mapping[str, Role] = {role: role for role in get_args(Role)}


def converse(
    answerer: Answerer,
    conversations: Sequence[Any],
    settings: Settings,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[str]:
    """Answer conversations together.

    Args:
        answerer: the model.
        conversations: each a text of the user, or messages with `role` and `content`.
        settings: see `generation.requests.Settings`.
        on_done: is told how many more are answered, batch by batch.

    Returns:
        The answers in the order of the conversations.

    Raises:
        UserError: no conversation, or one that leaves no room for its answer; no message quotes one.
    """
    prompts = []
    for number, conversation in enumerate(conversations, 1):
        what = "the conversation" if len(conversations) == 1 else f"conversation {number}"
        tokens = _prompt(answerer, conversation, what)
        if len(tokens) + settings.max_new_tokens > answerer.max_length:
            raise UserError(
                f"{what} has {len(tokens):,} tokens; with an answer of {settings.max_new_tokens} it is longer than "
                f"{answerer.max_length:,}: shorten it, or lower max_new_tokens"
            )
        prompts.append(tokens)
    ends = stop_ids(answerer.style, answerer.tokenizer)
    names = list(map(str, range(len(prompts))))
    decode = answerer.tokenizer.decode
    found: dict[int, str] = {}
    with answerer.on_mesh():
        for batch in answerer.engine.answers(prompts, names, settings, ends, text_of=decode):
            for place, answer in batch.items():
                found[place] = text_before_stop(decode, answer).strip()
            on_done(len(batch))
    return [found[place] for place in range(len(prompts))]


def _messages(conversation: Any, what: str) -> list[ChatMessage]:
    """The messages of a conversation; `what` names it, as nothing of it may stand in an error."""
    if isinstance(conversation, str):
        return [ChatMessage("user", conversation)]
    if not isinstance(conversation, Sequence) or not conversation:
        raise UserError(f"{what}: expected a text, or messages with role and content")
    found = []
    for each in conversation:
        content, named = (each.get("content"), each.get("role")) if isinstance(each, Mapping) else (None, None)
        role = _ROLES.get(named) if isinstance(named, str) else None
        if role is None or not isinstance(content, str):
            raise UserError(f"{what}: a message needs a role ({', '.join(_ROLES)}) and a content that is a text")
        found.append(ChatMessage(role, content))
    return found


def _prompt(answerer: Answerer, conversation: Any, what: str) -> list[int]:
    messages = _messages(conversation, what)
    if any(holds_half_pair(message.content) for message in messages):
        raise UserError(f"{what} holds half of a surrogate pair, which is no text")
    try:
        return encode_conversation(messages, answerer.style, answerer.tokenizer)
    except UserError as error:
        raise UserError(f"{what}: {error}") from None
