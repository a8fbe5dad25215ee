"""`mentallama quickstart`: the whole job on the bundled sample, by the commands that do it step by step."""

import argparse
import json
import shlex
import time
from collections.abc import Iterator
from contextlib import nullcontext, redirect_stdout
from io import StringIO
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mentallama_jax.errors import UserError
from mentallama_jax.storage import local_path

if TYPE_CHECKING:
    from mentallama_jax.terminal import Console

_DESCRIPTION = """\
See a LLaMA learn to answer with a label and an explanation: a toy model (real architecture, 0.7 million random
parameters) is tuned on the bundled sample, validated, sampled on the test posts, scored, exported to a Hugging Face
folder, read back and scored again; once for each seed. Each step is one of the other commands, and is shown. The first
seed's scores and export are there after about a minute on two cores, all three seeds after a few; no network is used.

Ends with the scores pooled over seeds, and with status 0 only if the model has learned: the lower end of the 95 %
interval of its weighted F1 is above the F1 of the majority class, and every export scores as its run did.
Stopped half-way, the same command goes on.
"""

_EPILOG = """\
examples:
  mentallama quickstart
  mentallama quickstart --seeds 1 --out runs/try training.epochs=6

For research only: the posts were written for this project, and what the toy says of them is no assessment.
"""

_ANSWERS = ("--data", "sample:test", "--max-new-tokens", "80", "--batch-size", "64")
_SHOWN_ROW = "dreaddit/test/1"
_NOT_LEARNED = 1


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "quickstart",
        help="the whole job on the bundled sample, in minutes",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out",
        type=local_path,
        metavar="DIR",
        help="folder for everything (default: runs/quickstart; where one has finished, runs/quickstart-2 and so on)",
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="how many models to tune (default: 3)")
    parser.add_argument(
        "overrides",
        metavar="key=value",
        nargs="*",
        default=[],
        help="changes to configs/toy.yaml, such as training.epochs=6",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run every step for every seed, then score all seeds together; 0 if the toy has learned."""
    from mentallama_jax.terminal import Console

    if options.seeds < 1:
        raise UserError(f"--seeds {options.seeds}: give a number from 1")
    for override in options.overrides:
        if override.startswith(("training.run_dir=", "training.seed=")):
            raise UserError(
                f"{override}: the quickstart sets this itself; use --out and --seeds, or `mentallama train`"
            )
    started = time.monotonic()
    folder = _folder(options.out)
    console = Console(highlight=False, soft_wrap=True)
    runs = [folder / f"seed{seed}" for seed in range(options.seeds)]
    exports_agree = True
    for seed, run_dir in enumerate(runs):
        console.print(f"\nSeed {seed}: train, generate, evaluate, export, and score the export again", style="bold")
        again = run_dir / "export_again"
        if status := _run_all(_steps(run_dir, seed, options.overrides), console, quiet=seed > 0):
            return status
        if seed == 0:
            _show_first(run_dir, options.seeds, time.monotonic() - started, console)
        if status := _run_all(_steps_again(run_dir, again), console, quiet=True):
            return status
        exports_agree &= _figures(run_dir) == _figures(again)

    console.print("\nAll seeds", style="bold")
    status = _run(
        ["evaluate", *(str(run_dir / "predictions.jsonl") for run_dir in runs), "--pool", "--out", str(folder)], console
    )
    if status:
        return status
    _show_answer(runs[0], console)
    learned = _show_verdict(folder, runs, exports_agree, console)
    console.print(
        f"\nrun directory of each seed: {', '.join(map(str, runs))} ({time.monotonic() - started:.0f} s in all)"
    )
    return 0 if learned and exports_agree else _NOT_LEARNED


def _folder(wanted: Path | None) -> Path:
    """Where to work: a new folder, or that of a quickstart that was stopped."""
    if wanted is None:
        names = (f"quickstart-{number}" if number > 1 else "quickstart" for number in count(1))
        return next(Path("runs") / name for name in names if not (Path("runs") / name / "scores.json").exists())
    if (wanted / "scores.json").exists():
        raise UserError(f"{wanted}: holds a finished quickstart; name another folder with --out")
    return wanted


def _steps(run_dir: Path, seed: int, overrides: list[str]) -> Iterator[list[str]]:
    """The commands of one seed that make a model, its scores and its export."""
    run, export, predictions = str(run_dir), str(run_dir / "export"), str(run_dir / "predictions.jsonl")
    yield ["train", str(_config()), f"training.run_dir={_as_yaml(run)}", f"training.seed={seed}", *overrides]
    yield ["generate", run, *_ANSWERS, "--out", predictions]
    yield ["evaluate", predictions, "--out", run]
    if not Path(export).exists():  # it appears whole or not at all
        yield ["export", run, "--out", export, "--scores", str(run_dir / "scores.json")]


def _steps_again(run_dir: Path, again: Path) -> Iterator[list[str]]:
    """The commands that read the export back and score it."""
    export = str(run_dir / "export")
    yield ["generate", export, *_ANSWERS, "--out", str(again / "predictions.jsonl")]
    yield ["evaluate", str(again / "predictions.jsonl"), "--out", str(again)]


def _config() -> Path:
    """The toy's config: where a clone shows it, or else the one inside the package."""
    from importlib import resources

    shown = Path("configs/toy.yaml")
    return shown if shown.is_file() else Path(str(resources.files("mentallama_jax.imhi"))) / "sample" / "toy.yaml"


def _as_yaml(path: str) -> str:
    """The path as an override's value, quoted only where YAML would read something else."""
    from mentallama_jax.strict_yaml import parse_yaml

    try:
        plain = parse_yaml(path, "the path") == path
    except UserError:
        plain = False
    return path if plain else json.dumps(path)


def _run_all(commands: Iterator[list[str]], console: "Console", quiet: bool) -> int:
    """Run commands in turn; the status of the first that fails, or 0."""
    return next(filter(None, (_run(command, console, quiet) for command in commands)), 0)


def _run(command: list[str], console: "Console", quiet: bool = False) -> int:
    """Show a command and run it; where it is to be quiet, an `evaluate` leaves its table to scores.json."""
    from mentallama_jax.cli.main import build_parser

    console.print("[bold]$[/]", end=" ", markup=True)
    console.print(f"mentallama {shlex.join(command)}")
    options = build_parser().parse_args(command)
    with redirect_stdout(StringIO()) if quiet and command[0] == "evaluate" else nullcontext():
        return int(options.run(options))


def _figures(folder: Path) -> Any:
    """Everything that was scored, without the signature of what it was scored on."""
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return scores["datasets"], scores["pooled"]


def _show_first(run_dir: Path, seeds: int, seconds: float, console: "Console") -> None:
    """Say what is there after the first seed, before anything else is done."""
    _, pooled = _figures(run_dir)
    low, high = pooled["weighted_f1_interval"]
    majority = 100 * pooled["majority_weighted_f1"]
    console.print(
        f"\n[bold]First result[/] after {seconds:.0f} s: label weighted F1 {100 * pooled['weighted_f1']:.1f} "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f}), majority class {majority:.1f}.",
        markup=True,
    )
    console.print(f"scores: {run_dir / 'scores.json'}\nexported model: {run_dir / 'export'}", markup=False)
    rest = f", then {seeds - 1} more {'seed' if seeds == 2 else 'seeds'}" if seeds > 1 else ""
    console.print(f"Next: the export is read back and scored again{rest}.\n")


def _show_answer(run_dir: Path, console: "Console") -> None:
    from mentallama_jax.files import read_jsonl
    from mentallama_jax.imhi.data_files.readers import read_records
    from mentallama_jax.imhi.wording import instruction_query, instruction_response

    record = next(record for record in read_records(["sample:test"]).records if record.id == _SHOWN_ROW)
    answer = next(row for row in read_jsonl(run_dir / "predictions.jsonl") if row["id"] == _SHOWN_ROW)
    console.print(
        "\n[bold]One answer.[/] Toy output for research only; the post was written for this project.", markup=True
    )
    for name, text in (
        ("query", instruction_query(record)),
        ("gold", instruction_response(record)),
        ("model", answer["generated_text"]),
    ):
        console.print(f"{name + ':':7}{text}", markup=False)


def _show_verdict(folder: Path, runs: list[Path], exports_agree: bool, console: "Console") -> bool:
    """Say whether the model beats the majority class, and whether the exports score alike."""
    _, pooled = _figures(folder)
    low, high = pooled["weighted_f1_interval"]
    majority = pooled["majority_weighted_f1"]
    learned = bool(low > majority)
    of_seeds = ", ".join(f"{100 * _figures(run_dir)[1]['weighted_f1']:.1f}" for run_dir in runs)
    console.print(
        f"\nLabel weighted F1 on the {pooled['posts']} test posts, pooled: {100 * pooled['weighted_f1']:.1f} "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f}; by seed {of_seeds}); majority class {100 * majority:.1f}."
    )
    verdict = (
        "[green]It has learned:[/] the lower end is above"
        if learned
        else "[red]Not learned:[/] the lower end is not above"
    )
    console.print(f"{verdict} the majority class.", markup=True)
    console.print(
        "Each export, read back, scores as its run did."
        if exports_agree
        else "[red]An export, read back, does not score as its run did:[/] compare its export_again/scores.json.",
        markup=True,
    )
    return learned
