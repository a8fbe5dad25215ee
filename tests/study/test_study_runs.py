"""A study is run, broken, resumed and changed."""

import copy
import json
import os
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stand_ins import CONFIG, Killed, StandIns

from mentallama_jax.config.study_config import parse_study
from mentallama_jax.errors import UserError
from mentallama_jax.files import lock_file
from mentallama_jax.jobs.run_study import StudyOutcome, run_study

STEPS = [
    "tuning.train", "tuned.answer", "tuned.evaluate", "plain.answer", "plain.evaluate", "floor.answer",
    "floor.evaluate", "all.compare", "all.compare-explanations",
]  # fmt: skip
PAGES = ("report.html", "report.md", "tables.tex")


def study(out: Path, change: Callable[[dict[str, Any]], None] = lambda values: None, **options: Any) -> StudyOutcome:
    values = copy.deepcopy(CONFIG)
    values["study"]["out"] = str(out)
    change(values)
    return run_study(parse_study(values, "test"), **options)


def tables(out: Path) -> list[dict[str, Any]]:
    """The figures of the pages, without those of time."""
    figures = json.loads((out / "figures.json").read_text("utf-8"))["figures"]
    return [figure for figure in figures if figure["file"] != "costs.json"]


def test_every_step_is_started_once_in_order(unbroken: tuple[Path, StandIns]) -> None:
    out, start = unbroken
    assert start.started == STEPS
    assert all((out / name).is_file() for name in (*PAGES, "figures.json"))


def test_nothing_is_done_twice(unbroken: tuple[Path, StandIns]) -> None:
    out, _ = unbroken
    pages = {name: (out / name).read_bytes() for name in PAGES}
    again = StandIns()
    outcome = study(out, start=again)
    assert again.started == []
    assert {each.state for each in outcome.states.values()} == {"reused"}
    assert {name: (out / name).read_bytes() for name in PAGES} == pages


def test_a_run_without_steps_keeps_the_hashes_of_results(unbroken: tuple[Path, StandIns], tmp_path: Path) -> None:
    out = tmp_path / "study"
    shutil.copytree(unbroken[0], out)
    kept = out / "steps" / "file-hashes.json"
    kept.unlink(missing_ok=True)  # files that were written a moment ago are not kept
    for path in (out / "scores" / "tuned").iterdir():
        os.utime(path, ns=(0, 0))
    assert study(out, start=StandIns()).failed == []
    assert str(out / "scores" / "tuned" / "scores.json") in json.loads(kept.read_text("utf-8"))


def test_a_study_that_is_killed_twice_has_the_tables_of_one_that_is_not(
    unbroken: tuple[Path, StandIns], tmp_path: Path
) -> None:
    out, start = tmp_path / "study", StandIns()
    for place in ("tuning.train", "plain.answer"):
        start.kill_at = place
        with pytest.raises(Killed):
            study(out, start=start)
        assert not (out / "report.html").exists()
        assert json.loads((out / "steps" / f"{place}.begun.json").read_text("utf-8"))["tries"] == 1
    assert study(out, start=start).failed == []
    assert tables(out) == tables(unbroken[0])
    assert sorted(start.started) == sorted([*STEPS, "tuning.train", "plain.answer"])
    assert start.answered == unbroken[1].answered, "rows that were answered before the kill are answered again"
    assert not (out / "old").exists()


def test_a_killed_step_that_cannot_go_on_begins_anew(tmp_path: Path) -> None:
    from dataclasses import replace

    from mentallama_jax.study.step_manifests import StepManifests
    from mentallama_jax.study.study_graph import study_graph

    values = copy.deepcopy(CONFIG)
    values["study"]["out"] = str(tmp_path)
    graph = study_graph(parse_study(values, "test"))
    step = graph.steps["floor.answer"]
    manifests = StepManifests(graph.folder)
    for resumable, left in ((True, True), (False, False)):
        step = replace(step, resumable=resumable)
        manifests.begin(step, manifests.inputs(step))
        step.outputs[0].parent.mkdir(parents=True, exist_ok=True)
        step.outputs[0].write_text("half")
        manifests.begin(step, manifests.inputs(step))
        assert step.outputs[0].exists() is left


def test_a_change_reruns_exactly_what_depends_on_it(unbroken: tuple[Path, StandIns], tmp_path: Path) -> None:
    out = tmp_path / "study"
    shutil.copytree(unbroken[0], out)

    def changed(change: Callable[[dict[str, Any]], None], **how: Any) -> list[str]:
        start = StandIns()
        for name, value in how.items():
            setattr(start, name, value)
        assert study(out, change, start=start).failed == []
        return start.started

    def longer(values: dict[str, Any]) -> None:
        values["rows"]["tuning"]["overrides"].append("optimizer.learning_rate=1e-4")

    def colder(values: dict[str, Any]) -> None:
        longer(values)
        values["rows"]["plain"]["temperature"] = 0.5

    # The stand-in learns the same whatever the rate is: what follows it reads what it read before.
    assert changed(longer) == ["tuning.train"]
    assert sorted(path.name.partition(".")[0] for path in (out / "old").iterdir()) == ["tuning"]
    of_all = ["all.compare", "all.compare-explanations"]
    assert changed(colder, mute={"plain"}) == ["plain.answer", "plain.evaluate", *of_all]
    (out / "predictions" / "tuned.jsonl").write_text("gone wrong")
    assert changed(colder) == ["tuned.answer"], "the same answers again, so nothing else is done"
    (out / "rows" / "tuning" / "run" / "checkpoints" / "00000004").write_text("other weights")
    assert changed(colder) == ["tuning.train"]


def test_other_data_and_other_code_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mentallama_jax.study import step_manifests
    from mentallama_jax.study.step_manifests import StepManifests
    from mentallama_jax.study.study_graph import study_graph

    prompt = tmp_path / "prompt.yaml"
    prompt.write_text("one")
    values = copy.deepcopy(CONFIG)
    values["study"]["out"] = str(tmp_path / "study")
    values["rows"]["plain"]["prompt"] = str(prompt)
    graph = study_graph(parse_study(values, "test"))
    step = graph.steps["plain.answer"]
    manifests = StepManifests(graph.folder)
    inputs = manifests.inputs(step)
    for path in step.outputs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    manifests.begin(step, inputs)
    for path in step.outputs:
        path.write_text("{}")
    manifests.finish(step, inputs, 1.0)
    assert manifests.why_not_done(step, inputs) == ""
    prompt.write_text("two")
    later = StepManifests(graph.folder)
    assert later.why_not_done(step, later.inputs(step)) == f"changed: its data: {prompt}"
    prompt.write_text("one")
    monkeypatch.setattr(step_manifests, "code_of", lambda entry: "other code")
    later = StepManifests(graph.folder)
    assert later.why_not_done(step, later.inputs(step)) == "changed: the code"
    any_code = StepManifests(graph.folder, any_code=True)
    assert any_code.why_not_done(step, any_code.inputs(step)) == ""


def test_a_row_that_fails_stops_only_what_needs_it(tmp_path: Path) -> None:
    start = StandIns()
    start.fails = {"tuning.train"}
    outcome = study(tmp_path / "study", start=start)
    states = {name: each.state for name, each in outcome.states.items() if each.state != "done"}
    assert states == {
        "tuning.train": "failed",
        "tuned.answer": "blocked",
        "tuned.evaluate": "blocked",
        "all.compare-explanations": "blocked",
    }
    assert outcome.failed == list(states)
    page = (tmp_path / "study" / "report.md").read_text("utf-8")
    assert "What is missing" in page
    assert "floor less" in page or "less floor" in page, "the others are compared"
    start.fails = set()
    start.started.clear()
    assert study(tmp_path / "study", start=start).failed == []
    assert start.started == [*STEPS[:3], "all.compare", "all.compare-explanations"]


def test_two_runners_of_one_folder_are_refused(unbroken: tuple[Path, StandIns]) -> None:
    out, _ = unbroken
    with (out / "study.lock").open("ab") as held:
        assert lock_file(held)
        with pytest.raises(UserError, match="another process runs this study"):
            study(out, start=StandIns())


def test_what_is_under_way_is_stopped_with_the_runner(tmp_path: Path) -> None:
    asked: list[bool] = []

    class Endless:
        ended = False

        def poll(self) -> int | None:
            if not asked:
                raise KeyboardInterrupt
            return 75 if self.ended else None

        def stop(self, *, at_once: bool = False) -> None:
            asked.append(at_once)
            self.ended = True

    with pytest.raises(KeyboardInterrupt):
        study(tmp_path / "study", start=lambda step: Endless())
    assert asked[0] is False
    assert json.loads((tmp_path / "study/steps/tuning.train.begun.json").read_text("utf-8"))["tries"] == 1


@pytest.mark.parametrize("ignored", [False, True])
def test_signals_stop_a_study_but_for_one_that_nohup_ignores(ignored: bool, tmp_path: Path) -> None:
    start, found = StandIns(), []
    start.before = lambda step: found.append([signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)])
    start.fails = {"tuning.train", "plain.answer", "floor.answer"}
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        study(tmp_path / "study", start=start)
    finally:
        after = signal.signal(signal.SIGHUP, before)
    assert after == (signal.SIG_IGN if ignored else signal.SIG_DFL)
    for of_term, of_hangup in found:
        assert callable(of_term)
        assert (of_hangup == signal.SIG_IGN) is ignored
    assert len(found) == 3


def test_the_command_that_goes_on_is_the_same() -> None:
    from mentallama_jax.cli.main import parse
    from mentallama_jax.cli.study_command import _again

    words = ["study", "toy", "--out", "of mine", "--jobs", "2", "--any-code"]
    assert _again(parse(words)) == shlex.join(["mentallama", *words])


def test_steps_run_side_by_side_but_for_those_of_equal_devices(tmp_path: Path) -> None:
    at_once: list[set[str]] = []
    running: set[str] = set()
    start = StandIns()

    class Slow:
        def __init__(self, name: str, polls: int) -> None:
            self.name, self.polls = name, polls

        def poll(self) -> int | None:
            at_once.append(set(running))
            self.polls -= 1
            if self.polls > 0:
                return None
            running.discard(self.name)
            return 0

    def slow(step: Any) -> Any:
        start(step)
        running.add(step.name)
        return Slow(step.name, 2)

    def devices(values: dict[str, Any]) -> None:
        for name in ("tuning", "plain"):
            values["rows"][name]["devices"] = {"CUDA_VISIBLE_DEVICES": "0"}

    assert study(tmp_path / "study", devices, start=slow, jobs=3).failed == []
    assert any({"tuning.train", "floor.answer"} <= each for each in at_once)
    assert not any({"tuning.train", "plain.answer"} <= each for each in at_once)
