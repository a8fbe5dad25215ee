"""Floors of a table: the commonest training label, and TF-IDF with logistic regression. Both give label probabilities.

The majority is that of a data set, all its questions together, as the majority figure of `evaluate` is. TF-IDF has a
model for each question: where a task asks about several aspects, each has its own. A linear model cannot combine a word
of the question with a word of the post, so one model behind all questions would answer them nearly alike.

Shape suffixes: R rows, C labels.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.statistics.f1 import tally, weighted_f1
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.tasks import Task

LogProbabilities = NDArray[np.float64]
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
"""The values of C that validation rows choose from."""
USUAL_STRENGTH = 1.0
"""C where no validation rows choose it: the default of scikit-learn."""

_INSTALL = "pip install 'mentallama-jax[baselines]'"
_MOST_UPDATES = 5000
_RAREST = 1e-9
"""The least probability of a label; its logarithm has to be finite."""
_UNITS: Mapping[str, dict[str, Any]] = {
    "words": {"analyzer": "word", "ngram_range": (1, 2)},
    "characters": {"analyzer": "char", "ngram_range": (1, 4)},
}


class Floor(Protocol):
    """What answers the questions of one data set."""

    def log_probabilities(self, records: Sequence[Record]) -> LogProbabilities:
        """Return the log-probabilities [R, C] of the labels of the task, in its order; nats."""

    def facts(self) -> dict[str, Any]:
        """Return what was learnt, for the signature: plain JSON values."""


@dataclass(frozen=True, slots=True)
class TextSettings:
    """How TF-IDF with logistic regression is fitted.

    Attributes:
        strengths: values of C, the inverse of the strength of regularisation; validation rows choose among several.
        class_weights: `balanced` weighs each class by the inverse of its training rows.
        units: what is counted: `words` (single ones and pairs) or `characters` (one to four), for scripts that put no
            blanks between words.
        seed: of the solver.
    """

    strengths: tuple[float, ...] = (USUAL_STRENGTH,)
    class_weights: Literal["none", "balanced"] = "none"
    units: Literal["words", "characters"] = "words"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class MajorityFloor:
    """The shares of the labels among training rows, whatever the post says.

    Attributes:
        task: the data set.
        counts: training rows of each label, in the task's order.
    """

    task: Task
    counts: tuple[int, ...]

    def log_probabilities(self, records: Sequence[Record]) -> LogProbabilities:
        """Return the same log-probabilities for every record: those of the counts with one added to each."""
        counts_C = np.array(self.counts, np.float64) + 1
        return np.tile(np.log(counts_C / counts_C.sum()), (len(records), 1))

    def facts(self) -> dict[str, Any]:
        """Return the training rows of each label."""
        return {"training_rows": dict(zip(self.task.labels, self.counts, strict=True))}


@dataclass(frozen=True, slots=True)
class QuestionModel:
    """TF-IDF with logistic regression for one question of a task.

    Attributes:
        task: the data set.
        counts: training rows of each label, in the task's order.
        strength: C.
        on_validation: weighted F1 of the validation rows that chose C; None where none did.
        words: turns texts into vectors; None where the training rows have one label only.
        classifier: gives the probabilities of the labels that occur; None likewise.
    """

    task: Task
    counts: tuple[int, ...]
    strength: float
    on_validation: float | None = None
    words: Any = field(default=None, repr=False)
    classifier: Any = field(default=None, repr=False)

    def log_probabilities(self, posts: Sequence[str]) -> LogProbabilities:
        """Return the log-probabilities [R, C]; a label that no training row has gets the share of one row."""
        labels, rows = self.task.labels, sum(self.counts)
        absent = [place for place, count in enumerate(self.counts) if not count]
        found_RC = np.full((len(posts), len(labels)), 1 / (rows + len(absent)))
        rest = rows / (rows + len(absent))
        if self.classifier is None:
            found_RC[:, [place for place, count in enumerate(self.counts) if count]] = rest
        elif posts:
            columns = [labels.index(label) for label in self.classifier.classes_]
            found_RC[:, columns] = rest * self.classifier.predict_proba(self.words.transform(posts))
        found_RC = np.maximum(found_RC, _RAREST)
        return np.asarray(np.log(found_RC / found_RC.sum(axis=1, keepdims=True)))


@dataclass(frozen=True, slots=True)
class TextFloor:
    """TF-IDF with logistic regression for each question of a task.

    Attributes:
        task: the data set.
        models: aspect -> its model; the aspect is "" where the task asks one question.
    """

    task: Task
    models: Mapping[str, QuestionModel]

    def log_probabilities(self, records: Sequence[Record]) -> LogProbabilities:
        """Return the log-probabilities [R, C], each row by the model of its question.

        Raises:
            UserError: no training row asks about the aspect of a record.
        """
        found_RC = np.zeros((len(records), len(self.task.labels)))
        for aspect in dict.fromkeys(record.aspect for record in records):
            if aspect not in self.models:
                raise UserError(
                    f"{self.task.name}: no training row asks about {aspect}, so nothing can be learnt of it"
                )
            places = [place for place, record in enumerate(records) if record.aspect == aspect]
            found_RC[places] = self.models[aspect].log_probabilities([records[place].post for place in places])
        return found_RC

    def facts(self) -> dict[str, Any]:
        """Return C, the score on validation rows and the training rows of each question."""
        return {
            aspect or "question": {
                "C": model.strength,
                "validation_weighted_f1": model.on_validation,
                "training_rows": dict(zip(self.task.labels, model.counts, strict=True)),
            }
            for aspect, model in self.models.items()
        }


def learn_majority(task: Task, train: Sequence[Record]) -> MajorityFloor:
    """Count the labels of the training rows of a data set.

    Raises:
        UserError: there is no training row.
    """
    _check_rows(task, train)
    return MajorityFloor(task, _counts(task, train))


def learn_text(
    task: Task,
    train: Sequence[Record],
    validation: Sequence[Record] = (),
    settings: TextSettings | None = None,
    on_question: Callable[[str], None] = lambda line: None,
) -> TextFloor:
    """Fit TF-IDF with logistic regression for each question of a data set.

    Args:
        task: the data set.
        train: its training rows.
        validation: its validation rows, which choose C where `settings` has several: the one with the highest weighted
            F1, the smallest of equals.
        settings: how to fit.
        on_question: is told of each question once it is learnt, in a line.

    Raises:
        UserError: scikit-learn is not installed, there is no training row, no validation row of a question though there
            are several C, or the training posts hold no word that two of them share.
    """
    settings = settings or TextSettings()
    _check_rows(task, train)
    models = {}
    for aspect in task.aspects or ("",):
        rows = [record for record in train if record.aspect == aspect]
        if rows:
            chooses = [record for record in validation if record.aspect == aspect]
            models[aspect] = model = _question_model(task, rows, chooses, settings)
            score = "" if model.on_validation is None else f", weighted F1 on validation {model.on_validation:.1%}"
            named = f"{task.name} ({aspect})" if aspect else task.name
            on_question(f"{named}: {len(rows)} training rows, C {model.strength:g}{score}")
    return TextFloor(task, models)


def _question_model(
    task: Task, train: Sequence[Record], validation: Sequence[Record], settings: TextSettings
) -> QuestionModel:
    counts = _counts(task, train)
    if sum(count > 0 for count in counts) == 1:
        return QuestionModel(task, counts, settings.strengths[0])
    if len(settings.strengths) > 1 and not validation:
        raise UserError(f"{task.name}: no validation row chooses among {len(settings.strengths)} values of C; give one")
    vectorizer, regression = _scikit_learn()
    words = vectorizer(**_UNITS[settings.units], min_df=2, sublinear_tf=True)
    try:
        vectors = words.fit_transform([record.post for record in train])
    except ValueError:
        cure = "give more rows" if settings.units == "characters" else "give more rows, or --units characters"
        raise UserError(f"{task.name}: its {len(train)} training posts share no two {settings.units}; {cure}") from None
    labels = [record.label for record in train]
    found = []
    for strength in sorted(settings.strengths):
        weights = None if settings.class_weights == "none" else "balanced"
        classifier = regression(
            C=strength, class_weight=weights, max_iter=_MOST_UPDATES, random_state=settings.seed
        ).fit(vectors, labels)
        model = QuestionModel(task, counts, strength, None, words, classifier)
        found.append(replace(model, on_validation=_score(model, validation)) if validation else model)
    return max(found, key=lambda model: model.on_validation or 0.0)


def _score(model: QuestionModel, validation: Sequence[Record]) -> float:
    """The weighted F1 of validation rows."""
    labels = model.task.labels
    read_R = model.log_probabilities([record.post for record in validation]).argmax(axis=1)
    gold = [record.label for record in validation]
    posts = [record.post_id for record in validation]
    return float(weighted_f1(tally(gold, [labels[place] for place in read_R], posts, labels).total()))


def _counts(task: Task, records: Sequence[Record]) -> tuple[int, ...]:
    counted = Counter(record.label for record in records)
    return tuple(counted[label] for label in task.labels)


def _check_rows(task: Task, train: Sequence[Record]) -> None:
    if not train:
        raise UserError(f"{task.name}: no training row; name its training data with --train, or leave it out")


def _scikit_learn() -> tuple[Any, Any]:
    """The two classes of scikit-learn that are needed.

    Raises:
        UserError: it is not installed.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
    except ModuleNotFoundError:
        raise UserError(f"TF-IDF needs scikit-learn: {_INSTALL}") from None
    return TfidfVectorizer, LogisticRegression
