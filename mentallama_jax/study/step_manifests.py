"""Which steps are done: each has a manifest, written after it, with the hashes of what it read and left behind."""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mentallama_jax import __version__
from mentallama_jax.errors import UserError
from mentallama_jax.files import write_json
from mentallama_jax.foreign import parse_json, reading
from mentallama_jax.study.fingerprints import FileHashes, code_of, digest_of
from mentallama_jax.study.study_steps import StudyFolder, StudyStep

_VERSION = 1
_OUT = "{study}"
"""Stands for the folder of the study, which may be moved."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What decides the result of a step: name -> hash or text, in groups."""

    values: Mapping[str, Any]

    def changes(self, before: Any) -> list[str]:
        """What is different from the inputs of a manifest, in words."""
        if not isinstance(before, dict):
            return ["its manifest cannot be read"]
        found = []
        for name, said in _GROUPS.items():
            ours, theirs = self.values[name], before.get(name)
            if isinstance(ours, dict) and isinstance(theirs, dict):
                keys = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
                found += [f"{said} {', '.join(keys[:3])}"] if keys else []
            elif ours != theirs:
                found.append(said)
        return found


_GROUPS = {
    "words": "its options",
    "settings": "its settings:",
    "read": "its data:",
    "steps": "what it follows:",
    "code": "the code",
}


class StepManifests:
    """The manifests of a study."""

    def __init__(self, folder: StudyFolder, *, any_code: bool = False) -> None:
        """Keep hashes in the folder; `any_code` takes results that other code made for done."""
        self._folder, self._any_code = folder, any_code
        self._own_place = re.compile(rf"(?<![^=\[]){re.escape(str(folder.path))}(?=/)")
        self._hashes = FileHashes(folder.path / "steps" / "file-hashes.json")
        self._sources: dict[str, str] = {}

    def inputs(self, step: StudyStep) -> Inputs:
        """The inputs of a step; all that it follows must be done."""
        settings = {key: self._portable(value) for key, value in step.settings.items()}
        return Inputs(
            {
                "words": self._portable(step.deciding_words),
                "settings": settings,
                "read": {place: self._source(place) for place in step.reads},
                "steps": {name: digest_of(self.manifest(name)["outputs"]) for name in step.after},
                "code": code_of(step.entry),
            }
        )

    def _source(self, place: str) -> str:
        if place not in self._sources:  # once a run: data do not change under a study's feet
            self._sources[place] = self._hashes.of_source(place)
        return self._sources[place]

    def _portable(self, value: Any) -> Any:
        """A JSON value with a sign in place of the study's folder, in places below it."""
        if isinstance(value, str):
            return self._own_place.sub(_OUT, value)
        if isinstance(value, list | tuple):
            return [self._portable(each) for each in value]
        return {key: self._portable(each) for key, each in value.items()} if isinstance(value, dict) else value

    def manifest(self, name: str) -> dict[str, Any]:
        """The manifest of a step that is done.

        Raises:
            UserError: there is none that can be read.
        """
        return _read(self._folder.manifest(name))

    def why_not_done(self, step: StudyStep, inputs: Inputs) -> str:
        """Why a step must be done, in words; "" where its result stands and its inputs are unchanged."""
        path = self._folder.manifest(step.name)
        if not path.is_file():
            return "was stopped" if self._folder.begun(step.name).is_file() else "not done yet"
        try:
            found = _read(path)
        except UserError:
            return "its manifest cannot be read"
        if changes := self._changes(inputs, found["inputs"]):
            return f"changed: {'; '.join(changes)}"
        if self.outputs(step) != found["outputs"]:
            return "its result was changed or is gone"
        return ""

    def _changes(self, inputs: Inputs, before: Any) -> list[str]:
        """What is different from earlier inputs and matters, in words."""
        return [each for each in inputs.changes(before) if not (self._any_code and each == _GROUPS["code"])]

    def outputs(self, step: StudyStep) -> dict[str, str | None]:
        """The hashes of what a step leaves behind; None where something is missing."""
        places = {self._portable(str(path)): path for path in step.outputs}
        return {name: self._hashes.of_place(path) for name, path in places.items()}

    def begin(self, step: StudyStep, inputs: Inputs) -> float:
        """Note that a step begins; return the seconds that earlier tries of the same step took.

        What was left by a step of other inputs, or by one that cannot go on, is moved into the folder `old`.
        """
        begun, done = self._folder.begun(step.name), self._folder.manifest(step.name)
        before: dict[str, Any] = {}
        if begun.is_file():
            try:
                before = _read(begun)
            except UserError:
                before = {}
        goes_on = step.resumable and not self._changes(inputs, before.get("begun_with"))
        if not goes_on:
            self._put_aside(step)
        spent = float(before.get("seconds", 0.0)) if goes_on else 0.0
        tries = int(before.get("tries", 0)) + 1 if goes_on else 1
        write_json(begun, {"begun_with": dict(inputs.values), "seconds": spent, "tries": tries})
        done.unlink(missing_ok=True)
        return spent

    def note(self, step: StudyStep, seconds: float) -> None:
        """Note how long a step that is under way has taken, for the case that it is killed."""
        begun = self._folder.begun(step.name)
        write_json(begun, _read(begun) | {"seconds": seconds})

    def _put_aside(self, step: StudyStep) -> None:
        there = [path for path in step.leftovers if path.exists()]
        if not there:
            return
        stamp = time.strftime("%Y%m%d-%H%M%S")
        for number in range(1, 1000):
            aside = self._folder.path / "old" / f"{step.name}-{stamp}-{number}"
            if not aside.exists():
                break
        aside.mkdir(parents=True)
        for path in there:
            os.replace(path, aside / path.name)

    def finish(self, step: StudyStep, inputs: Inputs, seconds: float) -> None:
        """Write the manifest of a step that is done.

        Raises:
            UserError: something that it should have left behind is missing.
        """
        outputs = self.outputs(step)
        if missing := [name for name, found in outputs.items() if found is None]:
            raise UserError(f"{step.name}: ended well but left no {missing[0].replace(_OUT, str(self._folder.path))}")
        begun = self._folder.begun(step.name)
        tries = _read(begun).get("tries", 1) if begun.is_file() else 1
        manifest = {
            "version": _VERSION,
            "step": step.name,
            "command": ["mentallama", *self._portable(list(step.words))] if step.words else None,
            "inputs": dict(inputs.values),
            "outputs": outputs,
            "seconds": round(seconds, 1),
            "tries": tries,
            "package": __version__,
        }
        write_json(self._folder.manifest(step.name), manifest)
        begun.unlink(missing_ok=True)
        self.keep_hashes()

    def keep_hashes(self) -> None:
        """Write down the hashes of files, so that the next run need not read them again."""
        self._hashes.keep()

    def earlier_seconds(self, step: StudyStep) -> float | None:
        """How long the step took when it was last done, whatever its inputs were."""
        try:
            return float(_read(self._folder.manifest(step.name))["seconds"])
        except (UserError, KeyError, TypeError, ValueError):
            return None


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with reading(path, "JSON"):
        value = parse_json(path.read_bytes(), path)
    if not isinstance(value, dict) or ("inputs" in value and not isinstance(value.get("outputs"), dict)):
        raise UserError(f"{path}: is no record of a step")
    return value
