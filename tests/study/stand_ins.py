"""Steps without processes: models are stand-ins that answer by a rule; what scores and compares is the real thing."""

from collections.abc import Callable
from pathlib import Path

from mentallama_jax.cli.main import main
from mentallama_jax.files import write_json
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.mixture import choose_rows
from mentallama_jax.imhi.predictions import answer_to, label_answer
from mentallama_jax.imhi.records import Record
from mentallama_jax.study.study_steps import StudyStep

CONFIG = {
    "study": {"out": "study", "title": "A study of stand-ins"},
    "evaluation": {
        "data": ["sample:test"],
        "datasets": ["DR", "dreaddit"],
        "max_rows": 8,
        "metrics": ["rouge"],
        "held_out": ["dreaddit"],
    },
    "rows": {
        "tuning": {
            "kind": "train",
            "config": "toy",
            "overrides": ["training.epochs=null", "training.steps=4", "data.datasets=[DR]"],
        },
        "tuned": {"kind": "generate", "run": "tuning", "title": "Tuned"},
        "plain": {"kind": "generate", "model": "no-such-model"},
        "floor": {"kind": "baseline", "floor": "majority", "train": ["sample:train"]},
    },
}


class Killed(BaseException):
    """The death of a runner; nothing behind it is done."""


class Ended:
    """A step that has ended."""

    def __init__(self, status: int = 0) -> None:
        self.status = status

    def poll(self) -> int | None:
        return self.status

    def stop(self, *, at_once: bool = False) -> None:
        raise AssertionError("it has ended")


class StandIns:
    """Starts steps in this process.

    Attributes:
        started: names of the steps that were started, in order.
        answered: rows that models answered, over all steps.
        kill_at: the name of a step in the middle of which the runner dies, once.
        fails: names of steps that fail.
        mute: rows whose models say nothing.
    """

    def __init__(self) -> None:
        self.started: list[str] = []
        self.answered = 0
        self.kill_at = ""
        self.fails: set[str] = set()
        self.mute: set[str] = set()
        self.before: Callable[[StudyStep], None] = lambda step: None

    def __call__(self, step: StudyStep) -> Ended:
        self.started.append(step.name)
        self.before(step)
        if step.name in self.fails:
            return Ended(2)
        kill, self.kill_at = self.kill_at == step.name, "" if self.kill_at == step.name else self.kill_at
        command = step.words[0]
        if command == "train":
            self._train(step, kill)
        elif command in ("generate", "baseline"):
            self._answer(step, kill)
        else:
            assert main(list(step.words)) == 0
            if kill:
                raise Killed
        return Ended()

    def _train(self, step: StudyStep, kill: bool) -> None:
        run = step.leftovers[0]
        (run / "checkpoints").mkdir(parents=True, exist_ok=True)
        (run / "tokenizer").mkdir(exist_ok=True)
        (run / "checkpoints" / "00000002").write_text("half of the updates")
        if kill:
            raise Killed
        (run / "checkpoints" / "00000004").write_text("all updates")
        (run / "tokenizer" / "tokenizer.json").write_text("{}")
        (run / "model_config.json").write_text("{}")
        lines = [f'{{"kind": "train", "step": {number}, "real_tokens": 100}}\n' for number in range(1, 5)]
        (run / "metrics.jsonl").write_text("".join(lines))

    def _answer(self, step: StudyStep, kill: bool) -> None:
        words = list(step.words)
        out = Path(words[words.index("--out") + 1])
        records = [each for each in read_records(["sample:test"]).records if each.label]
        chosen = choose_rows(records, ["DR", "dreaddit"], 8, 0)
        write_json(out.with_suffix(".meta.json"), {"model": step.row, "mode": "generate", "rows": len(chosen)})
        lines = out.read_text("utf-8").splitlines(keepends=True) if out.exists() else []
        for number, record in enumerate(chosen):
            if number < len(lines):
                continue
            mute = step.row in self.mute
            lines.append(answer_to(record, "").to_line() if mute else answer(step.row, number, record))
            self.answered += 1
            out.write_text("".join(lines), "utf-8")
            if kill and number == len(chosen) // 2:
                raise Killed


def answer(system: str, number: int, record: Record) -> str:
    """What a stand-in says: `tuned` errs in every fifth row, `plain` is mute in every third, `floor` says one thing."""
    labels = record.task.labels
    if system == "floor":
        return label_answer(record, [0.0, -1.0]).to_line()
    if system == "plain" and number % 3 == 0:
        return answer_to(record, "I would rather not say.").to_line()
    wrong = next(label for label in labels if label != record.label)
    label = wrong if number % 5 == 0 or (system == "plain" and number % 2) else record.label
    return answer_to(record, f"{record.task.sentences[label]} Reasoning: the writer says so.").to_line()
