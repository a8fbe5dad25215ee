"""Label F1 during training on one and on several processes of this machine: the figures, and how idle the places are.

    python tests/benchmarks/label_f1_on_hosts.py
    python tests/benchmarks/label_f1_on_hosts.py training.steps=40 training.epochs=null --processes 1 2 4

Trains the toy with each number of processes, which meet on loopback, in a folder that is removed again. The last
evaluation of each run counts, for which nothing is compiled any more. Figures that differ come from sums in another
order. Processes share the cores, so seconds say nothing of hosts; the idle share is that of their places for answers.
"""

import argparse
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mentallama_jax.training.run.metrics import read_metrics


def train(processes: int, folder: Path, changes: list[str]) -> dict[str, Any]:
    """The last evaluation of the toy on so many processes.

    Raises:
        subprocess.CalledProcessError: one of them failed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    words = [sys.executable, "-m", "mentallama_jax", "train", "toy", f"training.run_dir={folder}", "mesh.fsdp=null"]
    started = []
    for process in range(processes):
        flags = ["--coordinator", coordinator, "--processes", str(processes), "--process", str(process)]
        log = (folder.parent / f"{folder.name}-{process}.log").open("w")
        started.append(subprocess.Popen([*words, *changes, *(flags if processes > 1 else [])], stdout=log, stderr=log))
    for one in started:
        if one.wait():
            raise subprocess.CalledProcessError(one.returncode, words)
    return [row for row in read_metrics(folder / "metrics.jsonl") if row["kind"] == "validation"][-1]


def main() -> None:
    """Train on each number of processes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("changes", nargs="*", metavar="key=value", help="changes of the toy's config")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4], metavar="N", help="(default: 1 4)")
    options = parser.parse_args()
    print(
        "| processes | update | validation loss | label F1 | seconds of its answers | idle |\n|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        for processes in options.processes:
            row = train(processes, Path(folder) / str(processes), options.changes)
            print(
                f"| {processes} | {row['step']} | {row['validation_loss']:.4f} | {row['label_f1']:.4f} | "
                f"{row['label_f1_seconds']:.2f} | {row['label_f1_idle']:.0%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
