"""Calibration, selective prediction and conformal sets of predictions that carry the log-probabilities of labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.correctness import LabelledRow
from mentallama_jax.evaluation.how_answered import answering
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings, few_posts
from mentallama_jax.evaluation.system_predictions import Predictions
from mentallama_jax.evaluation.trust.conformal import Conformal, conformal_sets
from mentallama_jax.evaluation.trust.label_probabilities import (
    LabelProbabilities,
    Outcomes,
    joined,
    label_probabilities,
    outcomes,
)
from mentallama_jax.evaluation.trust.reliability import MOST_BINS, ROWS_A_BIN, Reliability, reliability
from mentallama_jax.evaluation.trust.selective import Selective, selective
from mentallama_jax.evaluation.trust.temperature import Temperature, fit_temperature
from mentallama_jax.foreign import shown_cell
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.tasks import TASKS

_HOW = "make them with `mentallama generate --score-labels`"
_DEFINITIONS = {
    "probabilities": "exp of the `sum` of a label's log-probabilities, over the total of the labels of the task; rows "
    "without log-probabilities are counted and not scored",
    "ece": f"expected calibration error of the likeliest label, up to {MOST_BINS} bins of equal mass with {ROWS_A_BIN} "
    "rows or more; biased upward in small samples, by at most about `ece_if_calibrated`: the lower end of its interval "
    "is set lower by that",
    "ece_if_calibrated": "the mean ECE of these rows if each probability were true and rows were independent",
    "brier": "squared difference of probability and gold, summed over labels; 0 to 2",
    "log_loss": "-log P(gold label) in nats",
    "temperature": "divides log-probabilities; smallest log loss of the validation rows of the data set",
    "aurc": "mean over k of the error rate of the k surest rows; ties on average over their orders",
    "excess_aurc": "AURC less that of the ordering with all errors last",
    "accuracy_at_80": "accuracy of the 80 % surest rows",
    "conformal": "split conformal sets at 90 %, score -log P(label), threshold over the posts of validation rows of "
    "the data set, probabilities as given",
    "pooled": "all rows, each with the temperature of its data set",
}


@dataclass(frozen=True, slots=True)
class CalibrationScores:
    """The calibration of one data set, or of all rows.

    Attributes:
        rows: that carry log-probabilities; the figures are of these.
        posts: different posts among them.
        without_log_probabilities: rows besides these.
        differing: rows of these whose output does not state their likeliest label.
        as_given: figures of the probabilities as they are; None without rows.
        temperature: fitted on validation; None without validation rows of the data set, and for the pool.
        tempered: the same figures of the test rows, with the temperature; None without one.
        selective: of the probabilities as they are.
        conformal: of the probabilities as they are; None without validation rows, and for the pool.
        warning: what to mind of the intervals; None where there is nothing.
    """

    rows: int
    posts: int
    without_log_probabilities: int
    differing: int
    as_given: Reliability | None
    temperature: Temperature | None
    tempered: Reliability | None
    selective: Selective | None
    conformal: Conformal | None
    warning: str | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """What `scores.json` holds under `calibration`; `schema` documents each key.

    Attributes:
        datasets: data set -> its figures.
        pooled: of all rows.
        calibrated_on: where the validation rows come from; None without.
        definitions: figure -> its definition.
    """

    datasets: dict[str, CalibrationScores]
    pooled: CalibrationScores
    calibrated_on: dict[str, Any] | None
    definitions: dict[str, str]


def calibrate(
    test: Predictions, labelled: Sequence[LabelledRow], validation: Predictions | None, settings: IntervalSettings
) -> Calibration | None:
    """Measure calibration; None where no row carries log-probabilities.

    Args:
        test: the predictions that are scored.
        labelled: their rows, read.
        validation: of the same system on other posts, to fit temperature and sets on.
        settings: of the intervals, which are over posts.

    Raises:
        UserError: values that are no log-probabilities; validation rows that are of the posts of test rows, of another
            system, or without log-probabilities.
    """
    if all(row.label_log_probabilities is None for row in test.rows):
        if validation:
            raise UserError(
                f"--calibrate-on needs predictions with label_log_probabilities, and these have none; {_HOW}"
            )
        return None
    fitted_on = _by_dataset(validation.rows) if validation else {}
    if validation:
        _refuse_unfit(test, validation)
    read = {name: [each for each in labelled if each.dataset == name] for name in TASKS}
    found: dict[str, CalibrationScores] = {}
    plain: list[Outcomes] = []
    tempered: list[Outcomes] = []
    for name, rows in _by_dataset(test.rows).items():
        own = label_probabilities(name, rows)
        other = label_probabilities(name, fitted_on.get(name, []))
        temperature = fit_temperature(other, settings.confidence) if other.rows and own.rows else None
        sets = conformal_sets(other, own, settings) if other.rows and own.rows else None
        if own.rows:
            plain.append(outcomes(own))
        if temperature:
            tempered.append(outcomes(own.tempered(temperature.value)))
        found[name] = _scores(
            plain[-1] if own.rows else None,
            tempered[-1] if temperature else None,
            own.without,
            _differing(own, rows, read[name]),
            settings,
            temperature,
            sets,
        )
    everything = joined(tempered) if len(tempered) == len(plain) else None
    without, differing = (
        sum(getattr(each, what) for each in found.values()) for what in ("without_log_probabilities", "differing")
    )
    if len(found) == 1:
        (only,) = found.values()
        pooled = replace(only, temperature=None, conformal=None)
    else:
        pooled = _scores(joined(plain), everything, without, differing, settings)
    return Calibration(found, pooled, validation.provenance() if validation else None, dict(_DEFINITIONS))


def _scores(
    found: Outcomes | None,
    tempered: Outcomes | None,
    without: int,
    differing: int,
    settings: IntervalSettings,
    temperature: Temperature | None = None,
    sets: Conformal | None = None,
) -> CalibrationScores:
    posts = len(set(found.posts)) if found else 0
    return CalibrationScores(
        rows=len(found.posts) if found else 0,
        posts=posts,
        without_log_probabilities=without,
        differing=differing,
        as_given=reliability(found, settings) if found else None,
        temperature=temperature,
        tempered=reliability(tempered, settings) if tempered else None,
        selective=selective(found, settings) if found else None,
        conformal=sets,
        warning=few_posts(posts) if found else None,
    )


def _differing(own: LabelProbabilities, rows: Sequence[Prediction], read: Sequence[LabelledRow]) -> int:
    stated = [each.predicted for row, each in zip(rows, read, strict=True) if row.label_log_probabilities is not None]
    return sum(own.labels[place] != label for place, label in zip(own.likeliest_R.tolist(), stated, strict=True))


def _by_dataset(rows: Sequence[Prediction]) -> dict[str, list[Prediction]]:
    groups = {name: [row for row in rows if row.dataset == name] for name in TASKS}
    return {name: group for name, group in groups.items() if group}


def _refuse_unfit(test: Predictions, validation: Predictions) -> None:
    name = ", ".join(file["file"] for file in validation.files)
    if all(row.label_log_probabilities is None for row in validation.rows):
        raise UserError(f"{name}: --calibrate-on needs rows with label_log_probabilities; {_HOW}")
    posts = {(row.dataset, row.post_id) for row in test.rows}
    shared = [row for row in validation.rows if (row.dataset, row.post_id) in posts]
    if shared:
        what = f"{len(shared)} of its rows, such as {shown_cell(shared[0].id)}, are of posts that are scored as well"
        raise UserError(f"{name}: {what}; --calibrate-on needs predictions on other posts, such as those of validation")
    own, others = _systems(test.generation), _systems(validation.generation)
    if own and others and not others <= own:
        raise UserError(
            f"{name}: made by another system than the scored predictions, as the .meta.json files beside them say; "
            "--calibrate-on needs validation predictions of the same one"
        )


def _systems(generation: Mapping[str, Any] | None) -> set[tuple[str, ...]]:
    """What tells systems from each other in the signatures of predictions: nothing where one is not known."""
    pooled = (generation or {}).get("pooled")
    each = pooled if isinstance(pooled, list) else [generation]
    known = [one for one in each if isinstance(one, dict) and one.get("weights")]
    if len(known) < len(each):
        return set()
    named = [tuple(str(one.get(key)) for key in ("model", "weights", "style", "mode", "prompt")) for one in known]
    # The examples of other questions may be others, as none may be a question's own post.
    return {(*name, getattr(answering(one), "text", "")) for name, one in zip(named, known, strict=True)}
