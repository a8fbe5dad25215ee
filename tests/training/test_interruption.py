"""Signals at any moment of a run, its start and its end included: a status that fits, and no traceback."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mentallama_jax.training import interruption
from mentallama_jax.training.interruption import StopRequest
from mentallama_jax.training.run.manifest import complete_checkpoints

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "import sys; from mentallama_jax.cli import main; main.COMMANDS = ('train',); sys.exit(main.main())"


def run_and_signal(config: Path, number: signal.Signals, delay: float, again: float | None = None) -> tuple[int, str]:
    """Status and standard error of a run that gets a signal `delay` seconds after it began to listen."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"{READY}{COMMAND}", "train", str(config)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "listening\n"
        time.sleep(delay)
        process.send_signal(number)
        if again is not None:
            time.sleep(again)
            process.send_signal(number)
        _, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    return process.returncode, errors


# Undoes first what `nohup` in front of the tests would do to the run: a signal that is ignored stays so.
READY = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from mentallama_jax.training import interruption
enter = interruption.StopRequest.__enter__
def tell(self):
    enter(self)
    print("listening", flush=True)
    return self
interruption.StopRequest.__enter__ = tell
"""


@pytest.fixture
def config(tiny_values, tmp_path):
    path = tmp_path / "run.yaml"
    values = tiny_values(tmp_path / "run")
    # So many epochs that no machine comes to their end before the signal.
    values["training"] |= {"epochs": 400}
    values["evaluation"] = values.get("evaluation", {}) | {"every_steps": 2000}
    path.write_text(json.dumps(values))
    return path


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "delay"),
    [(signal.SIGINT, 0.0), (signal.SIGTERM, 0.5), (signal.SIGINT, 1.5), (signal.SIGHUP, 2.5), (signal.SIGINT, 3.5)],
)
def test_a_signal_at_any_moment_ends_a_run_with_status_75(config, number, delay):
    status, errors = run_and_signal(config, number, delay)
    assert status == 75, errors
    assert "Traceback" not in errors
    assert "stopped by" in errors


@pytest.mark.parametrize("delay", [0.2, 2.0, 3.0])
def test_a_second_ctrl_c_ends_it_at_once(config, delay):
    status, errors = run_and_signal(config, signal.SIGINT, delay, again=0.2)
    assert status in (130, 75), errors  # 75: it had come to its end in between
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors


SIGNAL_AT_EVERY_IMPORT = """
import signal, sys
from mentallama_jax.training.interruption import StopRequest

class Signals:
    count = 0

    def find_spec(self, name, path, target=None):
        if name.startswith("jax"):
            Signals.count += 1
            stop._asked, stop.signal_name = 0, ""
            signal.raise_signal(signal.SIGTERM)
            assert stop.signal_name == "SIGTERM", name

with StopRequest() as stop:
    sys.meta_path.insert(0, Signals())
    import jax
print(Signals.count)
"""


def test_a_signal_at_any_moment_of_the_import_of_jax_is_heeded():
    done = subprocess.run(
        [sys.executable, "-c", SIGNAL_AT_EVERY_IMPORT], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 100


@pytest.mark.slow
@pytest.mark.parametrize("again", [None, 0.1, 0.4, 1.0])
def test_signals_at_many_moments(config, tmp_path, again):
    for tenth in range(0, 60, 4):
        for number in (signal.SIGINT, signal.SIGTERM):
            status, errors = run_and_signal(config, number, tenth / 10, again)
            assert status in (0, 75, 130), (tenth, number, status, errors)
            assert "Traceback" not in errors
    complete_checkpoints(tmp_path / "run" / "checkpoints")


def test_a_hangup_is_heeded_unless_it_was_ignored_at_the_start(monkeypatch):
    before = signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.asked
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
        assert stop.signal_name == "SIGHUP"
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_who_is_called_on_a_second_ctrl_c_need_not_raise():
    called = []
    with StopRequest(lambda: called.append("now")) as stop:
        signal.raise_signal(signal.SIGINT)
        assert (stop.signal_name, called) == ("Ctrl-C", [])
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert called == ["now"]


def test_listening_needs_no_jax():
    code = "import sys, mentallama_jax.training.interruption as i; i.StopRequest(); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
    assert interruption.SIGNALS
