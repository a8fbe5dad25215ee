"""Asks for explanations: an endpoint, or a model on this machine. Answers are kept either way, and asked for once."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mentallama_jax.baselines.endpoints.kept_answers import AnswerJournal, KeptAnswer, open_journal
from mentallama_jax.errors import UserError
from mentallama_jax.imhi.records import Record
from mentallama_jax.jobs.ask import AskedRecords, Remote, ask
from mentallama_jax.jobs.explain import Collection

if TYPE_CHECKING:
    from mentallama_jax.generation.engine import Settings
    from mentallama_jax.jobs.answer import Answerer


class ExplanationAnswers(NamedTuple):
    """Answers to the questions of a collection.

    Attributes:
        answers: text and finish of each record, as in predictions; the text is None where it could not be asked.
        said: how they were made, as plain JSON values.
    """

    answers: list[tuple[str | None, str]]
    said: dict[str, Any]


def endpoint_explanations(
    collection: Collection,
    remote: Remote,
    kept: Path,
    *,
    on_notice: Callable[[list[str]], None] = lambda lines: None,
    on_start: Callable[[int], None] = lambda left: None,
    on_answer: Callable[[KeptAnswer], None] = lambda answer: None,
) -> tuple[AskedRecords, ExplanationAnswers | None]:
    """Ask an endpoint; arguments and errors are those of `jobs.ask.ask`. No answers where one is missing."""
    questions = [[{"role": "user", "content": collection.question(record)}] for record in collection.records]
    found = ask(
        remote,
        collection.records,
        questions,
        kept,
        examples=len({each.id for record in collection.records for each in collection.shown(record)}),
        on_notice=on_notice,
        on_start=on_start,
        on_answer=on_answer,
    )
    if found.missing:
        return found, None
    said = {
        "mode": "explain",
        "model": remote.model,
        "endpoint": remote.endpoint.host,
        "served_models": sorted({answer.model for answer in found.answers if answer}),
        "settings": remote.settings.to_json(remote.endpoint),
        **_said_of(collection),
    }
    return found, ExplanationAnswers([_as_in_predictions(answer) for answer in found.answers], said)


def local_explanations(
    collection: Collection,
    answerer: "Answerer",
    settings: "Settings",
    kept: Path,
    *,
    on_start: Callable[[int], None] = lambda left: None,
    on_answer: Callable[[KeptAnswer], None] = lambda answer: None,
) -> ExplanationAnswers:
    """Ask a model on this machine, batch by batch.

    A prompt that is too long loses examples, one of each label at a time; one that is too long without any is not
    asked.

    Args:
        collection: what is asked.
        answerer: the model.
        settings: of its answers.
        kept: the journal of answers.
        on_start: is told how many are left to ask.
        on_answer: is told of each answer once it is on disk.

    Raises:
        UserError: the longest answer leaves no room for a prompt, or the journal cannot be used.
    """
    room = answerer.max_length - settings.max_new_tokens
    if room < 1 or settings.max_new_tokens < 1:
        raise UserError(
            f"--max-new-tokens {settings.max_new_tokens}: give 1 or more, and less than {answerer.max_length}"
        )
    said = {
        "mode": "explain",
        **answerer.opened.identity,
        "weights": answerer.weights,
        "tokenizer": answerer.tokenizer.fingerprint,
        "style": answerer.style,
        "dtype": answerer.dtype,
        "max_new_tokens": settings.max_new_tokens,
        "sampling": asdict(settings.sampling) | {"seed": settings.seed if settings.sampling.temperature else None},
    }
    decides = {name: said[name] for name in ("weights", "tokenizer", "style", "dtype", "max_new_tokens", "sampling")}
    prompts = [_fitted(collection, record, answerer, room) for record in collection.records]
    keys = [
        # What is sampled depends on the name of a row, too.
        _key([decides, record.id if settings.sampling.temperature else "", prompt])
        for record, prompt in zip(collection.records, prompts, strict=True)
    ]
    with open_journal(kept, None) as journal:
        left = {key: place for place, key in enumerate(keys) if prompts[place] and key not in journal.answers}
        on_start(len(left))
        if left:
            places = list(left.values())
            asked = [prompts[place] or [] for place in places]
            names = [collection.records[place].id for place in places]
            _ask_locally(answerer, settings, asked, names, list(left), journal, on_answer)
        answers = [_as_in_predictions(journal.answers.get(key)) for key in keys]
    return ExplanationAnswers(answers, said | _said_of(collection))


def _ask_locally(
    answerer: "Answerer",
    settings: "Settings",
    prompts: Sequence[Sequence[int]],
    names: Sequence[str],
    keys: Sequence[str],
    journal: AnswerJournal,
    on_answer: Callable[[KeptAnswer], None],
) -> None:
    from mentallama_jax.generation.stop_strings import without_end
    from mentallama_jax.imhi.prompts import stop_ids

    ends = stop_ids(answerer.style, answerer.tokenizer)
    with answerer.on_mesh():
        for batch in answerer.engine.answers(prompts, names, settings, ends):
            for place, answer in batch.items():
                found = KeptAnswer(
                    answerer.tokenizer.decode(without_end(answer)).strip(),
                    "stop" if answer.ended else "length",
                    answerer.opened.name,
                    len(prompts[place]),
                    len(answer.tokens),
                )
                journal.spending.reserve(0.0)
                journal.keep(journal.begin(keys[place], 0.0), 0.0, keys[place], found, 0.0)
                on_answer(found)


def _fitted(collection: Collection, record: Record, answerer: "Answerer", room: int) -> list[int] | None:
    """The tokens of a prompt with as many examples as fit; None where not even the question does."""
    from mentallama_jax.imhi.prompts import encode_question

    for count in range(collection.count, -1, -1):
        tokens = encode_question(collection.question(record, count), answerer.style, answerer.tokenizer)
        if len(tokens) <= room:
            return tokens
    return None


def _said_of(collection: Collection) -> dict[str, Any]:
    shown = sorted({example.id for group in collection.experts.values() for example in group})
    return {
        "examples_of_a_label": collection.count,
        "instruction": collection.instruction,
        "experts": hashlib.sha256("\n".join(shown).encode("utf-8", "surrogatepass")).hexdigest(),
        "rows": len(collection.records),
    }


def _as_in_predictions(answer: KeptAnswer | None) -> tuple[str | None, str]:
    if answer is None:
        return None, ""
    return answer.text, "eos" if answer.finish == "stop" else answer.finish


def _key(decides: Any) -> str:
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
