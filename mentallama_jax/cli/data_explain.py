"""`mentallama data explain`: explanations of known labels, asked for and checked as the benchmark was built."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mentallama_jax.cli.endpoint_options import add_endpoint_options, disguise_of, notice_lines, remote_of
from mentallama_jax.cli.task_options import add_tasks
from mentallama_jax.errors import UserError
from mentallama_jax.storage import expanded, local_path

if TYPE_CHECKING:
    from mentallama_jax.cli.asking_progress import AskingProgress
    from mentallama_jax.jobs.explain import Collection
    from mentallama_jax.jobs.explanation_answers import ExplanationAnswers

EXPLAIN = """\
Collect explanations as the benchmark was built: a model is shown an instruction, two explanations by experts of each
label, a post and its gold label, and writes why the label fits. The model is one of this machine, or with --endpoint
one behind an OpenAI-compatible endpoint (see `mentallama ask --help` for keys, prices and what is kept of answers).

Then every answer is checked, and kept or rejected with the reason:
  - it must state the gold label, explain it, and not argue for another; a cut answer is rejected too;
  - with --classifiers, a classifier reads the label from the explanation alone: a figure, as in the paper, and with
    --reject-inconsistent a reason to reject;
  - with --bartscore-model, explanations of posts that an expert explained too are scored against the expert's: a
    figure, as in the paper, and with --min-bartscore a reason to reject.

  OUT/kept.jsonl          records with the new explanations, for `mentallama train`
  OUT/rejected.jsonl      the others, with the answer and the reasons
  OUT/report.json         counts of both, agreement, consistency and BARTScore, for all rows and each data set
  OUT/predictions.jsonl   the kept answers, for `mentallama data annotate`
  OUT/answers.jsonl       what the model answered; the same command asks only for what is missing there

With --disguise, identifiers in posts are replaced first, and the kept records are the disguised ones: what a model
writes speaks of the post that it saw.

For research only. The posts are of people, some in distress: whether they may be sent to a third party, or passed on
with explanations, is said by the terms of the platforms and data sets, and by your ethics board.
"""

EXPLAIN_EPILOG = """\
examples:
  mentallama data explain sample:test --model runs/toy --examples sample:train --out explained
  mentallama data explain data/dr.jsonl --model gpt-4o-mini --endpoint https://api.openai.com/v1 --examples experts/DR.csv --prices prices.yaml --max-cost 20 --send-posts --out explained
  mentallama data explain data/dr.jsonl --model runs/chat-7b --examples experts/DR.csv --classifiers runs/classifiers --bartscore-model models/bart --out explained

then have a part of them marked by people:
  mentallama data annotate explained/predictions.jsonl --data explained/kept.jsonl --out study --rows 50
"""  # noqa: E501


def add_explain(parser: argparse.ArgumentParser) -> None:
    """Add the options of the action."""
    add: Any = parser.add_argument
    add("sources", nargs="+", type=expanded, metavar="SOURCE", help="records with labels; SOURCE:train takes a split")
    add("--model", type=expanded, metavar="MODEL", required=True, help="what `generate` takes; the endpoint's own name")
    add(
        "--examples",
        nargs="+",
        type=expanded,
        metavar="SOURCE",
        required=True,
        help="records with explanations by experts: shown in prompts, and what BARTScore compares with",
    )
    add("--out", type=local_path, metavar="FOLDER", required=True, help="where the files are written")
    add(
        "--examples-per-label", type=int, default=2, metavar="N", help="shown in each prompt (default: 2, as the paper)"
    )
    add("--instruction", type=local_path, metavar="FILE", help="a text that stands in front instead of ours")
    add("--datasets", nargs="+", default=["all"], metavar="NAME", help="data sets to explain (default: all)")
    add("--max-rows", type=int, metavar="N", help="at most N rows of each data set, chosen by --seed (default: all)")
    add("--seed", type=int, default=0, metavar="N", help="of examples, rows and sampling (default: 0)")
    add("--batch-size", type=int, default=16, metavar="N", help="rows at once of a model here (default: 16)")
    add_tasks(parser, run="model")
    checks: Any = parser.add_argument_group("checks").add_argument
    checks("--shortest", type=int, default=1, metavar="N", help="words of an explanation at least (default: 1)")
    checks("--classifiers", type=local_path, metavar="FOLDER", help="a classifier of explanations for each data set")
    checks("--reject-inconsistent", action="store_true", help="reject what a classifier reads another label from")
    checks("--bartscore-model", type=expanded, metavar="MODEL", help="a BART, folder or hub id (default: no score)")
    checks("--bartscore-weights", type=local_path, metavar="FILE", help="other weights for it, such as bart_score.pth")
    checks("--min-bartscore", type=float, metavar="X", help="reject explanations below, in nats (default: none)")
    add_endpoint_options(parser, required=False)
    parser.set_defaults(run=run_explain)


def run_explain(options: argparse.Namespace) -> int:
    """Ask, check, write; 1 where answers are missing."""
    from mentallama_jax.cli.asking_progress import AskingProgress
    from mentallama_jax.evaluation.explanation_checks import Thresholds
    from mentallama_jax.imhi.explanation_prompts import INSTRUCTION
    from mentallama_jax.jobs.explain import CheckModels, check, open_collection, write_collection

    alone = ("send_posts", "price_in", "price_out", "prices", "max_cost", "requests_per_minute", "tokens_per_minute")
    if options.endpoint is None and (given := [name for name in alone if getattr(options, name)]):
        raise UserError(f"--{given[0].replace('_', '-')} goes with --endpoint")
    if options.reject_inconsistent and options.classifiers is None:
        raise UserError("--reject-inconsistent needs --classifiers")
    if options.min_bartscore is not None and options.bartscore_model is None:
        raise UserError("--min-bartscore needs --bartscore-model")
    collection = open_collection(
        options.sources,
        options.examples,
        datasets=options.datasets,
        max_rows=options.max_rows,
        count=options.examples_per_label,
        seed=options.seed,
        instruction=_text(options.instruction) if options.instruction else INSTRUCTION,
        disguise=disguise_of(options),
    )
    with AskingProgress() as progress:
        found = _answers(options, collection, progress)
    if found is None:
        return 1
    thresholds = Thresholds(options.reject_inconsistent, options.min_bartscore, options.shortest)
    models = CheckModels(
        classifiers=options.classifiers,
        bartscore=options.bartscore_model,
        bartscore_weights=options.bartscore_weights,
    )
    report = write_collection(options.out, check(collection, found.answers, thresholds, models), found.said)
    _show(report, options.out)
    return 0


def _answers(
    options: argparse.Namespace, collection: "Collection", progress: "AskingProgress"
) -> "ExplanationAnswers | None":
    from mentallama_jax.jobs.explanation_answers import endpoint_explanations, local_explanations

    kept = options.kept_answers or options.out / "answers.jsonl"
    if options.endpoint is None:
        from mentallama_jax.generation.engine import Settings
        from mentallama_jax.generation.sampling import Sampling
        from mentallama_jax.jobs.answer import open_answerer

        settings = Settings(options.max_new_tokens, Sampling(options.temperature), options.seed, options.batch_size)
        answerer = open_answerer(options.model)
        return local_explanations(collection, answerer, settings, kept, on_start=progress.begin, on_answer=progress.add)
    from mentallama_jax.cli.ask_command import say_missing

    asked, found = endpoint_explanations(
        collection,
        remote_of(options, options.model, log_probabilities=False),
        kept,
        on_notice=lambda lines: progress.say_all(notice_lines(options, lines)),
        on_start=progress.begin,
        on_answer=progress.add,
    )
    say_missing(asked, str(kept))
    return found


def _text(path: Path) -> str:
    from mentallama_jax.files import regular_file
    from mentallama_jax.foreign import reading

    regular_file(path)
    with reading(path, "UTF-8 text", may_hold_posts=True):
        text = path.read_bytes().decode("utf-8-sig").strip()
    if not text:
        raise UserError(f"{path}: is empty; write the instruction there")
    return text


def _show(report: dict[str, Any], out: Path) -> None:
    found = report["all"]
    print(f"kept {found['kept']} of {found['rows']} explanations; their labels agree in {found['label_agreement']:.1%}")
    for reason, count in found["rejected"].items():
        print(f"rejected, as {reason}: {count}")
    if found["consistency"]["rows"]:
        share, rows = found["consistency"]["share"], found["consistency"]["rows"]
        print(f"classifiers read the gold label from {share:.1%} of {rows} explanations")
    if found["bartscore"]["rows"]:
        print(
            f"BARTScore against experts: {found['bartscore']['mean']:.3f} nats over {found['bartscore']['rows']} rows"
        )
    print(f"wrote {out / 'kept.jsonl'}, {out / 'rejected.jsonl'} and {out / 'report.json'}")
    if not found["kept"]:
        print("nothing was kept; look at the reasons in rejected.jsonl")
