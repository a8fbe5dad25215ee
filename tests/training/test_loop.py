"""A whole run in this process: what it writes, when it evaluates and saves, what it refuses, how it stops."""

import io
import json
import math
import re
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.data_files.writers import write_records
from mentallama_jax.jobs.tune import base_model
from mentallama_jax.parallel.mesh import make_mesh
from mentallama_jax.training import loop, validation
from mentallama_jax.training.data.batches import TrainingData
from mentallama_jax.training.interruption import StopRequest
from mentallama_jax.training.loop import train
from mentallama_jax.training.objectives.supervised import Supervised
from mentallama_jax.training.run import manifest, metrics
from mentallama_jax.training.run.manifest import complete_checkpoints
from mentallama_jax.training.run.metrics import read_metrics
from mentallama_jax.training.run.opened_run import load_run


def tune(config, **more):
    shown = io.StringIO()
    result = train(config, base_model(config), console=Console(file=shown, width=200), **more)
    return result, shown.getvalue()


def losses(run_dir: Path) -> dict[int, float]:
    rows = [row for row in read_metrics(Path(run_dir) / "metrics.jsonl") if row["kind"] == "train"]
    assert len({row["step"] for row in rows}) == len(rows), "a step is logged twice"
    return {row["step"]: row["loss"] for row in rows}


def validations(run_dir: Path) -> dict[int, float]:
    rows = [row for row in read_metrics(Path(run_dir) / "metrics.jsonl") if row["kind"] == "validation"]
    assert len({row["step"] for row in rows}) == len(rows), "an evaluation is logged twice"
    return {row["step"]: row["validation_loss"] for row in rows}


@pytest.fixture(scope="module")
def reference(tiny_config, tmp_path_factory):
    """An uninterrupted run of 12 updates: its config, its result and what was shown."""
    config = tiny_config(tmp_path_factory.mktemp("reference") / "run")
    result, shown = tune(config)
    return config, result, shown


@pytest.fixture(autouse=True, scope="module")
def programs_are_traced_once(reference):
    """The runs of this module differ in what happens around the step; the step itself is the reference's."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((loop, "make_train_step"), (validation, "make_eval_step")):
            patch.setattr(module, name, _cached(getattr(module, name)))
        yield


def _cached(make):
    made = {}

    def make_once(objective, *rest):
        config = objective.config
        recipe = config.model_dump_json(include={"model", "optimizer", "data"})
        key = (objective.model, recipe, config.training.micro_batch_rows, *jax.tree.leaves(rest[1:]))
        if key not in made:
            made[key] = make(objective, *rest)
        return made[key]

    return make_once


def test_a_run_leaves_everything_that_it_promises(reference):
    config, result, shown = reference
    names = {path.name for path in result.run_dir.iterdir()}
    assert names == {
        *("config.json", "model_config.json", "versions.json", "data.json", "tokenizer", "metrics.jsonl"),
        *("loss.png", "tensorboard", "checkpoints", "log.txt", "run.lock"),
    }
    assert json.loads((result.run_dir / "config.json").read_text()) == config.model_dump(mode="json")
    assert (result.steps, result.total_steps, result.stopped_by) == (12, 12, "")
    assert list(losses(result.run_dir)) == list(range(1, 13))
    assert "12: 2 epochs of 6" in shown
    assert re.search(r"16 examples an update, at most (8|12|16) rows, 4 at a time", shown)
    assert "compiled the training step for" in shown
    facts = json.loads((result.run_dir / "data.json").read_text())
    assert facts["train"]["examples"] == 90
    assert facts["validation"]["examples"] == 12
    assert sum(facts["train"]["rows"].values()) == 90


def test_the_model_learns(reference):
    history = losses(reference[1].run_dir)
    assert history[12] < history[1] - 0.3


def test_a_line_of_the_metrics_has_every_figure(reference):
    rows = read_metrics(reference[1].run_dir / "metrics.jsonl")
    last = [row for row in rows if row["kind"] == "train"][-1]
    assert last["step"] == 12
    assert last["epoch"] == 2
    assert last["target_tokens"] < last["real_tokens"]
    assert 0 <= last["pad_share"] < 1
    assert last["tokens_per_second"] > 0
    assert last["grad_norm"] > 0


def test_the_packed_step_is_compiled_once(reference):
    assert reference[1].step_compiles == 1


def test_evaluated_after_each_epoch_and_the_best_is_kept(reference):
    result = reference[1]
    scores = validations(result.run_dir)
    assert list(scores) == [6, 12]
    assert result.best.step == min(scores, key=scores.get)
    assert [checkpoint.step for checkpoint in complete_checkpoints(result.run_dir / "checkpoints")] == [8, 12]


def test_load_run_gives_the_trained_model_and_its_tokenizer(reference):
    from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer

    config, result, _ = reference
    run = load_run(result.run_dir)
    assert run.config == config
    assert run.checkpoint.step == 12
    assert load_tokenizer(run.tokenizer).fingerprint == base_model(config).tokenizer.fingerprint
    earlier = load_run(result.run_dir, 8, dtype="bfloat16").params
    assert jax.tree.structure(earlier) == jax.tree.structure(run.params)
    assert earlier["embedding"].dtype == jnp.bfloat16
    assert not np.array_equal(earlier["embedding"], run.params["embedding"].astype(jnp.bfloat16))


def test_a_finished_run_has_nothing_left_to_do(reference):
    config, result, _ = reference
    before = (result.run_dir / "metrics.jsonl").read_bytes()
    again, shown = tune(config)
    assert (again.steps, again.best.step) == (12, result.best.step)
    assert "done after 12 updates" in shown
    assert (result.run_dir / "metrics.jsonl").read_bytes() == before


@pytest.mark.long
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_update_and_the_run_goes_on_bit_for_bit(
    reference, tiny_config, tmp_path, monkeypatch, signal_number
):
    config = tiny_config(tmp_path / "run")
    batch = TrainingData.batch

    def batch_and_signal(self, step):
        if step == 7:  # asked for ahead of time, so the run stops somewhere before it
            signal.raise_signal(signal_number)
        return batch(self, step)

    # In the main thread the handler runs as soon as that gets its turn.
    monkeypatch.setattr(TrainingData, "batch", batch_and_signal)
    first, shown = tune(config)
    assert 0 < first.steps < 12
    assert first.stopped_by == {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}[signal_number]
    assert f"after update {first.steps} of 12; everything is saved" in shown
    assert complete_checkpoints(tmp_path / "run" / "checkpoints")[-1].step == first.steps
    monkeypatch.undo()
    second, shown = tune(config)
    assert f"resuming after update {first.steps} of 12" in shown
    assert second.steps == 12
    assert losses(tmp_path / "run") == losses(reference[1].run_dir)
    assert validations(tmp_path / "run") == validations(reference[1].run_dir)


@pytest.mark.long
@pytest.mark.parametrize("update", [5, 6, 12])
def test_a_signal_at_the_end_of_an_update_still_saves_it(reference, tiny_config, tmp_path, monkeypatch, update):
    """It comes after the last look at whether to save, so only what follows the loop can save."""
    config = tiny_config(tmp_path / "run", checkpoint={"every_steps": 100})
    due = loop._Due.evaluation

    def evaluation(self, step):  # the last thing that the loop asks in an update
        answer = due(self, step)
        if step == update and sys._getframe(1).f_code.co_name == "train":
            signal.raise_signal(signal.SIGTERM)
        return answer

    monkeypatch.setattr(loop._Due, "evaluation", evaluation)
    first, _ = tune(config)
    assert (first.steps, first.stopped_by) == (update, "SIGTERM")
    assert complete_checkpoints(tmp_path / "run" / "checkpoints")[-1].step == update
    monkeypatch.undo()
    assert tune(config)[0].stopped_by == ""
    assert losses(tmp_path / "run") == losses(reference[1].run_dir)
    assert validations(tmp_path / "run") == validations(reference[1].run_dir)


@pytest.mark.long
def test_a_signal_in_an_evaluation_leaves_it_to_the_next_start(reference, tiny_config, tmp_path, monkeypatch):
    config = tiny_config(tmp_path / "run")
    monkeypatch.setattr(loop, "measure_all", lambda *_: signal.raise_signal(signal.SIGTERM) or {})
    first, _ = tune(config)
    assert first.steps == 6
    monkeypatch.undo()
    tune(config)
    assert validations(tmp_path / "run") == validations(reference[1].run_dir)


@pytest.mark.long
def test_a_signal_in_the_last_evaluation_is_no_finished_run(reference, tiny_config, tmp_path, monkeypatch):
    config = tiny_config(tmp_path / "run", evaluation={"every_steps": 12})
    monkeypatch.setattr(loop, "measure_all", lambda *_: signal.raise_signal(signal.SIGTERM) or {})
    first, _ = tune(config)
    assert (first.steps, first.stopped_by, first.best) == (12, "SIGTERM", None)
    monkeypatch.undo()
    second, _ = tune(config)
    assert (second.stopped_by, second.best.step) == ("", 12)
    assert validations(tmp_path / "run") == {12: validations(reference[1].run_dir)[12]}


@pytest.mark.long
def test_a_second_ctrl_c_stops_at_once(tiny_config, tmp_path, monkeypatch):
    config = tiny_config(tmp_path / "run")
    before = signal.getsignal(signal.SIGINT)  # ignored, where a shell started the tests in the background
    monkeypatch.setattr(loop, "measure_all", lambda *_: [signal.raise_signal(signal.SIGINT) for _ in range(2)] and {})
    with pytest.raises(KeyboardInterrupt):
        tune(config)
    assert signal.getsignal(signal.SIGINT) is before


def poison(monkeypatch, bad_step: int, figure: str) -> None:
    """Make the figures and the parameters of one update NaN."""
    make = loop.make_train_step

    def make_poisoned(*arguments):
        step = make(*arguments)

        def poisoned(state, batch):
            state, figures = step(state, batch)
            if int(state["step"]) == bad_step:
                figures |= {figure: jnp.float32(math.nan)}
                state |= {"params": jax.tree.map(lambda x: x * math.nan, state["params"])}
            return state, figures

        poisoned._cache_size = step._cache_size
        return poisoned

    monkeypatch.setattr(loop, "make_train_step", make_poisoned)


@pytest.mark.long
@pytest.mark.parametrize(
    ("bad_step", "figure", "kept"), [(5, "loss", 4), (8, "grad_norm", 6), (9, "loss", 8), (12, "grad_norm", 8)]
)
def test_a_figure_that_is_not_finite_stops_the_run_and_is_never_saved(
    tiny_config, tmp_path, monkeypatch, bad_step, figure, kept
):
    config = tiny_config(tmp_path / "run")
    poison(monkeypatch, bad_step, figure)
    with pytest.raises(UserError) as caught:
        tune(config)
    message = str(caught.value)
    assert f"update {bad_step} (epoch {1 if bad_step <= 6 else 2})" in message
    assert "nan" in message
    bad = json.loads((tmp_path / "run" / "bad_batch.json").read_text())
    assert (bad["step"], len(bad["examples"])) == (bad_step, 16 if bad_step not in (6, 12) else 10)
    assert bad["examples"][0] in message
    saved = complete_checkpoints(tmp_path / "run" / "checkpoints")
    assert saved[-1].step == kept
    for checkpoint in saved:
        params = load_run(tmp_path / "run", checkpoint.step).params
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    assert max(losses(tmp_path / "run")) == bad_step - 1


def test_label_f1_answers_the_same_rows_each_time_and_chooses_the_best(tiny_config, tmp_path):
    asked = []

    def label_f1(params, records):
        asked.append(tuple(record.id for record in records))
        return [0.4, 0.9, 0.1][len(asked) - 1]

    config = tiny_config(
        tmp_path / "run",
        evaluation={"generate_rows": 5, "metric": "label_f1", "every_steps": 4, "max_new_tokens": 6},
        checkpoint={"keep_last": 1},
    )
    result, _ = tune(config, label_f1=label_f1)
    assert len(asked) == 3
    assert len(set(asked)) == 1
    assert len(asked[0]) == 5
    assert (result.best.step, result.best.scores["label_f1"]) == (8, 0.9)
    assert [checkpoint.step for checkpoint in complete_checkpoints(tmp_path / "run" / "checkpoints")] == [8, 12]
    rows = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if row["kind"] == "validation"]
    assert [row["label_f1"] for row in rows] == [0.4, 0.9, 0.1]


@pytest.mark.long
def test_without_validation_data_the_last_checkpoint_is_the_best(tiny_config, tmp_path):
    config = tiny_config(tmp_path / "run", data={"validation": []})
    result, shown = tune(config)
    assert result.best is None
    assert load_run(result.run_dir).checkpoint.step == 12
    assert "the last checkpoint is the best" in shown


def test_the_validation_loss_is_the_mean_over_target_tokens_and_no_mean_of_means(tiny_config, tmp_path, monkeypatch):
    config = tiny_config(tmp_path / "run")
    base = base_model(config)
    examples = loop.load_examples(config, base.tokenizer, print)
    each_target_costs_its_id = lambda params, frozen, batch: (  # noqa: E731
        ((batch["tokens"] * batch["loss_mask"]).sum().astype("float32"), {}),
        batch["loss_mask"].sum(),
    )
    monkeypatch.setattr(validation, "make_eval_step", lambda *_: each_target_costs_its_id)
    objective, stop, mesh = Supervised(base.config, config), StopRequest(), make_mesh(config.mesh)
    evaluators = validation.make_evaluators(config, objective, examples, None, stop, mesh)
    scores = validation.measure_all(evaluators, {"params": {}, "frozen": {}}, 1, stop)
    store = examples.validation
    assert scores["validation_loss"] == pytest.approx(store.tokens[store.targets].mean(), rel=1e-6)


@pytest.mark.long
def test_log_every_thins_the_lines_but_not_the_guard(tiny_config, tmp_path, monkeypatch):
    config = tiny_config(tmp_path / "run", training={"log_every": 5})
    poison(monkeypatch, 7, "loss")
    with pytest.raises(UserError, match="update 7 "):
        tune(config)
    assert list(losses(tmp_path / "run")) == [5]


@pytest.mark.long
def test_a_full_disk_while_writing_metrics_is_one_line_and_the_run_goes_on(
    reference, tiny_config, tmp_path, monkeypatch
):
    config = tiny_config(tmp_path / "run")

    def full(value, **options):
        if value["step"] == 7:
            raise OSError(28, "No space left on device")
        return json.dumps(value, **options)

    monkeypatch.setattr(metrics, "json", SimpleNamespace(dumps=full, loads=json.loads))
    with pytest.raises(UserError, match=r"run/metrics\.jsonl: No space left on device; .*make room.*same command"):
        tune(config)
    monkeypatch.undo()
    tune(config)
    assert losses(tmp_path / "run") == losses(reference[1].run_dir)


@pytest.mark.long
def test_a_full_disk_while_saving_is_one_line_and_the_run_goes_on(reference, tiny_config, tmp_path, monkeypatch):
    config = tiny_config(tmp_path / "run")
    write_json = manifest.write_json

    def full(path, value):
        if path.name == "manifest.json" and path.parent.name == "00000008":
            raise OSError(28, "No space left on device")
        write_json(path, value)

    monkeypatch.setattr(manifest, "write_json", full)
    line = r"00000008: the checkpoint could not be written \(.*00000008/manifest\.json: No space left.*make room"
    with pytest.raises(UserError, match=line):
        tune(config)
    monkeypatch.undo()
    tune(config)
    assert losses(tmp_path / "run") == losses(reference[1].run_dir)


@pytest.mark.long
def test_a_damaged_checkpoint_costs_the_updates_since_the_one_before(reference, tiny_config, tmp_path, monkeypatch):
    config = tiny_config(tmp_path / "run")
    poison(monkeypatch, 11, "loss")
    with pytest.raises(UserError):
        tune(config)
    monkeypatch.undo()
    victim = max((tmp_path / "run" / "checkpoints" / "00000008" / "params").rglob("*"), key=lambda p: p.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-1])
    _, shown = tune(config)
    assert "00000008: damaged checkpoint" in shown
    assert "resuming after update 6 of 12" in shown
    assert losses(tmp_path / "run") == losses(reference[1].run_dir)


def test_the_log_says_how_a_run_ended(tiny_config, tmp_path, monkeypatch):
    poison(monkeypatch, 2, "loss")
    with pytest.raises(UserError):
        tune(tiny_config(tmp_path / "run"))
    assert "ended by UserError: update 2 (epoch 1): loss nan" in (tmp_path / "run" / "log.txt").read_text()


def test_micro_batches_that_no_update_fills_are_remarked_upon(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "check_resources", lambda *_: 1 / 0)  # far enough
    with pytest.raises(ZeroDivisionError):
        tune(tiny_config(tmp_path / "run", data={"max_length": 384}, training={"micro_batch_rows": 16}))
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "of what is computed is padding; an update of 16 examples does not fill training.micro_batch_rows 16" in log


@pytest.mark.long
def test_after_out_of_memory_the_advice_can_be_followed(reference, tiny_config, tmp_path, monkeypatch):
    """Every update keeps its examples where the micro-batches change: the losses are the same but for rounding."""
    evaluation = loop.Recorder.add_scores

    def exhausted(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")

    monkeypatch.setattr(loop.Recorder, "add_scores", exhausted)
    with pytest.raises(UserError, match=r"out of device memory; lower training.micro_batch_rows \(now 4\) and run it"):
        tune(tiny_config(tmp_path / "run"))
    monkeypatch.setattr(loop.Recorder, "add_scores", evaluation)
    for rows in (3, 1):
        config = tiny_config(tmp_path / "run", training={"micro_batch_rows": rows})
        assert tune(config)[0].steps == 12
    expected = losses(reference[1].run_dir)
    found = losses(tmp_path / "run")
    assert list(found) == list(expected)
    assert list(found.values()) == pytest.approx(list(expected.values()), rel=1e-4)


@pytest.mark.long
def test_no_room_for_answers_is_found_before_the_first_update(tiny_config, tmp_path):
    for new_tokens, left in ((192, 0), (180, 12)):
        config = tiny_config(tmp_path / "run", evaluation={"generate_rows": 3, "max_new_tokens": new_tokens})
        line = rf"evaluation.max_new_tokens {new_tokens} of data.max_length 192 tokens leave {left} for the prompt of "
        with pytest.raises(UserError, match=line) as caught:
            tune(config, label_f1=lambda *_: 0.5)
        assert "\n" not in str(caught.value)
    assert losses(tmp_path / "run") == {}
    tune(tiny_config(tmp_path / "run", evaluation={"max_new_tokens": 192}))  # asks for no answers


def test_a_signal_before_the_first_update_is_heeded(tiny_config, tmp_path, monkeypatch):
    load = loop.load_examples

    def load_and_signal(*arguments):
        signal.raise_signal(signal.SIGTERM)
        return load(*arguments)

    monkeypatch.setattr(loop, "load_examples", load_and_signal)
    result, shown = tune(tiny_config(tmp_path / "run"))
    assert (result.steps, result.stopped_by, result.step_compiles) == (0, "SIGTERM", 0)
    assert "stopped by SIGTERM before an update was made; 0 of 12 are saved" in shown


def test_post_text_never_comes_into_a_file_or_a_message_of_a_run(tiny_config, tmp_path, capfd):
    """Rows that cannot be read, wrong labels, shifted columns: told of by their places."""
    marker = "MARKER I have never told this to anybody"
    good = read_records(["sample:train"]).records[:40]
    write_records(tmp_path / "good.jsonl", good)
    lines = (tmp_path / "good.jsonl").read_text().splitlines()
    row = json.loads(lines[0])
    bad = [row | change for change in ({"label": marker}, {"dataset": marker}, {"aspect": marker}, {"split": marker})]
    bad += [{marker: 1}, row | {"post": 5, "explanation": marker}, row | {"id": marker, "label": ""}]
    (tmp_path / "bad.jsonl").write_text("\n".join([*lines, *map(json.dumps, bad)]))
    (tmp_path / "cut.jsonl").write_text("\n".join([*lines, f'{{"post": "{marker}']))
    (tmp_path / "bad.csv").write_text(f"{marker},label\n{marker},yes\n")
    data = {"train": [str(tmp_path / "bad.jsonl")], "validation": [str(tmp_path / "good.jsonl")]}
    shown = ""
    others = [{"train": [str(tmp_path / name)]} for name in ("bad.csv", "cut.jsonl")]
    for change in ({}, {"strict": True}, *others):
        config = tiny_config(tmp_path / "run", data=data | change, training={"epochs": 1})
        try:
            shown += tune(config)[1]
        except UserError as error:
            shown += f"{error}\n"
    shown += "".join(capfd.readouterr())
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file() and "checkpoints" not in path.parts:
            shown += path.read_bytes().decode("latin1")
    assert "MARKER" not in shown
    assert "rows cannot be read" in shown
    assert all(record.post[:60] not in shown for record in good)


@pytest.mark.slow
def test_the_bucketed_step_is_compiled_once_a_row_length_and_resumes_bit_for_bit(tiny_config, tmp_path, monkeypatch):
    def bucketed(name):
        return tiny_config(
            tmp_path / name, data={"layout": "bucketed", "max_length": 256}, training={"micro_batch_rows": 8}
        )

    whole, shown = tune(bucketed("whole"))
    lengths = {int(line.split(" rows of ")[1].split()[0]) for line in shown.splitlines() if "compiled" in line}
    assert whole.step_compiles == len(lengths) > 1
    poison(monkeypatch, 11, "loss")
    with pytest.raises(UserError):
        tune(bucketed("cut"))
    monkeypatch.undo()
    tune(bucketed("cut"))
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_exhausted_device_memory_names_what_to_lower(tiny_config, tmp_path, monkeypatch):
    def exhausted(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory allocating 1 byte")

    exhausted._cache_size = lambda: 0
    monkeypatch.setattr(loop, "make_train_step", lambda *_: exhausted)
    with pytest.raises(UserError, match=r"out of device memory; lower training.micro_batch_rows \(now 4\)"):
        tune(tiny_config(tmp_path / "run"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"max_length": 1024}}, "data.max_length 1024 is more than the 512 positions"),
        ({"data": {"train": ["nowhere.jsonl"]}}, "data.train: nowhere.jsonl: no such file"),
        ({"data": {"validation": ["nowhere.jsonl"]}}, "data.validation: nowhere.jsonl: no such file"),
        ({"data": {"train": ["sample:test"]}}, "data.train: no row of split train"),
        ({"data": {"max_length": 24}}, "needs 55 tokens even with an empty post; 24 are allowed"),
        ({"model": {"tokenizer": "nowhere"}}, "nowhere"),
        ({"model": {"source": "toy", "weights": "pretrained"}}, "toy is a shape without weights"),
        ({"model": {"source": "toy", "tokenizer": None}}, "model.tokenizer: toy brings none"),
    ],
)
def test_what_cannot_work_is_one_line_before_anything_starts(tiny_config, tmp_path, changes, message):
    with pytest.raises(UserError, match=message.replace(".", r"\.")) as caught:
        tune(tiny_config(tmp_path / "run", **changes))
    assert "\n" not in str(caught.value)


def test_a_vocabulary_larger_than_the_embedding_is_refused(tiny_config, tiny_model, tmp_path):
    small = json.loads((tiny_model / "config.json").read_text()) | {"vocab_size": 1000}
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(small))
    with pytest.raises(UserError, match=r"model.tokenizer has 1024 tokens and .* embeds 1000"):
        tune(tiny_config(tmp_path / "run", model={"source": str(tmp_path / "model")}))
