"""`mentallama data disguise`: identifiers of people replaced by keyed pseudonyms."""

import argparse
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mentallama_jax.cli.data_writing import add_writing
from mentallama_jax.cli.task_options import add_tasks
from mentallama_jax.errors import UserError
from mentallama_jax.storage import expanded, local_path

if TYPE_CHECKING:
    from mentallama_jax.imhi.disguise.disguise_key import DisguiseKey
    from mentallama_jax.imhi.disguise.paraphrase import ParaphraseSettings

DISGUISE = """\
Replace what points to people in posts, explanations and outputs, before data are shared or leave the machine. SOURCE is
any source of records, or one .jsonl of predictions (outputs; --data names the posts, where more names are known). OUT
chooses the format as `data convert` does.

  handles          @name, u/name, accounts of messengers          another handle
  groups           r/name                                         r/group_NAME
  names            after a greeting, under a text, "my name is",  a made-up name, everywhere in the post
                   "named", titles, known names after kin
  links, e-mail    also "name at site dot com"                    at example.org
  telephone        crisis lines and free numbers stay             numbers that nobody has
  addresses        streets, boxes, "City, ST 12345"; postcodes    made-up ones that do not exist
  ages             "I'm 23", (23F), 23yo, "born in 1998"          moved by 1 or 2 years; minors stay minors
  dates            also the time beside one                       moved by 1 to 8 weeks; days of the week stay
  platform         "edit:", reddit, crosspost, throwaway, TL;DR   neutral words

Pseudonyms are HMAC-SHA256 of what is replaced: without the key nobody can test a guess. The same name gets the same
pseudonym within a post and its explanation, so that quotes still match; --scope data: in all data of the key. Questions
and label sentences do not change. Names of rows are keyed too (--keep-ids keeps them), and data that are disguised
already are refused.

The key: --new-key FILE makes one (mode 0600), --key-file FILE uses it again, and so does the variable
MENTALLAMA_DISGUISE_KEY. It is never printed or written beside the data; a file in the folder of OUT is refused.

The report (disguise.json in a folder, NAME.disguise.json beside a file, and a table) counts what was replaced by kind,
and the longest run of words of each post that is left as it was. A run of 8 words mostly finds a post in a search
engine: rules alone leave one in nearly every post. --paraphrase MODEL has a model rewrite the disguised posts; a
rewriting that is too different (--bound) or keeps such a run is refused, counted, and the disguised text kept.
Explanations are not rewritten, so that quotes of them may no longer stand in the post.

What rules cannot find: names in running text, workplaces, schools and towns, rare stories, addresses and telephone
numbers in other countries' notations, languages other than English, identifiers written to evade them. Of planted
identifiers in the notations above, 98 of 100 or more of each kind are found (tests/imhi/test_disguise_recall.py). Read
a sample of the result before you share it, and see to the rules of your ethics board.
"""

DISGUISE_EPILOG = """\
examples:
  mentallama data disguise data/imhi --out shared/imhi.jsonl --new-key ~/keys/imhi.key
  mentallama data disguise data/imhi:test --out shared/test --key-file ~/keys/imhi.key --scope data
  mentallama data disguise tuned.jsonl --data data/imhi --out shared/tuned.jsonl --key-file ~/keys/imhi.key
  mentallama data disguise mine.jsonl --out shared/mine.jsonl --key-file ~/keys/imhi.key --paraphrase models/chat
"""

_BOUNDS = {"embedding": 0.7, "chrf": 0.3}


def add_disguise(parser: argparse.ArgumentParser) -> None:
    """Add the options of the action."""
    add_writing(parser)
    parser.add_argument(
        "sources", metavar="SOURCE", type=expanded, nargs="+", help="sources, as `mentallama data --help` tells"
    )
    parser.add_argument(
        "--data",
        metavar="DATA",
        type=expanded,
        nargs="+",
        default=[],
        help="where the posts of predictions are, so that names which only a post gives away are known in its outputs",
    )
    parser.add_argument("--key-file", metavar="KEY", type=local_path, help="a file with the key")
    parser.add_argument("--new-key", metavar="FILE", type=local_path, help="make a key and write it there")
    parser.add_argument(
        "--scope",
        choices=("post", "data"),
        default="post",
        help="where the same name gets the same pseudonym; data lets posts of one account be joined (default: post)",
    )
    parser.add_argument("--keep-ids", action="store_true", help="leave the names of rows as they are (default: keyed)")
    parser.add_argument(
        "--run-words", metavar="N", type=int, default=8, help="words of a run that counts as searchable (default: 8)"
    )
    parser.add_argument(
        "--paraphrase", metavar="MODEL", type=expanded, help="have this model rewrite the posts (default: no)"
    )
    parser.add_argument(
        "--similarity",
        choices=tuple(_BOUNDS),
        default="embedding",
        help="how near a rewriting is: cosine of sentence embeddings, or chrF (default: embedding)",
    )
    parser.add_argument(
        "--bound", metavar="X", type=float, help="nearness that is needed (default: 0.7 of embedding, 0.3 of chrf)"
    )
    parser.add_argument(
        "--embedding-model", metavar="E", type=expanded, help="of --similarity embedding (default: all-MiniLM-L6-v2)"
    )
    parser.add_argument("--max-new-tokens", metavar="N", type=int, default=512, help="longest rewriting (default: 512)")
    add_tasks(parser)
    parser.set_defaults(run=run_disguise)


def run_disguise(options: argparse.Namespace) -> int:
    """Disguise and say what was replaced and what is left."""
    from mentallama_jax.cli.generation_progress import GenerationProgress
    from mentallama_jax.imhi.data_files.writers import check_new
    from mentallama_jax.imhi.disguise.disguise_report import table_lines
    from mentallama_jax.jobs.disguise_data import DisguiseSettings, disguise_data, report_path

    check_new(options.out)
    if options.out.suffix and report_path(options.out).exists():
        raise UserError(f"{report_path(options.out)}: exists already; choose another name for the data, or remove it")
    if options.run_words < 1:
        raise UserError("--run-words: give a number from 1")
    settings = DisguiseSettings(
        scope=options.scope,
        keep_ids=options.keep_ids,
        run_words=options.run_words,
        repair_mojibake=options.repair,
        strict=options.strict,
    )
    paraphrase = _paraphrase(options)
    with ExitStack() as stack:
        progress = GenerationProgress()

        def begin(rows: int) -> None:
            stack.enter_context(progress)
            progress.begin(rows)

        made = disguise_data(
            options.sources,
            options.out,
            _key(options),
            settings,
            paraphrase=paraphrase,
            posts=options.data,
            track=_with_progress,
            on_batch=progress.add,
            begin=begin,
        )
    if made.problems:
        print(f"bad rows left out: {len(made.problems)} (`mentallama data check` names them)")
    for line in table_lines(made.report):
        print(line)
    print(f"{made.rows:,} rows written to {options.out}, the report to {made.report_path}")
    return 0


def _key(options: argparse.Namespace) -> "DisguiseKey":
    from mentallama_jax.imhi.disguise.disguise_key import VARIABLE, key_of_environment, new_key, read_key, refuse_beside

    if options.key_file and options.new_key:
        raise UserError("--key-file and --new-key are two ways to give the key; give one")
    given: Path | None = options.key_file or options.new_key
    if given is not None:
        refuse_beside(given, options.out)
        return read_key(given) if options.key_file else new_key(given)
    key = key_of_environment()
    if key is None:
        raise UserError(f"no key is given: make one with --new-key FILE, or give --key-file FILE or {VARIABLE}")
    return key


def _paraphrase(options: argparse.Namespace) -> "ParaphraseSettings | None":
    if not options.paraphrase:
        return None
    from mentallama_jax.imhi.disguise.paraphrase import Bounds, ParaphraseSettings

    bound = _BOUNDS[options.similarity] if options.bound is None else options.bound
    if not 0 <= bound <= 1:
        raise UserError(f"--bound {bound}: give a number from 0 to 1")
    named = {"embedding": options.embedding_model} if options.embedding_model else {}
    return ParaphraseSettings(
        model=options.paraphrase,
        similarity=options.similarity,
        bounds=Bounds(bound, options.run_words),
        max_new_tokens=options.max_new_tokens,
        **named,
    )


def _with_progress(rows: Iterable[Any]) -> Iterable[Any]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from mentallama_jax.terminal import Console

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        yield from progress.track(list(rows), description="Disguising")
