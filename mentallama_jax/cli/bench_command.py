"""`mentallama bench`: how fast are training and generation on the devices that are here?"""

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mentallama_jax.cli.common_options import check_numbers
from mentallama_jax.errors import UserError
from mentallama_jax.foreign import parse_json
from mentallama_jax.storage import expanded, local_path

if TYPE_CHECKING:
    from mentallama_jax.config import RunConfig
    from mentallama_jax.planning.measure import Measurement

_DESCRIPTION = """\
Time the training step of `mentallama train`, or prefill and decode of `mentallama generate`, on the devices present,
along the config's mesh. Rows are synthetic and full, weights random: no data and no weights are read, nothing is
written but --json. One run warms up; then --repeats runs are timed, each waited for to its end.

Model FLOPs: 6 for each weight of a matrix product and token (2 in generation), causal attention at half of T x T, that
of an encoder at all of it, nothing recomputed. MFU is their share of the chip's bf16 peak; there is none for a CPU. The
last line is a row of Markdown for the table of results in tests/benchmarks/README.md.
"""

_EPILOG = """\
examples:
  mentallama bench step configs/toy.yaml
  mentallama bench step configs/llama2-7b.yaml mesh.tensor=2 --repeats 20 --json step.json
  mentallama bench generate configs/llama2-7b.yaml --rows 32 --prompt 512 --new-tokens 256

a plan against the clock:
  mentallama plan configs/llama2-7b.yaml --topology v5e-64 --json > plan.json
  mentallama bench step configs/llama2-7b.yaml --plan plan.json
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "bench",
        help="measure training and generation on the devices present",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("what", choices=("step", "generate"), help="the training step, or prefill and decode")
    add("config", type=expanded, metavar="CONFIG", help="YAML file, such as configs/llama2-7b.yaml")
    add("overrides", metavar="key=value", nargs="*", default=[], help="changes to it")
    add("--repeats", type=int, default=10, metavar="N", help="timed runs (10)")
    add("--micro-batches", type=int, metavar="N", help="step: of an update (as `plan` assumes for the batch)")
    add("--plan", type=expanded, metavar="FILE", help="step: print measured / estimated, from `mentallama plan --json`")
    add("--rows", type=int, default=16, metavar="N", help="generate: answered together (16)")
    add("--prompt", type=int, default=512, metavar="N", help="generate: tokens of a prompt (512)")
    add("--new-tokens", type=int, default=128, metavar="N", help="generate: tokens of an answer (128)")
    add("--json", type=local_path, metavar="FILE", help="write every figure there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure; print a table and a row of Markdown."""
    from datetime import UTC, datetime

    from mentallama_jax.config import load_config
    from mentallama_jax.jobs.open_shape import trained_shape
    from mentallama_jax.jobs.tune import with_remat
    from mentallama_jax.models.registry import language_model
    from mentallama_jax.planning.measure import measure_generation, measure_step
    from mentallama_jax.planning.recipe import Assumptions, assumed_recipe, assumed_tokens

    _check(options)
    config = load_config(options.config, options.overrides)
    plan = _read_plan(options.plan) if options.plan else None
    model = trained_shape(config)
    if options.what == "step":
        config = with_remat(config, model)
        recipe = assumed_recipe(config, Assumptions(mean_tokens=assumed_tokens(config)))
        micro_batches = options.micro_batches or recipe.micro_batches(config.training.micro_batch_rows)
        if plan is not None:
            _check_plan(plan, config, micro_batches, options.plan)
        results = [
            measure_step(model, config, micro_batches, options.repeats, lambda message: print(message, file=sys.stderr))
        ]
    else:
        sizes = (options.rows, options.prompt, options.new_tokens, options.repeats)
        results = list(measure_generation(language_model(model, config.model.source), config, *sizes))
    values = {
        "config": options.config,
        "overrides": options.overrides,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": _versions(),
        "results": [_as_json(one) for one in results],
    }
    _show(results, config)
    if plan is not None:
        values["measured_over_estimated"] = _compare(plan, results[0], options.plan)
    if options.json:
        from mentallama_jax.files import write_json

        write_json(options.json, values)
    for one in results:
        print(_markdown(one, values))
    return 0


def _check(options: argparse.Namespace) -> None:
    check_numbers(options, {"repeats": 1, "micro_batches": 1, "rows": 1, "prompt": 1, "new_tokens": 2})
    if options.what == "generate" and options.plan:
        raise UserError("--plan: a plan is of the training step; use it with `mentallama bench step`")


def _read_plan(path: str) -> dict[str, Any]:
    from mentallama_jax.files import regular_file

    content = regular_file(Path(path)).read_bytes()
    plans = None
    with suppress(UserError):
        plans = parse_json(content, path)
    match plans:
        case [
            {
                "seconds": {"update": [int() | float() as lower, int() | float() as upper]},
                "topology": str(),
                "devices": int(),
                "mesh": dict(),
            } as plan,
            *_,
        ] if 0 < lower <= upper:
            return dict(plan)
    raise UserError(f"{path}: not the output of `mentallama plan ... --json`, or of a job that does not fit")


def _check_plan(plan: dict[str, Any], config: "RunConfig", micro_batches: int, path: str) -> None:
    here = {
        "micro_batches": micro_batches,
        "micro_batch_rows": config.training.micro_batch_rows,
        "row_length": config.data.max_length,
    }
    for name, value in here.items():
        if plan.get(name) != value:
            raise UserError(f"{path}: planned with {name} {plan.get(name)}, measured with {value}; make them equal")


def _compare(plan: dict[str, Any], result: "Measurement", path: str) -> list[float]:
    lower, upper = plan["seconds"]["update"]
    ratios = [result.median / lower, result.median / upper]
    print(
        f"measured / estimated: {ratios[0]:.3f} (communication hidden) to {ratios[1]:.3f} (none hidden), "
        f"planned for {plan['topology']}"
    )
    if plan["devices"] != result.devices or plan["mesh"] != result.mesh:
        print(f"warning: {path} is of mesh {plan['mesh']}, measured on {result.mesh}", file=sys.stderr)
    return ratios


def _versions() -> dict[str, str]:
    from mentallama_jax.training.run.run_directory import versions

    return versions()


def _as_json(one: "Measurement") -> dict[str, Any]:
    return {
        "what": one.what,
        "device_kind": one.device_kind,
        "devices": one.devices,
        "mesh": one.mesh,
        "rows": one.rows,
        "tokens": one.tokens,
        "compile_seconds": one.compile_seconds,
        "warm_seconds": one.warm_seconds,
        "seconds": list(one.seconds),
        "median_seconds": one.median,
        "quartile_seconds": list(one.quartiles),
        "tokens_per_second": one.tokens_per_second,
        "tokens_per_second_per_chip": one.tokens_per_second / one.devices,
        "model_flops_per_token": one.flops_per_token,
        "mfu": one.utilisation,
        "peak_memory": one.peak_memory,
    }


def _show(results: "list[Measurement]", config: "RunConfig") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from mentallama_jax.terminal import Console
    from mentallama_jax.training.preflight import size

    first = results[0]
    table = Table(
        title=f"{config.model.source} on {first.devices} x {first.device_kind}", box=SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("what", style="bold")
    for one in results:
        table.add_column(one.what)
    mfu = [f"{one.utilisation:.1%}" if one.utilisation is not None else "peak not known" for one in results]
    memory = [size(one.peak_memory) if one.peak_memory is not None else "not told" for one in results]
    rows = {
        "mesh": [", ".join(f"{axis} {count}" for axis, count in one.mesh.items()) for one in results],
        "rows, tokens a run": [f"{one.rows:,}, {one.tokens:,}" for one in results],
        "compile, warm-up": [f"{one.compile_seconds:.2f} s, {one.warm_seconds:.3g} s" for one in results],
        f"median of {len(first.seconds)}": [f"{one.median:.4g} s" for one in results],
        "quartiles": ["{:.4g} to {:.4g} s".format(*one.quartiles) for one in results],
        "min to max": [f"{min(one.seconds):.4g} to {max(one.seconds):.4g} s" for one in results],
        "tokens/s": [f"{one.tokens_per_second:,.0f}" for one in results],
        "tokens/s/chip": [f"{one.tokens_per_second / one.devices:,.0f}" for one in results],
        "model FLOPs a token": [f"{one.flops_per_token:.4g}" for one in results],
        "MFU": mfu,
        "peak memory of a device": memory,
    }
    for name, cells in rows.items():
        table.add_row(name, *cells)
    Console(width=None if sys.stdout.isatty() else 130).print(table)


def _markdown(one: "Measurement", values: dict[str, Any]) -> str:
    mfu = f"{one.utilisation:.1%}" if one.utilisation is not None else "-"
    versions = f"jax {values['versions']['jax']}, Python {values['versions']['python']}"
    config = " ".join([Path(values["config"]).name, *values["overrides"]])
    rate = f"{one.tokens_per_second / one.devices:,.0f}"
    hardware = f"{one.devices} x {one.device_kind}"
    return f"| {one.what} | {hardware} | {versions} | `{config}` | {rate} | {mfu} | {values['date']} |"
