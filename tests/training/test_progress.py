"""What is shown on a terminal and elsewhere."""

import io

import pytest
from rich.console import Console

from mentallama_jax.training import progress
from mentallama_jax.training.progress import Speed, TrainingProgress, duration


def run(tmp_path, monkeypatch, *, terminal, seconds=1.0, updates=5):
    """Go through some updates, `seconds` apart on the clock; return what was shown and the log."""
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=terminal, width=150, get_time=lambda: clock[0])
    speed = Speed()
    with TrainingProgress(tmp_path / "log.txt", console) as shower:
        shower.start_bar(updates, 0)
        for step in range(1, updates + 1):
            shower.update(step, 1.25, 1e-5, 0.03, speed)
            speed.add(seconds, 500)
            clock[0] += seconds
        shower.say("a [bold] remark")
    return shown.getvalue(), (tmp_path / "log.txt").read_text()


def test_lines_in_place_of_a_bar_where_there_is_no_terminal(tmp_path, monkeypatch):
    shown, log = run(tmp_path, monkeypatch, terminal=False)
    lines = shown.splitlines()
    assert lines[0] == "update 1 of 5  loss 1.2500  lr 1.00e-05  pad 3.0%"
    assert lines[1] == "update 5 of 5  loss 1.2500  lr 1.00e-05  pad 3.0%  500 tokens/s  0 s left"
    assert lines[2] == "a [bold] remark"
    assert "\x1b" not in shown
    assert [line.split("  ", 1)[1] for line in log.splitlines()] == lines


def test_a_line_every_half_minute(tmp_path, monkeypatch):
    shown, _ = run(tmp_path, monkeypatch, terminal=False, seconds=20.0, updates=8)
    assert [line.split()[1] for line in shown.splitlines()[:-1]] == ["1", "3", "5", "7", "8"]


def test_a_bar_on_a_terminal_and_the_log_still_has_lines(tmp_path, monkeypatch):
    shown, log = run(tmp_path, monkeypatch, terminal=True)
    assert "5/5" in shown
    assert "500 tokens/s" in shown
    assert "\x1b" in shown
    assert "update 5 of 5" in log
    assert "\x1b" not in log


def test_speed_counts_tokens_over_time_of_the_last_updates():
    speed = Speed()
    assert not speed.known
    speed.add(100.0, 1)
    for _ in range(50):
        speed.add(2.0, 300)
    assert speed.known
    assert speed.tokens_per_second == pytest.approx(150)
    assert speed.seconds_per_update == pytest.approx(2)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (89, "89 s"),
        (100, "2 min"),
        (60 * 89, "89 min"),
        (60 * 95, "1 h 35 min"),
        (3600 * 25, "25 h 00 min"),
    ],
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text
