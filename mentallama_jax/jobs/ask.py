"""Asks a model behind an OpenAI-compatible endpoint about records: from questions to a predictions file."""

import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mentallama_jax import __version__
from mentallama_jax.baselines.endpoints.asking import AskingResult, Pace, ask_all, unasked
from mentallama_jax.baselines.endpoints.chat_messages import Disguise, as_it_is, examples_of, messages_of
from mentallama_jax.baselines.endpoints.chat_requests import ChatRequest, ChatSettings, chat_request, digest
from mentallama_jax.baselines.endpoints.endpoint import KEY_VARIABLE, Endpoint, key_for
from mentallama_jax.baselines.endpoints.kept_answers import AnswerJournal, KeptAnswer, open_journal
from mentallama_jax.baselines.endpoints.label_alternatives import label_log_probabilities
from mentallama_jax.baselines.endpoints.sending_notice import Sending
from mentallama_jax.baselines.endpoints.spending import Message, Prices, token_bound
from mentallama_jax.baselines.endpoints.token_counts import token_counter
from mentallama_jax.errors import UserError
from mentallama_jax.files import regular_file, write_json, write_jsonl
from mentallama_jax.foreign import parse_json, reading
from mentallama_jax.imhi.labels import read_label
from mentallama_jax.imhi.predictions import Prediction, answer_to
from mentallama_jax.imhi.prompting import Prompting
from mentallama_jax.imhi.records import Record

_PLAINLY = Prompting()


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """An endpoint and everything that belongs to asking it.

    Attributes:
        endpoint: where it is.
        model: as it calls it.
        key_variable: the environment variable that holds the key.
        settings: of answers.
        pace: of asking; its prices are replaced by `prices`.
        prices: None where they are not known.
        limit: dollars at most; None for no limit.
        tokenizer: a tokenizer.json that counts tokens; None for a bound by bytes.
        send_posts: whether posts may leave this machine.
    """

    endpoint: Endpoint
    model: str
    key_variable: str = KEY_VARIABLE
    settings: ChatSettings = field(default_factory=ChatSettings)
    pace: Pace = field(default_factory=Pace)
    prices: Prices | None = None
    limit: float | None = None
    tokenizer: Path | None = None
    send_posts: bool = False


@dataclass(frozen=True, slots=True)
class AskedRecords:
    """What came of asking about records.

    Attributes:
        answers: by the place of the record; None where there is none yet.
        asked: see `asking.AskingResult`.
        spent: dollars of the answers at hand.
        perhaps: dollars that attempts without an answer may cost besides.
    """

    answers: list[KeptAnswer | None]
    asked: AskingResult
    spent: float
    perhaps: float

    @property
    def missing(self) -> int:
        """Records without an answer."""
        return sum(answer is None for answer in self.answers)


def ask(
    remote: Remote,
    records: Sequence[Record],
    conversations: Sequence[Sequence[Message]],
    kept: Path,
    *,
    examples: int = 0,
    on_notice: Callable[[list[str]], None] = lambda lines: None,
    on_start: Callable[[int], None] = lambda left: None,
    on_answer: Callable[[KeptAnswer], None] = lambda answer: None,
) -> AskedRecords:
    """Ask one question a record, with answers kept in a journal; what is kept already is not asked again.

    Args:
        remote: who is asked.
        records: what it is about.
        conversations: the messages of each.
        kept: the journal.
        examples: how many records are shown before questions, for the notice.
        on_notice: is told what is sent where, before anything is.
        on_start: is told how many requests are left.
        on_answer: is told of each answer once it is on disk.

    Raises:
        UserError: no consent, no price, no key, or a journal that cannot be used.
    """
    if remote.limit is not None and not 0 <= remote.limit < float("inf"):
        raise UserError(f"--max-cost {remote.limit}: give a number of dollars from 0")
    requests = _requests(remote, records, conversations)
    with open_journal(kept, remote.limit) as journal:
        left = unasked(requests, journal)
        sending = Sending(
            endpoint=remote.endpoint,
            model=remote.model,
            records=records,
            requests=left,
            counted=remote.tokenizer is not None,
            prices=remote.prices,
            limit=remote.limit,
            spent=journal.spending.most,
            examples=examples,
        )
        on_notice(sending.lines())
        asked = AskingResult()
        if left:
            sending.require_price()
            sending.require_consent(remote.send_posts)
            on_start(len(left))
            pace = replace(remote.pace, prices=remote.prices or Prices(0.0, 0.0))
            key = key_for(remote.endpoint, remote.key_variable)
            asked = ask_all(left, remote.endpoint, key, journal, pace, on_answer)
        return _found(requests, journal, asked)


def _found(requests: Sequence[ChatRequest], journal: AnswerJournal, asked: AskingResult) -> AskedRecords:
    answers = [journal.answers.get(request.key) for request in requests]
    return AskedRecords(answers, asked, journal.spending.paid, journal.spending.perhaps)


def ask_about(
    remote: Remote,
    records: Sequence[Record],
    sources: Sequence[str],
    out: Path,
    *,
    prompting: Prompting = _PLAINLY,
    disguise: Disguise = as_it_is,
    kept: Path | None = None,
    on_notice: Callable[[list[str]], None] = lambda lines: None,
    on_start: Callable[[int], None] = lambda left: None,
    on_answer: Callable[[KeptAnswer], None] = lambda answer: None,
) -> tuple[AskedRecords, list[Prediction]]:
    """Answer the questions of records into a predictions file; it is written when no answer is missing.

    Args:
        remote: who is asked.
        records: with unique ids.
        sources: where they were read from, for the signature.
        out: ends in `.jsonl`; its signature is written beside it.
        disguise: what is sent of a record and its examples; predictions are of the records themselves.
        prompting: wording and few-shot examples; see `jobs.open_prompting`.
        kept: the journal; beside `out` by default.
        on_notice: as in `ask`.
        on_start: likewise.
        on_answer: likewise.

    Returns:
        What came of asking, and the predictions; none where an answer is missing.

    Raises:
        UserError: see `ask`.
    """
    if out.suffix != ".jsonl":
        raise UserError(f"{out}: predictions are written to a file that ends in .jsonl")
    conversations = [messages_of(record, prompting, disguise) for record in records]
    signature = _signature(remote, records, conversations, sources, prompting)
    signature |= {} if disguise is as_it_is else {"disguised": True}
    _require_own(out, signature)
    found = ask(
        remote,
        records,
        conversations,
        kept or kept_path(out),
        examples=len({each.id for record in records for each in examples_of(record, prompting)}),
        on_notice=on_notice,
        on_start=on_start,
        on_answer=on_answer,
    )
    if found.missing:
        return found, []
    rows = [
        replace(prediction(record, answer), examples=tuple(each.id for each in examples_of(record, prompting)))
        for record, answer in zip(records, found.answers, strict=True)
        if answer
    ]
    served = Counter(answer.model for answer in found.answers if answer)
    write_json(out.with_suffix(".meta.json"), signature | {"served_models": dict(sorted(served.items()))})
    write_jsonl(out, (row.to_json() for row in rows))
    return found, rows


def kept_path(out: Path) -> Path:
    """The journal beside a predictions file."""
    return out.with_suffix(".answers.jsonl")


def prediction(record: Record, answer: KeptAnswer) -> Prediction:
    """The answer of an endpoint as a prediction."""
    scores = None
    if answer.tokens:
        stated = read_label(answer.text, record.task, record.aspect)
        scores = label_log_probabilities(answer.tokens, record.task, stated)
    return replace(
        answer_to(record, answer.text.strip()),
        finish="eos" if answer.finish == "stop" else answer.finish,
        new_tokens=answer.answer_tokens,
        label_log_probabilities=scores,
    )


def _require_own(out: Path, signature: Mapping[str, Any]) -> None:
    """Refuse to replace predictions that were made otherwise.

    Raises:
        UserError: `out` holds such predictions, or has no readable signature.
    """
    if not out.exists() or not out.stat().st_size:
        return
    regular_file(out)
    beside = out.with_suffix(".meta.json")
    before = None
    with suppress(UserError, FileNotFoundError), reading(beside, "JSON"):
        before = parse_json(beside.read_bytes(), beside)
    same = ("mode", "endpoint", "model", "requests", "rows")
    if not isinstance(before, dict) or any(before.get(name) != signature[name] for name in same):
        raise UserError(f"{out}: exists and was made otherwise; name another file")


def _requests(
    remote: Remote, records: Sequence[Record], conversations: Sequence[Sequence[Message]]
) -> list[ChatRequest]:
    count = token_counter(remote.tokenizer) if remote.tokenizer else None
    return [
        chat_request(record.id, messages, remote.model, remote.endpoint, remote.settings, token_bound(messages, count))
        for record, messages in zip(records, conversations, strict=True)
    ]


def _signature(
    remote: Remote,
    records: Sequence[Record],
    conversations: Sequence[Sequence[Message]],
    sources: Sequence[str],
    prompting: Prompting,
) -> dict[str, Any]:
    """All that decides the answers, as plain JSON values; no date, so that equal answers give equal bytes."""
    requests = _requests(replace(remote, tokenizer=None), records, conversations)
    return {
        "model": remote.model,
        "mode": "endpoint",
        "endpoint": remote.endpoint.host,
        **prompting.signature,
        "requests": digest(requests),
        "settings": remote.settings.to_json(remote.endpoint),
        "sources": list(sources),
        "rows": len(records),
        "gold": "labels as released" if any(record.label for record in records) else "none",
        "versions": {"mentallama_jax": __version__, "python": platform.python_version()},
    }
