"""`mentallama plan`: will a job fit, how fast will it be, what will it cost?"""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from mentallama_jax.cli.int8_options import INT8_OPTIONS, add_int8_options, int8_of
from mentallama_jax.cli.task_options import add_tasks
from mentallama_jax.errors import UserError
from mentallama_jax.storage import expanded

if TYPE_CHECKING:
    from mentallama_jax.config import RunConfig
    from mentallama_jax.models.registry import TrainedConfig
    from mentallama_jax.planning.answering import AnswerPlan
    from mentallama_jax.planning.plan import Plan
    from mentallama_jax.planning.recipe import Recipe
    from mentallama_jax.planning.scoring import ScorePlan
    from mentallama_jax.planning.topologies import Topology
    from mentallama_jax.terminal import Console

_DESCRIPTION = """\
Compile the very training step of a config for chips that are not here, with the TPU compiler itself (extra `tpu`), and
report memory, operations, communication, time, hours and money. Nothing is rented, loaded or trained. CONFIG and
key=value are those of `mentallama train`. v5e-N and v6e-N count chips, v4-N and v5p-N count TensorCores, two a chip.
For GPUs (h100-N, a100-N) nothing can be compiled here: formulas, and the report says so.

What is printed: does it fit, how long, how much money, and the command that runs it as planned; with --details every
figure behind that. Vendors' names are taken as well: v5litepod-64, a3-highgpu-8g, H100x8, p5.48xlarge.

The time is a range: with all communication hidden behind computation, and with none. Its computing part is the
compiler's own estimate, plus a formula for attention kernels, for which the compiler has none.

With --generate it is the program of `mentallama generate` instead of the training step: prompts in, answers out, along
the config's mesh and in its compute_dtype. The config's data and batch do not count then. On several hosts a config
that says nothing of its mesh is planned as `generate` works there: a copy of the model on each host, if it holds one.

With --score MODEL, and no CONFIG, it is the program of `mentallama evaluate --metrics bartscore`: pairs of texts in,
log-probabilities out, in fp32, the whole model on every chip. MODEL is a shape (bart-large), or a folder or a hub id of
a BART or T5.
"""

_EPILOG = """\
examples:
  mentallama plan configs/llama2-7b.yaml --topology v5e-64
  mentallama plan configs/llama2-7b.yaml --topology v5e-32 --topology v5p-16 --search
  mentallama plan configs/llama2-7b.yaml mesh.data=2 training.micro_batch_rows=512 training.batch_size=512 \\
      training.batch_unit=rows --topology v5e-256 --slices 2 --json
  mentallama plan configs/llama2-7b.yaml mesh.tensor=8 --topology v5e-8 --generate --batch-size 64
  mentallama plan configs/llama2-7b.yaml mesh.tensor=8 --topology v5e-8 --generate --weights int8 --cache-dtype int8
  mentallama plan configs/llama2-7b.yaml --topology v5e-16 --generate --batch-size 256
  mentallama plan configs/classifier-minilm.yaml model.source=bert-base model.compute_dtype=bfloat16 \\
      data.max_length=512 training.micro_batch_rows=64 training.batch_size=64 training.batch_unit=rows --topology v5e-8
  mentallama plan configs/continued-pretraining.yaml training.steps=4000 --topology v5e-64
  mentallama plan --score bart-large --topology v5e-8
"""

_ANSWERS = {"batch_size": 16, "prompt": 256, "new_tokens": 256}
"""Defaults of --generate: rows and new tokens as in `mentallama generate`; most prompts of the tests are shorter."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "plan",
        help="will a job fit on TPUs or GPUs, how fast, at what price",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "config", type=expanded, metavar="CONFIG", nargs="?", help="YAML file, such as configs/llama2-7b.yaml"
    )
    parser.add_argument("overrides", metavar="key=value", nargs="*", default=[], help="changes to it")
    parser.add_argument(
        "--topology",
        action="append",
        required=True,
        metavar="NAME",
        help="v5e-64, v5e:4x8, h100-8, or as vendors call them; may repeat",
    )
    parser.add_argument("--slices", type=int, default=1, metavar="N", help="slices or nodes joined by a network (1)")
    parser.add_argument("--search", action="store_true", help="try meshes, micro-batches and remat, and rank them")
    parser.add_argument(
        "--limit",
        type=int,
        default=6,
        metavar="N",
        help="meshes and micro-batches that --search compiles of each topology, with one or more choices of remat (6)",
    )
    parser.add_argument("--price", type=float, metavar="DOLLARS", help="for an hour of a chip, instead of the table's")
    parser.add_argument("--data", action="store_true", help="pack the config's own data rather than assume lengths")
    parser.add_argument(
        "--rows",
        type=int,
        metavar="N",
        help="training examples, where assumed (72093, or those of a classifier's data set; of raw text pieces of at "
        "most a row); with --generate posts to "
        "answer, with --score pairs to score (19353)",
    )
    parser.add_argument(
        "--mean-tokens",
        type=float,
        metavar="N",
        help="of an example, assumed (182; 113 of a post that a classifier reads; a full row of raw text); with "
        "--score of the longer text of each pair (113)",
    )
    parser.add_argument(
        "--kernel-efficiency", type=float, default=0.5, metavar="X", help="share of the peak of attention kernels (0.5)"
    )
    parser.add_argument("--generate", action="store_true", help="plan `mentallama generate` instead of training")
    parser.add_argument(
        "--score", type=expanded, metavar="MODEL", help="plan BARTScore by this model instead of training; no CONFIG"
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="--generate: rows at once (16)")
    parser.add_argument("--prompt", type=int, metavar="N", help="--generate: tokens of every prompt (256)")
    parser.add_argument("--new-tokens", type=int, metavar="N", help="--generate: tokens of every answer (256)")
    add_int8_options(parser, "--generate: ")
    parser.add_argument(
        "--drafts",
        type=int,
        metavar="N",
        help="--generate: tokens that a step guesses (0); none is counted as right, so see what the step costs",
    )
    parser.add_argument(
        "--cache-dir", type=expanded, default=".cache/plan", metavar="DIR", help="where compiled figures are kept"
    )
    parser.add_argument("--details", action="store_true", help="print every figure behind the verdict as well")
    parser.add_argument("--json", action="store_true", help="print every figure as JSON")
    add_tasks(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Plan; 0 where something fits, 1 where nothing does."""
    from mentallama_jax.planning import answer_report, ranking, report, scoring_report
    from mentallama_jax.planning.topologies import parse_topology

    _check(options)
    console = _console()
    topologies = [parse_topology(name, options.slices) for name in options.topology]
    told: Any  # the report of such plans
    plans: list[Any]
    if options.score:
        told, plans = scoring_report, [*_scoring(options, topologies)]
    elif options.generate:
        told, plans = answer_report, [*_answering(options, topologies)]
    else:
        told, plans = report, [*_training(options, topologies)]
    if options.json:
        print(json.dumps([told.as_json(plan) for plan in plans], indent=1))
        return 0 if any(plan.fits for plan in plans) else 1
    commands = [] if told is not report else [_command(options, plan) for plan in plans]
    if options.search:
        ranking.show_ranking(plans, commands, console)
    for number, plan in enumerate(plans if options.details or not options.search else []):
        if number or options.search:
            console.print()
        told.show(plan, console, *commands[number : number + 1], details=options.details)
    return 0 if any(plan.fits for plan in plans) else 1


def _console() -> "Console":
    """As wide as the terminal, or as a page where there is none."""
    from mentallama_jax.terminal import Console

    return Console(width=None if sys.stdout.isatty() else 130)


def _training(options: argparse.Namespace, topologies: "list[Topology]") -> "list[Plan]":
    from mentallama_jax.config import load_config, with_tasks
    from mentallama_jax.imhi.tasks import own_tasks
    from mentallama_jax.jobs.open_shape import trained_shape
    from mentallama_jax.planning.plan import make_plan
    from mentallama_jax.planning.prices import chip_price
    from mentallama_jax.planning.search import plans_by_remat

    config = with_tasks(load_config(options.config, options.overrides), options.tasks)
    model = trained_shape(config)
    with own_tasks(config.data.tasks):
        recipe = _recipe(config, options)
    if options.search:
        return _search(options, model, config, topologies, recipe)
    given = (options.cache_dir, options.kernel_efficiency)
    plans = []
    for topology in topologies:
        rows, price = _rows(config, topology), chip_price(topology, options.price)
        _say_compiling(topology, options)
        if rows.model.remat == "auto":
            plans += plans_by_remat(model, rows, topology, recipe, price, *given)[-1:]
        else:
            plans.append(make_plan(model, rows, topology, recipe, price, *given))
    return plans


def _command(options: argparse.Namespace, plan: "Plan") -> list[str]:
    """The words of the command that trains as planned."""
    from mentallama_jax.config import load_config
    from mentallama_jax.planning.verdict import chosen_keys

    given = load_config(options.config, options.overrides)
    chosen = chosen_keys(plan.config, given, plan.topology)
    changed = {word.partition("=")[0] for word in chosen}
    kept = [word for word in options.overrides if word.partition("=")[0] not in changed]
    hosts = [] if plan.topology.is_one_host else ["--distributed"]
    tasks = ["--tasks", *map(str, options.tasks)] if options.tasks else []
    return ["mentallama", "train", str(options.config), *kept, *chosen, *hosts, *tasks]


def _answering(options: argparse.Namespace, topologies: "list[Topology]") -> "list[AnswerPlan]":
    from mentallama_jax.config import load_config, with_tasks
    from mentallama_jax.generation.drafts import check_drafts
    from mentallama_jax.jobs.open_shape import trained_shape
    from mentallama_jax.models.registry import language_model
    from mentallama_jax.planning.answering import TEST_POSTS, make_answer_plan
    from mentallama_jax.planning.compilation import Answers
    from mentallama_jax.planning.prices import chip_price

    config = with_tasks(load_config(options.config, options.overrides), options.tasks)
    model = language_model(trained_shape(config), config.model.source)
    rows, prompt, new_tokens = (getattr(options, name) or default for name, default in _ANSWERS.items())
    check_drafts(options.drafts or 0)
    answers = Answers(rows, prompt, new_tokens, **int8_of(options), drafts=options.drafts or 0)
    posts = options.rows or TEST_POSTS
    given = (options.cache_dir, options.kernel_efficiency)
    plans = []
    for topology in topologies:
        _say_compiling(topology, options)
        price = chip_price(topology, options.price)
        plans.append(make_answer_plan(model, config, topology, answers, posts, price, *given))
    return plans


def _scoring(options: argparse.Namespace, topologies: "list[Topology]") -> "list[ScorePlan]":
    from mentallama_jax.jobs.open_shape import scorer_shape
    from mentallama_jax.planning.answering import TEST_POSTS
    from mentallama_jax.planning.prices import chip_price
    from mentallama_jax.planning.scoring import MEAN_TOKENS, make_score_plan

    model = scorer_shape(options.score)
    pairs, tokens = options.rows or TEST_POSTS, options.mean_tokens or MEAN_TOKENS
    given = (options.cache_dir, options.kernel_efficiency)
    plans = []
    for topology in topologies:
        _say_compiling(topology, options)
        price = chip_price(topology, options.price)
        plans.append(make_score_plan(options.score, model, topology, pairs, tokens, price, *given))
    return plans


def _say_compiling(topology: "Topology", options: argparse.Namespace) -> None:
    """Say what is waited for; formulas, as of GPUs, take no time."""
    if not topology.is_gpu:
        kept = f"{options.cache_dir} keeps what it says"
        print(f"asking the compiler about {topology.name}: seconds to minutes; {kept}", file=sys.stderr, flush=True)


def _rows(config: "RunConfig", topology: "Topology") -> "RunConfig":
    from mentallama_jax.planning.plan import with_whole_rows

    whole = with_whole_rows(config, topology)
    rows = whole.training.micro_batch_rows
    if rows != config.training.micro_batch_rows:
        print(
            f"warning: training.micro_batch_rows {config.training.micro_batch_rows} does not divide on "
            f"{topology.name}; planned with {rows}, so train with training.micro_batch_rows={rows}",
            file=sys.stderr,
        )
    return whole


def _check(options: argparse.Namespace) -> None:
    for name in ("limit", "price", "rows", "mean_tokens", "kernel_efficiency", *_ANSWERS):
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise UserError(f"--{name.replace('_', '-')}: must be above 0")
        if value is not None and name in _ANSWERS and not options.generate:
            raise UserError(f"--{name.replace('_', '-')} goes with --generate")
    for name in (*INT8_OPTIONS, "drafts"):
        if getattr(options, name) is not None and not options.generate:
            raise UserError(f"--{name.replace('_', '-')} goes with --generate")
    if options.score and (options.config or options.generate or options.search or options.data):
        raise UserError("--score takes no CONFIG, no key=value, and none of --generate, --search and --data")
    if not options.score and not options.config:
        raise UserError("CONFIG: name a YAML file, such as configs/llama2-7b.yaml; without one only --score is planned")
    if options.generate and (options.search or options.data):
        raise UserError("--search and --data are for training; they do not go with --generate")
    if options.generate and options.new_tokens == 1:
        raise UserError("--new-tokens: at least 2, as the first token comes from the prompt")
    if options.kernel_efficiency > 1:
        raise UserError("--kernel-efficiency: a share of the peak, at most 1")


def _search(
    options: argparse.Namespace,
    model: "TrainedConfig",
    config: "RunConfig",
    topologies: "list[Topology]",
    recipe: "Recipe",
) -> "list[Plan]":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from mentallama_jax.planning.search import search
    from mentallama_jax.terminal import Console

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def progress(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=what)
            if not console.is_terminal:
                print(f"[{done}/{total}] {what}", file=sys.stderr, flush=True)

        return search(
            model,
            config,
            topologies,
            recipe,
            limit=options.limit,
            price=options.price,
            cache_dir=options.cache_dir,
            kernel_efficiency=options.kernel_efficiency,
            progress=progress,
        )


def _recipe(config: "RunConfig", options: argparse.Namespace) -> "Recipe":
    from dataclasses import replace

    from mentallama_jax.config import ClassificationSection, DocumentsSection, GrpoSection, SequenceSection
    from mentallama_jax.imhi.learnt_classes import classes_of
    from mentallama_jax.imhi.mixture import ALL
    from mentallama_jax.planning.recipe import (
        Assumptions,
        assumed_recipe,
        assumed_tokens,
        recipe_of_documents,
        recipe_of_lengths,
    )

    classifies = isinstance(config.objective, ClassificationSection)
    if isinstance(config.objective, GrpoSection):
        raise UserError(
            "objective.kind grpo: sampling takes most of its time, and how long answers get is not known; plan the "
            "update with objective.kind=supervised, and the sampling with --generate"
        )
    if isinstance(config.objective, DocumentsSection) and not options.data:
        return recipe_of_documents(config, options.rows, options.mean_tokens)
    known = 0
    if not isinstance(config.objective, DocumentsSection):
        sizes = [task.sizes for task in classes_of(config.data).tasks]
        known = sum(size[0] for size in sizes if size) if all(sizes) else 0
    if not options.data:
        there = Assumptions().rows
        if classifies or config.data.exclude or ALL not in config.data.datasets:
            there = sum(size[0] for size in sizes if size) or there
        there = min(there, config.data.max_rows or there)
        tokens = options.mean_tokens or assumed_tokens(config)
        recipe = assumed_recipe(config, Assumptions(options.rows or there, tokens))
        return replace(recipe, assumed=options.rows is None, known=known)
    from mentallama_jax.jobs.open_encoder import base_encoder
    from mentallama_jax.jobs.open_sequence import base_sequence_model
    from mentallama_jax.jobs.tune import base_model
    from mentallama_jax.training.data.examples import load_examples

    if isinstance(config.objective, SequenceSection):
        base = base_sequence_model(config)
    else:
        base = base_encoder(config) if classifies else base_model(config)
    examples = load_examples(config, base.tokenizer, lambda _: None)
    return replace(recipe_of_lengths(config, examples.train.row_lengths), known=known)
