"""The metrics file across interruptions, the TensorBoard files, the loss curve."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from mentallama_jax.training.run.loss_picture import best_evaluation, draw_loss_curve, epoch_starts
from mentallama_jax.training.run.metrics import MetricsLog, read_metrics

ROOT = Path(__file__).resolve().parents[2]


def write_run(folder, start, stop, *, evaluated=False):
    with MetricsLog(folder / "metrics.jsonl", folder / "tensorboard", start, evaluated=evaluated) as metrics:
        for step in range(start + 1, stop + 1):
            metrics.write("train", step, {"loss": 1 / step})
            if step % 4 == 0:
                metrics.write("validation", step, {"validation_loss": 2 / step})


def steps(folder, kind):
    return [row["step"] for row in read_metrics(folder / "metrics.jsonl") if row["kind"] == kind]


def events(folder) -> list[tuple[int, str, float]]:
    """(step, name, value) of every scalar, read from the record format: length, its CRC, event, CRC."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted((folder / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            data = data[16 + length :]
    return found


def test_a_resumed_run_has_each_step_once(tmp_path):
    write_run(tmp_path, 0, 10)
    write_run(tmp_path, 6, 12)
    assert steps(tmp_path, "train") == list(range(1, 13))
    assert steps(tmp_path, "validation") == [4, 8, 12]


@pytest.mark.parametrize(("evaluated", "kept"), [(True, [4, 8]), (False, [4])])
def test_the_evaluation_of_the_restored_step_stays_only_if_it_was_completed(tmp_path, evaluated, kept):
    write_run(tmp_path, 0, 9)
    with MetricsLog(tmp_path / "metrics.jsonl", tmp_path / "tensorboard", 8, evaluated=evaluated):
        pass
    assert steps(tmp_path, "validation") == kept
    assert steps(tmp_path, "train") == list(range(1, 9))


def test_a_line_that_was_cut_off_is_dropped(tmp_path):
    write_run(tmp_path, 0, 5)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    write_run(tmp_path, 3, 6)
    assert steps(tmp_path, "train") == [1, 2, 3, 4, 5, 6]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_line_is_there_as_soon_as_it_is_written(tmp_path):
    with MetricsLog(tmp_path / "metrics.jsonl", tmp_path / "tensorboard", 0, evaluated=False) as metrics:
        metrics.write("train", 1, {"loss": 2.5})
        assert read_metrics(tmp_path / "metrics.jsonl") == [{"kind": "train", "step": 1, "loss": 2.5}]


def test_json_has_no_nan(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl", tmp_path / "tensorboard", 0, evaluated=False)
    with log as metrics, pytest.raises(ValueError, match="JSON compliant"):
        metrics.write("train", 1, {"loss": float("nan")})


def test_tensorboard_holds_the_same_figures(tmp_path):
    write_run(tmp_path, 0, 4)
    found = events(tmp_path)
    assert [(step, name) for step, name, _ in found] == [
        *((step, "train/loss") for step in range(1, 5)),
        (4, "validation/validation_loss"),
    ]
    assert [value for *_, value in found] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4, 1 / 2])


def test_a_resumed_run_writes_a_file_of_its_own(tmp_path):
    write_run(tmp_path, 0, 4)
    write_run(tmp_path, 2, 4)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2


def test_torch_stays_out(tmp_path):
    code = (
        "import sys; from pathlib import Path; from mentallama_jax.training.run.metrics import MetricsLog\n"
        "MetricsLog(Path('metrics.jsonl'), Path('tensorboard'), 0, evaluated=False).write('train', 1, {'loss': 1.0})\n"
        "assert 'torch' not in sys.modules"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, timeout=240)


def test_a_full_disk_raises_at_once_and_never_hangs(tmp_path, monkeypatch):
    from tensorboardX.event_file_writer import EventsWriter

    def full(self, event):
        raise OSError(28, "No space left on device")

    with MetricsLog(tmp_path / "metrics.jsonl", tmp_path / "tensorboard", 0, evaluated=False) as metrics:
        monkeypatch.setattr(EventsWriter, "write_event", full)
        for step in range(1, 40):
            with pytest.raises(OSError, match="No space left"):
                metrics.write("train", step, {"loss": 1.0})


def test_the_loss_curve_is_a_picture(tmp_path):
    write_run(tmp_path, 0, 8)
    draw_loss_curve(tmp_path / "metrics.jsonl", tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


LABELLED = [
    *({"kind": "train", "step": step, "loss": 3 / step, "epoch": 1 + (step - 1) // 10} for step in range(1, 31)),
    {"kind": "validation", "step": 10, "validation_loss": 0.9, "label_f1": 0.4},
    {"kind": "validation", "step": 20, "validation_loss": 0.7, "label_f1": 0.8},
    {"kind": "validation", "step": 30, "validation_loss": 0.6, "label_f1": 0.8},
]


def test_the_picture_marks_the_best_evaluation_and_the_epochs():
    assert best_evaluation(LABELLED, "label_f1") == ("label F1", (30, 0.8))  # equal label F1: the lower loss
    assert best_evaluation(LABELLED[:32], "validation_loss") == ("validation loss", (20, 0.7))
    assert best_evaluation(LABELLED[:30], "validation_loss") is None
    assert best_evaluation(LABELLED, "reward") is None
    assert epoch_starts(LABELLED) == [(1, 1), (11, 2), (21, 3)]
    many = [{"kind": "train", "step": step, "loss": 1.0, "epoch": step} for step in range(1, 101)]
    assert epoch_starts(many)[:3] == [(1, 1), (6, 6), (11, 11)]


def test_the_picture_names_the_run_label_f1_and_epochs(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    (tmp_path / "a $x$ run").mkdir()
    path = tmp_path / "a $x$ run/metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in LABELLED))
    draw_loss_curve(path, tmp_path / "loss.png", "label_f1")
    (figure,) = drawn
    left, right = figure.axes
    assert left.get_title() == "a $x$ run"
    assert right.get_ylabel() == "label F1"
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == ["training loss", "validation loss", "label F1", "best label F1 0.800, update 30"]


def test_there_is_no_curve_of_nothing(tmp_path):
    draw_loss_curve(tmp_path / "metrics.jsonl", tmp_path / "loss.png")
    assert list(tmp_path.iterdir()) == []
