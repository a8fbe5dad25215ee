"""What a study is made of: steps, each one command, with what it reads and what it leaves behind."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class StudyStep:
    """One step.

    Attributes:
        name: ROW.WHAT, such as `tuned.train`; without a row for what concerns all systems.
        row: the row that it belongs to, or "".
        words: the command behind `mentallama`; empty where `work` does it in this process.
        after: names of the steps whose outputs it reads.
        reads: places that it reads besides: data, models, files.
        settings: what decides the result besides the words, as JSON.
        idle_words: those of the words that say nothing of the result.
        idle_options: options that, with the words behind them, say nothing of it either.
        outputs: files and folders that are its result; all must be there when it is done.
        leftovers: what is moved away before it begins anew; the outputs are in there.
        entry: the module of the package that the command begins with; it and all it imports are the step's code.
        resumable: whether the same command goes on where it was stopped.
        heavy: whether it computes with a model, so that it wants the row's devices.
        environment: variables of its process.
        launcher: words before its shell command; "" runs it here.
        tolerant: whether it is done without the results of steps that failed, see `study_graph.narrowed`.
        refused: why it is never run as the study stands; "" where it may be.
        work: does the step in this process, in place of a command.
    """

    name: str
    row: str
    words: tuple[str, ...]
    outputs: tuple[Path, ...]
    leftovers: tuple[Path, ...]
    entry: str
    after: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    idle_words: tuple[str, ...] = ()
    idle_options: tuple[str, ...] = ()
    resumable: bool = True
    heavy: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    launcher: str = ""
    tolerant: bool = False
    refused: str = ""
    work: Callable[[], None] | None = field(default=None, compare=False)

    @property
    def deciding_words(self) -> list[str]:
        """The words that say something of the result."""
        found, idle = [], False
        for word in self.words:
            idle = word in self.idle_options or (idle and not word.startswith("--"))
            if not idle and word not in self.idle_words:
                found.append(word)
        return found

    @property
    def place(self) -> tuple[Any, ...] | None:
        """The devices or the host that no other step may use at the same time; None where any will do."""
        if not self.heavy or not (self.environment or self.launcher):
            return None
        return (self.launcher, *sorted(self.environment.items()))


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """The folder of a study."""

    path: Path

    def run(self, row: str) -> Path:
        """The run directory of a row."""
        return self.path / "rows" / row / "run"

    def of_row(self, row: str, name: str) -> Path:
        """A file or folder of a row."""
        return self.path / "rows" / row / name

    def predictions(self, row: str) -> Path:
        """The answers of a system."""
        return self.path / "predictions" / f"{row}.jsonl"

    def scores(self, row: str) -> Path:
        """The folder of a system's scores."""
        return self.path / "scores" / row

    @property
    def comparison(self) -> Path:
        """The comparison of all systems by their labels."""
        return self.path / "comparison"

    @property
    def explanations(self) -> Path:
        """The comparison of those that write explanations, by metrics of them."""
        return self.path / "comparison-of-explanations"

    @property
    def people(self) -> Path:
        """What people's marks say of metrics."""
        return self.path / "people"

    def manifest(self, step: str) -> Path:
        """The manifest that says that a step is done."""
        return self.path / "steps" / f"{step}.json"

    def begun(self, step: str) -> Path:
        """What is known of a step that has begun and is not done."""
        return self.path / "steps" / f"{step}.begun.json"

    def log(self, step: str) -> Path:
        """What a step's command printed."""
        return self.path / "logs" / f"{step}.log"
