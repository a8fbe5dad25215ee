"""The temperatures that a `scores.json` keeps, for the label probabilities of the model that they were fitted on."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.trust.temperature import HIGHEST, LOWEST
from mentallama_jax.files import regular_file
from mentallama_jax.foreign import parse_json, reading, shown
from mentallama_jax.storage import AnyPath, as_path

_HOW = "write one with `mentallama evaluate PREDICTIONS --calibrate-on VALIDATION`"


@dataclass(frozen=True, slots=True)
class KeptTemperatures:
    """Temperatures by data set, and what they were fitted on.

    Attributes:
        place: the file, for messages.
        values: data set -> temperature. Where none was found that means anything, there is none.
        made_by: the signatures of the predictions that they were fitted on, as far as they are known.
    """

    place: str
    values: Mapping[str, float]
    made_by: tuple[Mapping[str, Any], ...] = ()

    def check(self, *, weights: str, dtype: str, style: str, tokenizer: str) -> None:
        """Refuse the temperatures of another model, or of other prompts.

        The fingerprint of weights depends on their dtype, so weights are compared where the dtype is the same.

        Raises:
            UserError: names what differs.
        """
        for said in self.made_by:
            differing = [
                *(["tokenizer"] if said.get("tokenizer", tokenizer) != tokenizer else []),
                *(["weights"] if said.get("dtype") == dtype and said.get("weights", weights) != weights else []),
                *(["prompt style"] if said.get("style", style) != style else []),
                *(["few-shot examples or wording"] if said.get("shots") or said.get("prompt") else []),
                *(["way to score labels"] if said.get("mode", "score-labels") != "score-labels" else []),
            ]
            if differing:
                raise UserError(
                    f"{self.place}: its temperatures belong to another model or other prompts ({differing[0]} "
                    "differs); calibrate this one"
                )


def read_temperatures(path: str | AnyPath) -> KeptTemperatures:
    """Read the temperatures of a `scores.json`.

    One that stands at an end of its range was not found, and is left out.

    Raises:
        UserError: no such file, no scores, or scores without a temperature.
    """
    place = as_path(path)
    if not place.is_file():
        raise UserError(f"{place}: no such file; {_HOW}")
    with reading(place, "file"):
        content = regular_file(place).read_bytes()
    return temperatures_in(parse_json(content, place), str(place))


def temperatures_in(scores: Any, place: str) -> KeptTemperatures:
    """The temperatures of scores as `scores.json` holds them; `place` names them in errors.

    Raises:
        UserError: no scores, or scores without a temperature.
    """
    calibration = scores.get("calibration") if isinstance(scores, dict) else None
    datasets = calibration.get("datasets") if isinstance(calibration, dict) else None
    if not isinstance(calibration, dict) or not isinstance(datasets, dict):
        raise UserError(f"{place}: no calibration in it; {_HOW}")
    values = {}
    for name, figures in datasets.items():
        fitted = figures.get("temperature") if isinstance(figures, dict) else None
        if isinstance(fitted, dict) and not fitted.get("remark"):
            values[name] = _temperature(fitted.get("value"), name, place)
    if not values:
        raise UserError(f"{place}: no temperature in it; {_HOW}")
    return KeptTemperatures(place, values, tuple(_signatures(calibration.get("calibrated_on"))))


def _temperature(value: Any, name: str, place: object) -> float:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    if not known or not math.isfinite(value) or not LOWEST <= value <= HIGHEST:
        raise UserError(f"{place}: the temperature of {shown(name)} is no number from {LOWEST} to {HIGHEST:g}; {_HOW}")
    return float(value)


def _signatures(calibrated_on: Any) -> Iterator[Mapping[str, Any]]:
    generation = calibrated_on.get("generation") if isinstance(calibrated_on, dict) else None
    pooled = generation.get("pooled") if isinstance(generation, dict) else None
    for each in pooled if isinstance(pooled, list) else [generation]:
        if isinstance(each, dict):
            yield each
