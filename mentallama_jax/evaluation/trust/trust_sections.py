"""The sections on trust that every evaluation makes: high risk, faults of outputs, calibration, grounding, care."""

from collections.abc import Mapping
from dataclasses import dataclass

from mentallama_jax.evaluation.correctness import label_rows
from mentallama_jax.evaluation.label_readers import LabelReader
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.evaluation.system_predictions import Predictions
from mentallama_jax.evaluation.trust.calibration import Calibration, calibrate
from mentallama_jax.evaluation.trust.care import Care, care
from mentallama_jax.evaluation.trust.grounding import Grounding, grounding
from mentallama_jax.evaluation.trust.high_risk import HighRisk, score_high_risk
from mentallama_jax.evaluation.trust.output_faults import OutputFaults, count_faults


@dataclass(frozen=True, slots=True)
class TrustSections:
    """Sections of `scores.json`.

    Attributes:
        high_risk: what is missed of the labels of high risk.
        output_faults: outputs that went wrong as texts.
        calibration: of label probabilities; None where no row carries them.
        grounding: what explanations take from their posts.
        care: how outputs treat the person; None where no task is in English.
    """

    high_risk: HighRisk
    output_faults: OutputFaults
    calibration: Calibration | None
    grounding: Grounding
    care: Care | None


def score_trust(
    predictions: Predictions,
    validation: Predictions | None,
    reader: str | LabelReader,
    settings: IntervalSettings,
    posts: Mapping[str, str] | None = None,
) -> TrustSections:
    """Make the sections.

    Args:
        predictions: what is scored.
        validation: of the same system on other posts, see `calibration.calibrate`.
        reader: of labels.
        settings: of the intervals, which are over posts.
        posts: row id -> the text of its post; None where posts are not given.

    Raises:
        UserError: see `calibration.calibrate`.
    """
    rows = label_rows(predictions.rows, reader)
    return TrustSections(
        high_risk=score_high_risk(rows, settings),
        output_faults=count_faults(predictions.rows, rows, settings),
        calibration=calibrate(predictions, rows, validation, settings),
        grounding=grounding(predictions.rows, posts, settings),
        care=care(predictions.rows, settings),
    )
