"""Analyses posts: a label with the probability of each, an explanation of that label, and its quotes in the post.

Two passes over a prompt. The first scores the label sentences of the task, as `generate --score-labels` does; the
likeliest is the label. The second begins the answer with that very sentence and ` Reasoning:`, and lets the model go
on greedily, so label and explanation agree. `analyse_posts` does both for a batch. Whoever schedules the engine itself
calls the parts of `Analyser` and `analysis_of`.

No post, and no part of one, stands in an error.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
from scipy.special import softmax

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.trust.grounding import quotes_of_post
from mentallama_jax.evaluation.trust.kept_temperatures import KeptTemperatures
from mentallama_jax.evaluation.trust.quotes import QuotedPost
from mentallama_jax.evaluation.trust.risk_signs import signs_of_risk
from mentallama_jax.evaluation.trust.risk_words import speaks_of_risk
from mentallama_jax.foreign import holds_half_pair
from mentallama_jax.generation.requests import Settings
from mentallama_jax.generation.stop_strings import without_end
from mentallama_jax.imhi.data_files.build import match_aspect
from mentallama_jax.imhi.labels.gold_response import REASONING
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.prompting import Asked, Prompting
from mentallama_jax.imhi.prompts import answer_opening, encode_answer, label_answers, stop_ids
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import Task, task_named
from mentallama_jax.jobs.analysis_result import Analysis, QuoteInPost
from mentallama_jax.jobs.answer import Answerer

LONGEST_POST = 100_000
"""Characters of the longest post that is tokenised at all."""


@dataclass(frozen=True, slots=True)
class AnalysisSettings:
    """How posts are analysed.

    Attributes:
        max_new_tokens: of an explanation at most.
        abstain_below: a confidence below this abstains; 0 never does.
        temperatures: of the model, see `kept_temperatures.read_temperatures`; None leaves probabilities as they are.
        words_point_to_risk: whether the words of a post point to danger; by default those of `trust.risk_words`.
        batch_size: posts at once; changes speed and memory, not answers.
    """

    max_new_tokens: int = 256
    abstain_below: float = 0.0
    temperatures: KeptTemperatures | None = None
    words_point_to_risk: Callable[[str], bool] = field(default=speaks_of_risk)
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens {self.max_new_tokens}: give a number from 1")
        if not 0 <= self.abstain_below <= 1:
            raise UserError(f"abstain_below {self.abstain_below}: give a probability from 0 to 1")


AS_USUAL = AnalysisSettings()


class Analyser:
    """Analyses posts with one model, whole batches by `analyse`, or step by step for whoever schedules the engine.

    Attributes:
        answerer: the model.
        settings: how.
    """

    def __init__(self, answerer: Answerer, settings: AnalysisSettings = AS_USUAL) -> None:
        """Take a model, see `jobs.answer.open_answerer`.

        Raises:
            UserError: temperatures of another model.
        """
        self.answerer, self.settings = answerer, settings
        self._openings: dict[Task, dict[str, list[int]]] = {}
        if settings.temperatures is not None:
            settings.temperatures.check(
                weights=answerer.weights,
                dtype=answerer.dtype,
                style=answerer.style,
                tokenizer=answerer.tokenizer.fingerprint,
            )

    def analyse(
        self,
        posts: Sequence[str],
        task: str,
        aspect: str | None = None,
        on_done: Callable[[int], None] = lambda count: None,
    ) -> list[Analysis]:
        """Analyse posts together; see `analyse_posts`."""
        answerer, settings = self.answerer, self.settings
        records = self.questions(posts, task, aspect)
        how = Settings(settings.max_new_tokens, batch_size=settings.batch_size)
        found: dict[int, Analysis] = {}
        with answerer.on_mesh():
            batches = answerer.answers(records, how, score_labels=True)
            by_id = {row.id: row for row in chain.from_iterable(batches)}
            scored = [by_id[record.id] for record in records]
            asked = [
                self.explanation_prompt(record, likeliest(row)) for record, row in zip(records, scored, strict=True)
            ]
            names = [record.id for record in records]
            for batch in answerer.engine.answers([each.prompt.tokens for each in asked], names, how, self.end_ids):
                for place, answer in batch.items():
                    text = asked[place].answer_in(answerer.tokenizer.decode(without_end(answer)).strip())
                    found[place] = analysis_of(records[place], scored[place], text, settings, complete=answer.ended)
                on_done(len(batch))
        return [found[place] for place in range(len(records))]

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The tokens that end an explanation."""
        return stop_ids(self.answerer.style, self.answerer.tokenizer)

    def questions(self, posts: Sequence[str], task: str, aspect: str | None = None) -> list[Record]:
        """The question of a task about each post.

        A post that does not fit whole is refused: an analysis of a part of it would pass for one of all.

        Raises:
            UserError: no such task or aspect, a task with aspects and none given, a post that is empty or too long.
        """
        asked = task_named(task)
        about = _aspect(asked, aspect)
        records = []
        for number, post in enumerate(posts, 1):
            what = "the post" if len(posts) == 1 else f"post {number}"
            _check_text(post, what)
            record = Record(f"post-{number}", asked.name, post, aspect=about)
            if truncated := self._asked(record).prompt.truncated:
                raise UserError(
                    f"{what} is too long by {truncated:,} tokens: {self.answerer.max_length:,} are allowed with its "
                    f"question and {self.settings.max_new_tokens} tokens of explanation; shorten it"
                )
            records.append(record)
        return records

    def explanation_prompt(self, record: Record, label: str) -> Asked:
        """The prompt that the explanation continues: the question, and the beginning of an answer with this label."""
        asked = self._asked(record)
        tokens = [*asked.prompt.tokens, *self._openings_of(record.task)[label]]
        return replace(asked, prompt=replace(asked.prompt, tokens=tokens))

    def _asked(self, record: Record) -> Asked:
        """The question, in the room that is left by the longest opening of its task and an explanation."""
        answerer, wanted = self.answerer, self.settings.max_new_tokens
        longest = max(map(len, self._openings_of(record.task).values()))
        room = answerer.max_length - longest - wanted
        if room < 1:
            raise UserError(f"max_new_tokens {wanted}: give less than {answerer.max_length - longest}")
        return Prompting().ask(record, answerer.style, answerer.tokenizer, room)

    def _openings_of(self, task: Task) -> dict[str, list[int]]:
        """Label -> the tokens with which an answer states it and goes on to its reasons."""
        if task not in self._openings:
            style, tokenizer = self.answerer.style, self.answerer.tokenizer
            texts = label_answers(task, style, answer_opening(style, tokenizer))
            self._openings[task] = {
                label: encode_answer(f"{text} {REASONING}", style, tokenizer) for label, text in texts.items()
            }
        return self._openings[task]


def analyse(
    answerer: Answerer, post: str, task: str, *, aspect: str | None = None, settings: AnalysisSettings = AS_USUAL
) -> Analysis:
    """Analyse one post; see `analyse_posts`."""
    (found,) = analyse_posts(answerer, [post], task, aspect=aspect, settings=settings)
    return found


def analyse_posts(
    answerer: Answerer,
    posts: Sequence[str],
    task: str,
    *,
    aspect: str | None = None,
    settings: AnalysisSettings = AS_USUAL,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[Analysis]:
    """Analyse posts together.

    Args:
        answerer: the model, see `jobs.answer.open_answerer`.
        posts: texts.
        task: name or alias of the data set whose question is asked.
        aspect: what is asked about, of a task with aspects.
        settings: see `AnalysisSettings`.
        on_done: is told how many posts more are finished, batch by batch.

    Returns:
        The analyses in the order of the posts.

    Raises:
        UserError: no such task or aspect, a post that is empty or too long, or temperatures of another model.
    """
    return Analyser(answerer, settings).analyse(posts, task, aspect, on_done)


def label_scores(
    answerer: Answerer,
    posts: Sequence[str],
    task: str,
    aspect: str | None = None,
    batch_size: int = 16,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[dict[str, float]]:
    """Label -> log-probability of its sentence (nats) as the answer to each post; see `analyse_posts`.

    Raises:
        UserError: as `analyse_posts`.
    """
    records = Analyser(answerer, AnalysisSettings(max_new_tokens=1)).questions(posts, task, aspect)
    found: dict[str, dict[str, float]] = {}
    with answerer.on_mesh():
        for batch in answerer.answers(records, Settings(batch_size=batch_size), score_labels=True):
            _refuse_truncated(batch)
            found |= {row.id: _sums(row) for row in batch}
            on_done(len(batch))
    return [found[record.id] for record in records]


def likeliest(scored: Prediction) -> str:
    """The label whose sentence has the largest log-probability; of equals the first."""
    sums = _sums(scored)
    return max(sums, key=lambda label: sums[label])


def analysis_of(
    record: Record, scored: Prediction, explanation: str, settings: AnalysisSettings, *, complete: bool
) -> Analysis:
    """Put an analysis together.

    Args:
        record: the question.
        scored: the prediction of it with `label_log_probabilities`.
        explanation: what the model wrote behind `Analyser.explanation_prompt`.
        settings: see `AnalysisSettings`.
        complete: whether the explanation ended by itself.

    Raises:
        UserError: the post lost its end where labels were scored.
    """
    _refuse_truncated([scored])
    task, sums = record.task, _sums(scored)
    temperature = settings.temperatures.values.get(task.name) if settings.temperatures else None
    shares = softmax(np.array(list(sums.values()), np.float64) / (temperature or 1.0)).tolist()
    probabilities = dict(zip(sums, shares, strict=True))
    label = likeliest(scored)
    explanation = explanation.strip()
    return Analysis(
        task=task.name,
        aspect=record.aspect,
        label=label,
        probabilities=probabilities,
        calibrated=temperature is not None,
        confidence=probabilities[label],
        abstained=probabilities[label] < settings.abstain_below,
        explanation=explanation,
        explanation_complete=complete,
        quotes=_quotes(explanation, record),
        risk=signs_of_risk(task, label, probabilities, by_words=settings.words_point_to_risk(record.post)),
    )


def _refuse_truncated(scored: Sequence[Prediction]) -> None:
    if any(row.prompt_truncated for row in scored):
        raise UserError("the post is too long for the label sentences of its task; shorten it")


def _aspect(task: Task, aspect: str | None) -> str:
    if aspect:
        return match_aspect(aspect, task)
    if task.aspects:
        raise UserError(f"{task.name} asks about one aspect of a post; give one of {', '.join(task.aspects)}")
    return ""


def _check_text(post: Any, what: str) -> None:
    """Refuse what is no text to analyse; `what` names it, as no part of it may stand in an error."""
    if not isinstance(post, str):
        raise UserError(f"{what}: expected a text, found {type(post).__name__}")
    if len(post) > LONGEST_POST:
        raise UserError(f"{what} has {len(post):,} characters; shorten it")
    if not any(character.isprintable() and not character.isspace() for character in post):
        raise UserError(f"{what} is empty; there is nothing to analyse")
    if holds_half_pair(post):
        raise UserError(f"{what} holds half of a surrogate pair, which is no text")


def _sums(scored: Prediction) -> dict[str, float]:
    if scored.label_log_probabilities is None:
        raise ValueError(f"{scored.id}: a prediction without label_log_probabilities")
    return {label: float(scored.label_log_probabilities[label]["sum"]) for label in scored.task.labels}


def _quotes(explanation: str, record: Record) -> tuple[QuoteInPost, ...]:
    post = QuotedPost(record.post)
    spans = {span for quote in quotes_of_post(explanation, record.task) for span in post.locate(quote.text)}
    return tuple(QuoteInPost(record.post[start:end], start, end) for start, end in sorted(spans))
