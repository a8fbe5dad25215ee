"""`mentallama train`: tune a model, or resume a run."""

import argparse
import atexit
import os
import shlex
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from mentallama_jax.cli.process_options import STOPPED, add_processes, joined_processes, on_other_hosts, process_words
from mentallama_jax.cli.task_options import add_tasks, named_tasks
from mentallama_jax.storage import expanded

if TYPE_CHECKING:
    from mentallama_jax.config import RunConfig
    from mentallama_jax.training.loop import TrainResult

_DESCRIPTION = """\
Tune a LLaMA on IMHI rows, go on with its pre-training on raw text, or tune an encoder to read the labels of one data
set or of several (objective.kind). CONFIG is a YAML file, or the name of a shipped one (`mentallama configs list`),
which say what each key does. Any key can be changed on the command line as section.key=value, read as YAML.
training.steps there replaces training.epochs of the file, and one value is a list of one.

Everything of the run goes to training.run_dir: config.json (with every default filled in), data.json, metrics.jsonl,
loss.png, TensorBoard files, checkpoints and a log. The same command again resumes the run where it stopped: after
Ctrl-C, SIGTERM or SIGHUP (it saves and exits with status 75), after a crash or kill -9 (from the last checkpoint), with
the same losses as if it had never stopped. The best checkpoint by evaluation.metric is kept besides the last ones; of
equals the one with the lower validation loss.

With --extend a run is made longer than it was started: more training.steps or training.epochs. From there on the
learning rate follows the schedule of the longer run, so it rises again where the shorter one had let it fall. That is
another recipe than the long run from the start; data.json records it.

A run on raw text measures perplexity and bits per byte of data.validation before its first update too.
The run of an encoder also holds its best checkpoint as a Hugging Face folder (classifier), and predictions and scores
of the rows of objective.test (test).
"""

_EPILOG = """\
examples:
  mentallama train toy
  mentallama train configs/toy.yaml training.run_dir=runs/seed1 training.seed=1
  mentallama train configs/toy.yaml training.epochs=16 --extend
  mentallama train configs/classifier-toy.yaml objective.class_weights=balanced
  mentallama train configs/continued-pretraining.yaml objective.text_files=blank-lines
  mentallama train configs/smollm2-135m-cpu.yaml data.train='[data/DR]' training.epochs=null training.steps=20

defaults worth knowing (`mentallama train CONFIG --show` prints them all):
  training.batch_size       256 examples an update, as in the paper, however they are packed into rows
  training.micro_batch_rows 4 rows at once; lower it when memory runs out: the result does not change
  data.layout               packed: several examples a row, kept apart by segment ids
  optimizer.learning_rate   1e-5 after a warm-up over 4 % of the updates, then cosine
  evaluation                validation loss after each epoch; evaluation.generate_rows=200 adds label F1
  checkpoint.every_steps    100 updates; checkpoint.keep_last 1, and the best
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "train",
        help="tune a model, or resume a run",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=expanded, metavar="CONFIG", help="YAML file, or a name such as toy")
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", default=[], help="changes to it, such as training.steps=20"
    )
    parser.add_argument("--show", action="store_true", help="print the config with every default filled in, and stop")
    parser.add_argument(
        "--extend", action="store_true", help="go on with a run for more training.steps or training.epochs than it had"
    )
    parser.add_argument(
        "--log-to",
        choices=("wandb", "mlflow"),
        action="append",
        default=[],
        help="send the figures there too, where it is installed; may be repeated. All that is sent are figures, and "
        "numbers and choices of the config. Where it fails, the run goes on",
    )
    add_processes(
        parser,
        "The same command on each, training.run_dir on storage that all share, such as gs://BUCKET/runs/7b.\n"
        "Where one is lost or fails, the others end within 25 s with status 76 and a line that names it; the same\n"
        "commands again resume the run.",
    )
    add_tasks(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train; print where the results are, or how to resume."""
    from mentallama_jax.config import load_config, with_tasks
    from mentallama_jax.training.interruption import StopRequest, ignore_signals

    config = with_tasks(load_config(options.config, options.overrides), options.tasks)
    if options.show:
        import yaml

        print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), end="")
        return 0
    with joined_processes(options), StopRequest(_leave_at_once) as stop:
        stop.where = "once this part of the start is done"
        from mentallama_jax.jobs.tune import tune
        from mentallama_jax.training.run.figure_trackers import sending_figures_to

        with sending_figures_to(options.log_to):
            result = tune(config, stop, extend=options.extend)
        status = _tell(options, config, result)
        atexit.register(ignore_signals)
        return status


def _leave_at_once() -> NoReturn:
    """End the process without taking libraries down, whose threads may be at work: that crashes now and then."""
    if bucket := sys.modules.get("mentallama_jax.training.run.bucket_run"):
        bucket.remove_staging_folders()
    os.write(2, b"interrupted\n")
    os._exit(130)


def _tell(options: argparse.Namespace, config: "RunConfig", result: "TrainResult") -> int:
    from mentallama_jax.parallel.processes import writes_files

    if not writes_files():
        return STOPPED if result.stopped_by else 0
    if result.stopped_by:
        log_to = [word for name in options.log_to for word in ("--log-to", name)]
        flags = [*named_tasks(options), *log_to, *process_words(options)]
        command = shlex.join(["mentallama", "train", options.config, *options.overrides, *flags])
        done = f"{result.steps} of {result.total_steps}"
        print(f"stopped after update {done}; to go on: {command}{on_other_hosts(options)}")
        return STOPPED
    if result.best is not None:
        scores = ", ".join(f"{name} {score:.4f}" for name, score in result.best.scores.items())
        print(f"best checkpoint: update {result.best.step} ({scores})")
    print(f"run directory: {result.run_dir}")
    print(f"next: {shlex.join(_next(config, str(result.run_dir)))}")
    return 0


def _next(config: "RunConfig", run: str) -> list[str]:
    """The words of the command that comes after a run of this kind."""
    if config.objective.kind == "documents":
        return ["mentallama", "export", run, "--out", "FOLDER"]
    if config.objective.kind == "classification":
        return ["mentallama", "report", run, "--out", "REPORT"]
    source, _, split = config.data.train[0].rpartition(":")
    test = f"{source}:test" if source and split == "train" else "DATA:test"
    return ["mentallama", "generate", run, "--data", test, "--out", "PREDICTIONS.jsonl"]
