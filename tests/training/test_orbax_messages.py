"""What orbax says is cut to lines; what nobody needs to see is left out; no more than that."""

import asyncio
import logging
import sys

import pytest

from mentallama_jax.training.run import orbax_messages
from mentallama_jax.training.run.orbax_messages import brief


def test_a_full_disk_is_told_by_its_file():
    text = (
        'RESOURCE_EXHAUSTED: Failed writing: "/disk/run/checkpoints/00000001.tmp/params/d/f2": Failed to write 156753 '
        "bytes to file 24: No space left on device [source locations='x.cc:1'] [tensorstore_spec='{}']"
    )
    assert brief(ValueError(text)) == "/disk/run/checkpoints/00000001.tmp/params/d/f2: No space left on device"
    assert brief(OSError(28, "No space left on device", "/disk/x")) == "/disk/x: No space left on device"
    wrapped = KeyError("wrapped")
    wrapped.__cause__ = OSError(122, "Disk quota exceeded")
    assert brief(wrapped) == "Disk quota exceeded"
    assert brief(ValueError("a\nb [tensorstore_spec='...']")) == "a b"
    assert brief(ValueError()) == "ValueError"


def test_warnings_stay_and_are_one_line_each(caplog):
    logger = logging.getLogger("absl")
    try:
        raise ValueError("inner")
    except ValueError:
        logger.warning("Skipping merge\nof %s", "x" * 1000, exc_info=True)
    logger.error("%s raised", "[thread=a] _SignalingThread.run() raised an exception: RESOURCE_EXHAUSTED")
    (record,) = caplog.records
    assert record.getMessage().startswith("Skipping merge of xxx")
    assert (len(record.getMessage()), record.exc_info) == (300, None)


@pytest.fixture
def hook():
    before = sys.excepthook
    yield orbax_messages.without_stray_errors()
    sys.excepthook = before


def test_only_a_loop_that_is_closed_is_passed_over(hook, capsys):
    loop = asyncio.new_event_loop()
    loop.close()
    for act in (lambda: loop.call_soon_threadsafe(print), lambda: 1 / 0):
        try:
            act()
        except (RuntimeError, ZeroDivisionError):
            sys.excepthook(*sys.exc_info())
    err = capsys.readouterr().err
    assert "ZeroDivisionError" in err
    assert "Event loop" not in err
