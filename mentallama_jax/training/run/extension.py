"""Runs that are made longer than they were started: what may change, and what is said and recorded of it."""

from typing import Any

from mentallama_jax.config import TrainingSection
from mentallama_jax.errors import UserError
from mentallama_jax.storage import AnyPath

LENGTH = ("training.epochs", "training.steps")
"""The keys that say how long a run is."""
EXTENSIONS = "extensions"
"""The key of data.json under which each extension of a run is recorded."""


def extension_of(path: AnyPath, before: TrainingSection, now: TrainingSection, done: int) -> dict[str, Any] | None:
    """What an extension changes, for data.json; None where the run is as long as before.

    Args:
        path: of the run, for messages.
        before: what the run was started with.
        now: what it is to be.
        done: updates of its last checkpoint.

    Raises:
        UserError: it would be shorter, or the two lengths are in different units.
    """
    if (before.steps, before.epochs) == (now.steps, now.epochs):
        return None
    unit = "steps" if before.steps is not None else "epochs"
    was, becomes = getattr(before, unit), getattr(now, unit)
    if becomes is None:
        raise UserError(f"{path}: --extend: the run counts {unit} ({was:g}); give more of them as training.{unit}")
    if becomes < was:
        raise UserError(f"{path}: --extend: training.{unit} {becomes:g} is less than the {was:g} that the run has")
    return {
        "after_update": done,
        "unit": f"training.{unit}",
        "was": was,
        "is": becomes,
        "said": f"extended from {was:g} to {becomes:g} {unit} after update {done}: from here on the learning rate "
        f"follows the schedule of {becomes:g} {unit}, so it rises again where that of {was:g} had let it fall; "
        f"a run of {becomes:g} {unit} from the start would be another one",
    }
