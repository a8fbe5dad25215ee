"""Starts steps as processes of their own, and ends them."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from mentallama_jax.study.study_steps import StudyStep

_TIED = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
sys.exit("error: the process that started this step has ended")
"""
"""Lets Linux kill this process when the one that started it dies, `kill -9` included (PR_SET_PDEATHSIG), and becomes
the step. The process that starts it may have threads, so that nothing may run between its fork and its exec."""
_LONGEST_ERROR = 600
_TAIL = 1 << 16


class RunningStep(Protocol):
    """A step that is under way."""

    def poll(self) -> int | None:
        """Its exit status, or None while it runs."""

    def stop(self, *, at_once: bool = False) -> None:
        """Ask it to save and end, or end it."""


class StepProcess:
    """A step as a process; it dies with the process that started it, where the system can see to that."""

    def __init__(self, step: StudyStep, log: Path) -> None:
        """Start it; all that it prints is added to `log`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        words, environment = process_words(step, os.environ)
        if sys.platform == "linux":
            words = [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *words]
        with log.open("ab") as stream:
            stream.write(f"$ {shlex.join(['mentallama', *step.words])}\n".encode())
            stream.flush()
            self._process = subprocess.Popen(
                words,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """Its exit status, or None while it runs."""
        return self._process.poll()

    def stop(self, *, at_once: bool = False) -> None:
        """Ask it to save and end, or end it."""
        if self._process.poll() is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL if at_once else signal.SIGTERM)
            except ProcessLookupError:
                return


def process_words(step: StudyStep, environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The words and the environment of a step's process.

    Behind a launcher stands one shell command, which goes to this folder and sets the variables itself: it may run on
    another host.
    """
    command = [sys.executable, "-m", "mentallama_jax", *step.words]
    if not step.launcher:
        return command, {**environment, **step.environment}
    variables = [f"{name}={value}" for name, value in step.environment.items()]
    line = f"cd {shlex.quote(os.getcwd())} && exec {shlex.join(['env', *variables, *command])}"
    return [*shlex.split(step.launcher), line], dict(environment)


def reason_of(log: Path, status: int) -> str:
    """Why a step failed: its error of one line, else its status. Nothing else of a log is shown: it may hold texts."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _TAIL))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    begin = max((place for place, line in enumerate(lines) if line.startswith("$ ")), default=0)
    errors = [line for line in lines[begin:] if line.startswith("error: ")]
    if errors:
        return errors[-1].removeprefix("error: ")[:_LONGEST_ERROR]
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return f"{how}; see {log}"
