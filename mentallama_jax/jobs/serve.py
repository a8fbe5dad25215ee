"""Serves a model over HTTP: opens it, starts the thread that computes, and runs the web server until it is stopped."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.trust.kept_temperatures import read_temperatures
from mentallama_jax.generation.batching import PROMPT_SLOTS
from mentallama_jax.generation.requests import Answer, Request, Settings
from mentallama_jax.generation.stop_strings import without_end
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.prompts import answer_blank, stop_ids
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import TASKS
from mentallama_jax.jobs.analyse import Analyser, AnalysisSettings, analysis_of, likeliest
from mentallama_jax.jobs.answer import Answerer
from mentallama_jax.serving.app import make_app
from mentallama_jax.serving.crisis_lines import CrisisLines
from mentallama_jax.serving.engine_thread import EngineThread, EngineWork
from mentallama_jax.serving.grammars import Grammars
from mentallama_jax.serving.page_routes import page_routes
from mentallama_jax.serving.service import ServedModel, ServeLimits, Service
from mentallama_jax.serving.warm_up import FEW_SLOTS, few_places, warm_up
from mentallama_jax.serving.web_server import WebServer, listening_socket
from mentallama_jax.training.run.run_directory import versions

_WORD = " a"


class ServedAnalyser:
    """The analysis of posts in the steps that a server takes; see `serving.post_analysis.PostAnalyser`."""

    def __init__(self, answerer: Answerer, settings: AnalysisSettings) -> None:
        """Take a model.

        Raises:
            UserError: temperatures of another model.
        """
        self._analyser = Analyser(answerer, settings)

    def question(self, post: str, task: str, aspect: str | None) -> Record:
        """The question about a post; a UserError says what is wrong with it."""
        (record,) = self._analyser.questions([post], task, aspect)
        return record

    def score(self, question: Record) -> Prediction:
        """The scores of the labels of a question."""
        ((scored,),) = self._analyser.answerer.answers([question], Settings(batch_size=1), score_labels=True)
        return scored

    def warm_up(self, longest: int) -> Iterator[None]:
        """Score posts of each compiled length up to `longest` tokens, by the question of the first task."""
        task, room = next(iter(TASKS.values())), self._analyser.answerer.max_length
        for length in (slots for slots in PROMPT_SLOTS if slots <= longest):
            post = _WORD * length
            while len(post) > len(_WORD):
                record = Record("warm-up", task.name, post, aspect="".join(task.aspects[:1]))
                prompt = self._analyser.explanation_prompt(record, task.labels[0]).prompt
                if len(prompt.tokens) <= min(length, room) and not prompt.truncated:
                    self.score(record)
                    yield
                    break
                post = post[: len(post) * 3 // 4]

    def explanation(self, question: Record, scores: Prediction) -> Request:
        """What asks the engine for an explanation of the likeliest label."""
        prompt = self._analyser.explanation_prompt(question, likeliest(scores)).prompt
        settings = Settings(self._analyser.settings.max_new_tokens)
        return Request(prompt.tokens, question.id, settings, self._analyser.end_ids)

    def analysis(
        self, question: Record, scores: Prediction, tokens: Sequence[int], answer: Answer | None, abstain_below: float
    ) -> dict[str, Any]:
        """The analysis as JSON; `answer` is None where time was up after `tokens`."""
        text = self._analyser.answerer.tokenizer.decode(without_end(answer) if answer else tokens).strip()
        settings = replace(self._analyser.settings, abstain_below=abstain_below)
        complete = answer is not None and answer.ended
        return analysis_of(question, scores, text, settings, complete=complete).to_json()


def open_service(
    answerer: Answerer,
    limits: ServeLimits,
    *,
    name: str = "",
    key: str = "",
    calibration: str | Path | None = None,
) -> Service:
    """A service of a model; its engine is not started yet.

    Args:
        answerer: see `jobs.answer.open_answerer`.
        limits: see `ServeLimits`; the length is the answerer's.
        name: by which clients know the model; "" for the last part of what it was opened by.
        key: that clients must send; "" for none.
        calibration: a `scores.json` with temperatures of this model.

    Raises:
        UserError: limits that leave no room, or temperatures that cannot be read or belong to another model.
    """
    limits = replace(limits, max_length=answerer.max_length)
    if limits.max_new_tokens >= limits.max_length:
        raise UserError(f"--max-new-tokens {limits.max_new_tokens}: give less than the {limits.max_length} in all")
    temperatures = None if calibration is None else read_temperatures(calibration)
    settings = AnalysisSettings(limits.max_new_tokens, temperatures=temperatures)
    ends = stop_ids(answerer.style, answerer.tokenizer)
    model = ServedModel(
        name or _usual_name(answerer),
        _fingerprint(answerer),
        int(time.time()),
        answerer.engine.config.vocab_size,
        answerer.style,
        answer_blank(answerer.style, answerer.tokenizer),
        ends,
        answerer.tokenizer,
    )
    analyser = ServedAnalyser(answerer, settings)
    engine = EngineThread(_work(answerer, limits, analyser), limits.slots, limits.queue)
    grammars = Grammars(answerer.tokenizer, model.rows, ends)
    return Service(model, limits, engine, grammars, analyser, key)


def serve(
    service: Service,
    host: str,
    port: int,
    names: Sequence[str],
    on_start: Callable[[str], None],
    on_ready: Callable[[], None],
    crisis_lines: CrisisLines | None = None,
) -> None:
    """Answer requests until the process is told to stop.

    Args:
        service: see `open_service`.
        host: address to listen at.
        port: likewise; 0 takes a free one.
        names: by which the server may be asked for, besides `localhost` and numbers.
        on_start: is told the address, once the server listens and before the model is warm.
        on_ready: is called once it is warm.
        crisis_lines: that the page shows; None takes the shipped ones, which nobody has checked.

    Raises:
        UserError: the model failed, or the place cannot be listened at.
    """
    try:
        listening = listening_socket(host, port)
    except OSError as error:
        raise UserError(f"cannot listen at {host}, port {port} ({error.strerror}); give another --port") from None
    server = WebServer(make_app(service, [*names, host], page_routes(crisis_lines)), service, on_ready)
    shown = f"[{host}]" if ":" in host else host
    service.engine.start()
    try:
        on_start(f"http://{shown}:{listening.getsockname()[1]}")
        server.run(sockets=[listening])
        if service.engine.state == "failed":
            raise UserError("the model failed; what failed stands above")
    finally:
        service.engine.stop()


def _work(answerer: Answerer, limits: ServeLimits, analyser: ServedAnalyser) -> EngineWork:
    places = few_places(limits.max_length)
    token = next(id_ for id_ in range(answerer.engine.config.vocab_size) if id_ not in answerer.tokenizer.special_ids)
    longest = min(limits.warm_up, limits.max_length - 2)
    return EngineWork(
        decoding=lambda: answerer.engine.decoding(
            limits.slots,
            fewer=FEW_SLOTS,
            text_of=answerer.tokenizer.decode,
            patience=False,
            places=places,
            learns_prompts=False,
        ),
        context=answerer.on_mesh,
        warm_up=lambda decoding: chain(warm_up(decoding, longest, token), analyser.warm_up(longest)),
        score=analyser.score,
    )


def _usual_name(answerer: Answerer) -> str:
    """The last part of a place; a hub id as it is."""
    source = answerer.opened.source
    local = Path(source).expanduser()
    return source if not local.exists() and "://" not in source else local.absolute().name


def _fingerprint(answerer: Answerer) -> str:
    """What decides answers besides the request."""
    said = (
        answerer.weights,
        answerer.tokenizer.fingerprint,
        answerer.style,
        answerer.dtype,
        sorted(versions().items()),
    )
    return f"fp_{hashlib.sha256(repr(said).encode()).hexdigest()[:12]}"
