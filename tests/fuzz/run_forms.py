"""Files that say how a run is made: configs, run directories, checkpoints, metrics, plans, scores."""

import json
import random
import re
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import yaml
from hostile import Files, Form, WrongError
from model_forms import json_or_bytes
from mutations import ABSURD, LITERALS, change_bytes, change_lines, dumps

from mentallama_jax.cli.bench_command import _read_plan
from mentallama_jax.config import RunConfig, load_config, parse_config
from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.probes.kept_scores import KeptScores
from mentallama_jax.evaluation.probes.prefix_table import read_prefixes
from mentallama_jax.evaluation.probes.rewordings import read_rewordings
from mentallama_jax.jobs.export import read_scores
from mentallama_jax.models.llama import LlamaConfig
from mentallama_jax.storage import AnyPath
from mentallama_jax.training.run import opened_run
from mentallama_jax.training.run.checkpoints import (
    Checkpoints,
    complete_checkpoints,
    damage,
    find_checkpoint,
    load_params,
)
from mentallama_jax.training.run.loss_picture import draw_loss_curve
from mentallama_jax.training.run.metrics import MetricsLog
from mentallama_jax.training.run.opened_run import load_run
from mentallama_jax.training.run.run_directory import RunDirectory

YAML = """\
# A run.
model:
  source: toy
  weights: random
  remat: [attention, gate]
data:
  train: [sample:train]
  validation: [sample:val]
  datasets: [all]
  weights: {DR: 2.0, SAD: 0.5}
  max_length: 256
optimizer:
  learning_rate: 3.0e-5
  beta2: 0.95
training:
  run_dir: runs/toy
  seed: 7
  epochs: 1.5
  batch_size: 16
mesh:
  data: 1
evaluation:
  generate_rows: 4
  metric: label_f1
checkpoint:
  keep_last: 2
"""
HOSTILE_YAML = [
    "!!int x", "!!float x", "!!binary '%%'", "!!python/object/apply:os.system [id]", "!!python/name:os.system", "!x y",
    "!!timestamp x", "2001-01-01", "2001-13-45", "2001-01-01 99:99:99", ".nan", ".inf", "-.inf", "0x10", "010", "1:30",
    "1_000", "yes", "no", "on", "null", "~", "*a", "&a [*a]", "&a {x: *a}", "{<<: 1}", "{<<: [a]}", "? x", "{1: 2}",
    "{[1]: 2}", "{a: 1, a: 2}", "[" * 3000, "[" * 200 + "]" * 200, "9" * 5000, "1e999", "1e5", '"\\ud800"', '"\\x00"',
    '"\\x1b[31m"', "'[/x][red]'", "|\n  text", ">-\n  text", "@x", "`x`", "%x", "\tx", "!!set {a}", "!!omap [a: 1]",
    "!!pairs [a: 1]", "!!str 5", "!!bool 1", "!!null x", "!!seq x", "!!map x", "[1", "{a: 1", "'open", "a: b: c",
    "-1", "0", "1", "1.5", "1e308", "true", "4.0", "12345678901234567890", "-9223372036854775809", "''", "[]", "{}",
]  # fmt: skip


def run_forms() -> Iterator[Form]:
    """Every kind of file of a run."""
    yield Form("yaml", {"config.yaml": YAML.encode(), "changes.txt": b"data.max_length=128"}, _damage_yaml, _read_yaml)
    plan = [{"seconds": {"update": [1.0, 2.0]}, "topology": "v5e-64", "devices": 64, "mesh": {"data": 64}}]
    yield Form("plan", {"plan.json": dumps(plan)}, json_or_bytes(["plan.json"]), _plan)
    scores = {"datasets": {"DR": {"weighted_f1": 0.5, "interval": [0.4, 0.6], "rows": 4}}, "summary": {"f1": 0.5}}
    yield Form("scores", {"scores.json": dumps(scores)}, json_or_bytes(["scores.json"]), _scores)
    rows = [{"kind": "train", "step": step, "loss": 2.0 - step / 10, "epoch": 0.1} for step in range(1, 5)]
    rows.append({"kind": "validation", "step": 4, "validation_loss": 1.5})
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    yield Form("metrics", {"metrics.jsonl": lines}, _damage_metrics, _metrics)
    kept = [{"key": f"{number:064x}", "sums": {"yes": -1.5, "no": -2.5}, "truncated": 0} for number in range(4)]
    probe = {
        "prefixes.yaml": dumps(
            {"neutral": ["It rains."], "groups": {"age": {"old": "I am 80.", "young": ["I am 16."]}}}
        ),
        "rewordings.yaml": dumps({"Does the post show risk of {aspect}?": ["Is there a risk of {aspect}?"]}),
        "probe_scores.jsonl": "".join(json.dumps(row) + "\n" for row in kept).encode(),
    }
    yield Form("probe", probe, _damage_probe, _probe)
    run = _run()
    names = ["config.json", "model_config.json", "data.json", "versions.json"]
    names.append(next(name for name in run if name.endswith("manifest.json")))
    yield Form("run", run, json_or_bytes(names), _open_run)
    yield Form("checkpoint", run, _damage_checkpoint, partial(_read_checkpoint, run))


def _damage_probe(files: Files, rng: random.Random) -> str:
    if rng.random() < 0.5:
        return json_or_bytes(["prefixes.yaml", "rewordings.yaml"])(files, rng)
    files["probe_scores.jsonl"], what = change_lines(files["probe_scores.jsonl"], rng)
    return what


def _probe(folder: Path) -> None:
    """Each file is read, whatever becomes of the others; the first error counts."""
    errors: list[UserError] = []

    def read(reader: Callable[[Path], Any], name: str) -> Any:
        try:
            return reader(folder / name)
        except UserError as error:
            errors.append(error)

    table, questions = read(read_prefixes, "prefixes.yaml"), read(read_rewordings, "rewordings.yaml")
    if table and not all(text.strip() for texts in table.groups["age"].values() for text in texts):
        raise WrongError("an empty sentence")
    if questions:
        [question.format(aspect="x") for texts in questions.values() for question in texts]
    read(_kept_scores, "probe_scores.jsonl")
    if errors:
        raise errors[0]


def _kept_scores(path: Path) -> None:
    with KeptScores(path) as kept:
        scores = next((kept[key] for key in (f"{number:064x}" for number in range(4)) if key in kept), None)
        if scores and not np.isfinite(list(scores.probabilities.values())).all():
            raise WrongError("a probability that is no number")


def _damage_yaml(files: Files, rng: random.Random) -> str:
    lines = files["config.yaml"].decode().splitlines()
    at = rng.randrange(1, len(lines))
    kind = rng.choice(
        ["value"] * 5 + ["change"] * 3 + ["twice", "gone", "indent", "bytes", "bomb", "section", "absurd"]
    )
    hostile = rng.choice(HOSTILE_YAML)
    if kind == "value":
        lines[at] = lines[at].partition(":")[0] + ": " + hostile
    elif kind == "change":
        key = rng.choice([line.partition(":")[0].strip() for line in lines if line.startswith(" ")])
        section = rng.choice(["training", "data", "model", "evaluation", "optimizer", "", "a" * 500, "\x1b"])
        files["changes.txt"] = f"{section}.{key}={hostile}".encode("utf-8", "surrogatepass")
        return f"change {section}.{key}={hostile:.30}"
    elif kind == "twice":
        lines.insert(rng.randrange(len(lines)), lines[at])
    elif kind == "gone":
        del lines[at]
    elif kind == "indent":
        lines[at] = rng.choice([" ", "\t", "    ", "- ", "? ", "--- ", "... ", "%YAML 9"]) + lines[at]
    elif kind == "bytes":
        files["config.yaml"], what = change_bytes(files["config.yaml"], rng)
        return what
    elif kind == "bomb":
        bomb = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))]
        lines = [*bomb, *lines]
    elif kind == "section":
        lines = [line if rng.random() < 0.8 or not line.startswith("  ") else "" for line in lines]
    else:
        values = yaml.safe_load("\n".join(lines))
        section = rng.choice(list(values))
        key = rng.choice(list(values[section]))
        values[section][key] = rng.choice([value for value in ABSURD if str(value) not in LITERALS])
        files["config.yaml"] = dumps(values)
        return f"{section}.{key} = {values[section][key]!r:.30}"
    files["config.yaml"] = "\n".join(lines).encode("utf-8", "surrogatepass")
    return f"{kind} of line {at}: {lines[min(at, len(lines) - 1)]:.50}"


def _read_yaml(folder: Path) -> None:
    changes = (folder / "changes.txt").read_text("utf-8", "surrogatepass").split("\n")
    config = load_config(folder / "config.yaml", [change for change in changes if change])
    json.dumps(config.model_dump(mode="json"), allow_nan=False).encode()
    if config.training.seed.bit_length() > 63 or not 0 <= config.optimizer.beta2 < 1:
        raise WrongError(f"seed {config.training.seed}, beta2 {config.optimizer.beta2}")
    for line in (folder / "config.yaml").read_text("utf-8-sig").splitlines():
        if re.fullmatch(
            r"\s*(generate_rows|seed|batch_size|keep_last|max_length): (yes|no|on|true|010|1:30|0x10)", line
        ):
            raise WrongError(f"read as a number: {line}")


def _plan(folder: Path) -> None:
    plan = _read_plan(str(folder / "plan.json"))
    if not all(0 < bound < 1e30 for bound in plan["seconds"]["update"]):
        raise WrongError("times of no plan")


def _scores(folder: Path) -> None:
    read_scores(folder / "scores.json")


def _damage_metrics(files: Files, rng: random.Random) -> str:
    change = change_lines if rng.random() < 0.75 else change_bytes
    files["metrics.jsonl"], what = change(files["metrics.jsonl"], rng)
    return what


def _metrics(folder: Path) -> None:
    with MetricsLog(folder / "metrics.jsonl", folder / "tensorboard", 4, evaluated=True) as log:
        log.write("train", 5, {"loss": 1.0})
    with mock.patch("matplotlib.figure.Figure.savefig"):  # drawing takes longer than all the rest
        draw_loss_curve(folder / "metrics.jsonl", folder / "loss.png")


MODEL = LlamaConfig(32, 8, 8, 1, 2, 1, 4, 1e-5, 10000.0, None, True, 64)
CONFIG = {"model": {"source": "toy"}, "data": {"train": ["sample"]}, "training": {"run_dir": "run", "steps": 5}}
DATA = {"fingerprints": {"train": "a" * 64, "validation": None}, "examples": 4}
PARAMS = {"scale": np.arange(24, dtype=np.float32), "matrix": np.random.default_rng(0).normal(size=(200, 200))}
PARAMS = {name: value.astype(np.float32) for name, value in PARAMS.items()}


class _Tokenizer:
    def save(self, folder: Path) -> None:
        """Write nothing."""


def _config(folder: Path) -> RunConfig:
    return parse_config(CONFIG | {"training": {"run_dir": str(folder), "steps": 5}}, "test")


def _run() -> dict[str, bytes]:
    """The files of a run with a real checkpoint, as the program writes them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        run, config = RunDirectory(folder), _config(folder)
        with run.locked():
            run.prepare(config, MODEL, DATA, _Tokenizer(), lambda _: None)
            with Checkpoints(run.checkpoints, config) as checkpoints:
                state = {"params": jax.tree.map(jnp.asarray, PARAMS), "opt_state": {"m": jnp.zeros(3)}}
                checkpoints.save(3, state | {"step": jnp.asarray(3)})
                checkpoints.add_scores(3, {"validation_loss": 1.5})
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in files.items() if name != "run.lock"}


def _open_run(folder: Path) -> None:
    config = _config(folder)
    said: list[str] = []
    with mock.patch.object(opened_run, "load_params", return_value={}):
        for which in ("best", "last", 3):
            loaded = load_run(folder, which)
            _check_run(loaded)
    run = RunDirectory(folder)
    with run.locked(said.append):
        run.prepare(config, MODEL, DATA, _Tokenizer(), said.append)


def _check_run(loaded: Any) -> None:
    checkpoint = loaded.checkpoint
    if checkpoint.step != 3 or not all(isinstance(score, float) for score in checkpoint.scores.values()):
        raise WrongError(f"step {checkpoint.step}, scores {checkpoint.scores}")
    for field in LlamaConfig.__dataclass_fields__:
        value = getattr(loaded.model_config, field)
        known = getattr(MODEL, field)
        odd = isinstance(value, int | float) and bool(value) and not 0 < value < 2**40
        if type(value) is not type(known) or odd or (isinstance(known, str) and value != known):
            raise WrongError(f"{field} is {value!r:.40}")


def _damage_checkpoint(files: Files, rng: random.Random) -> str:
    # Most often the largest files, which hold the numbers.
    names = sorted((name for name in files if name.startswith("checkpoints/")), key=lambda name: len(files[name]))
    name = rng.choice(rng.choice([names, names[-2:]]))
    kind = rng.choice(["bytes", "bytes", "bytes", "gone"])
    if kind == "gone":
        del files[name]
    else:
        files[name], kind = change_bytes(files[name], rng)
    return f"{name}: {kind}"


def _read_checkpoint(whole: Files, folder: Path) -> None:
    directory: AnyPath = folder / "checkpoints"
    there = {name: (folder / name).read_bytes() for name in whole if (folder / name).exists()}
    for checkpoint in complete_checkpoints(directory):
        if there != whole and damage(checkpoint) is None:
            raise WrongError("no damage was seen")
    checkpoint = find_checkpoint(directory, "last", "validation_loss")
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = {key: jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=device) for key, value in PARAMS.items()}
    loaded = load_params(checkpoint, wanted)
    for key, value in PARAMS.items():
        if np.asarray(loaded[key]).tobytes() != value.tobytes():
            raise WrongError(f"{key} was read as other numbers")
