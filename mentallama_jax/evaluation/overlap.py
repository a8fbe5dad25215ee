"""How much of a reference an output repeats: ROUGE, BLEU and chrF by the libraries that define them.

They are the extra `metrics`. All scores are fractions of 1; that of an empty output is 0.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, lru_cache
from importlib.metadata import version
from subprocess import PIPE, Popen
from threading import Thread
from typing import IO, Any, NamedTuple

import numpy as np

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.ngrams import character_ngrams


class OverlapMetric(NamedTuple):
    """One way to compare an output with its reference.

    Attributes:
        name: of the figure.
        score: (output, reference) -> a fraction of 1.
        corpus: statistics of rows -> the figure of all rows together, where the metric has one of its own.
        signature: how it is computed, as the library says it.
        statistics: (output, reference) -> the counts of a row that `corpus` needs.
    """

    name: str
    score: Callable[[str, str], float]
    corpus: Callable[[Sequence[Sequence[float]]], float] | None
    signature: str
    statistics: Callable[[str, str], Sequence[float]] | None = None


class RowResult(NamedTuple):
    """What was found of a row: metric -> score, and metric -> counts for the figure of all rows."""

    scores: dict[str, float]
    statistics: dict[str, Sequence[float]]


_ROWS_AT_ONCE = 500
_WORTH_A_PROCESS = 4000

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "rouge": ("rouge1", "rouge2", "rougeL"),
    "bleu": ("bleu",),
    "chrf": ("chrf",),
    "upstream_rouge": ("upstream_rouge1", "upstream_rouge2", "upstream_rougeL"),
    "upstream_bleu": ("upstream_bleu",),
}
"""The word for the command line -> the names of its figures."""


def overlap_metrics(families: Sequence[str]) -> list[OverlapMetric]:
    """The metrics of some of `FAMILIES`.

    Raises:
        UserError: no such family, or the extra is not installed.
    """
    if unknown := [family for family in families if family not in FAMILIES]:
        raise UserError(f"--metrics {unknown[0]}: there are: {', '.join(FAMILIES)}")
    makers = {
        "rouge": _rouge,
        "bleu": _bleu,
        "chrf": _chrf,
        "upstream_rouge": _upstream_rouge,
        "upstream_bleu": _upstream_bleu,
    }
    try:
        return [metric for family in dict.fromkeys(families) for metric in makers[family]()]
    except ImportError as error:
        raise UserError(f"--metrics: needs {error.name}; pip install 'mentallama-jax[metrics]'") from None


def score_in_processes(
    families: Sequence[str], texts: Sequence[tuple[str, str]], processes: int
) -> Iterator[RowResult]:
    """Score (output, reference) pairs by all metrics of some families, in their order.

    Processes are used where that pays: programs of their own (`python -m mentallama_jax.evaluation.overlap`), which
    need nothing of the program that calls.
    """
    if processes < 2 or len(texts) < _WORTH_A_PROCESS:
        yield from _score_texts(families, texts)
        return
    parts = [texts[start : start + _ROWS_AT_ONCE] for start in range(0, len(texts), _ROWS_AT_ONCE)]
    with ExitStack() as stack:
        workers = [stack.enter_context(_worker(families, parts[first::processes])) for first in range(processes)]
        for number in range(len(parts)):
            line = workers[number % processes].readline()
            if not line:
                raise UserError("a program that scores texts ended early; is there enough memory?")
            yield from (RowResult(*found) for found in json.loads(line))


@contextmanager
def _worker(families: Sequence[str], parts: Sequence[Sequence[tuple[str, str]]]) -> Iterator[IO[str]]:
    """A program that scores parts in turn; the value gives a line of JSON for each."""
    command = [sys.executable, "-m", __name__]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True, encoding="utf-8") as process:
        assert process.stdin is not None and process.stdout is not None  # noqa: PT018

        def tell(stream: IO[str]) -> None:
            with suppress(BrokenPipeError), stream:
                for part in parts:
                    stream.write(json.dumps([families, part]) + "\n")

        writer = Thread(target=tell, args=(process.stdin,), daemon=True)
        writer.start()
        try:
            yield process.stdout
        finally:
            process.kill()
            writer.join()


def _score_texts(families: Sequence[str], texts: Sequence[tuple[str, str]]) -> list[RowResult]:
    metrics = overlap_metrics(families)
    return [
        RowResult(
            {metric.name: metric.score(*pair) for metric in metrics},
            {metric.name: metric.statistics(*pair) for metric in metrics if metric.statistics},
        )
        for pair in texts
    ]


@cache
def _rouge() -> list[OverlapMetric]:
    """F1 of shared words, pairs of words, and the longest common subsequence (Lin 2004), without a stemmer."""
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.scoring import fmeasure
    from rouge_score.tokenize import tokenize

    names = FAMILIES["rouge"]
    words: Any = _remembered(lambda text: tokenize(text, None))
    scorer: Any = RougeScorer(list(names[:2]), tokenizer=_Tokens(words))
    signature = f"rouge-score {version('rouge-score')}, F1, no stemmer"

    @lru_cache(maxsize=1)  # the three figures of a row are asked for one after the other
    def all_of(output: str, reference: str) -> dict[str, float]:
        found = {name: float(score.fmeasure) for name, score in scorer.score(reference, output).items()}
        tokens, wanted = words(output), words(reference)
        common = longest_common_subsequence(wanted, tokens)
        return found | {names[2]: float(fmeasure(common / len(tokens), common / len(wanted))) if common else 0.0}

    def one(name: str) -> OverlapMetric:
        return OverlapMetric(name, lambda output, reference: all_of(output, reference)[name], None, signature)

    return [one(name) for name in names]


class _Tokens(NamedTuple):
    """A tokenizer as rouge-score takes it."""

    tokenize: Callable[[str], list[str]]


def _remembered(work: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    """`work` with its two newest results remembered: an output and its reference."""
    return lru_cache(maxsize=2)(work)


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the longest common subsequence, a row of the table at a time as the bits of one number.

    The method is that of Hyyro (2004). A bit is 0 where the length grows at that place of `first`.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    every = (1 << len(first)) - 1
    row = every
    for word in second:
        if matches := row & places.get(word, 0):
            row = ((row + matches) | (row - matches)) & every
    return len(first) - row.bit_count()


@cache
def _bleu() -> list[OverlapMetric]:
    """BLEU (Papineni et al. 2002) of a row with the orders that it has, and of all rows together."""
    from sacrebleu.metrics.bleu import BLEU

    rows: Any = BLEU(effective_order=True)
    corpus: Any = BLEU()

    return [_of_sacrebleu("bleu", rows, corpus)]


@cache
def _chrf() -> list[OverlapMetric]:
    """chrF (Popovic 2015): F2 of character n-grams up to 6, of a row and of all rows together."""
    from sacrebleu.metrics.chrf import CHRF

    metric: Any = CHRF()
    return [_of_sacrebleu("chrf", metric, metric)]


def _of_sacrebleu(name: str, rows: Any, corpus: Any) -> OverlapMetric:
    """A metric of sacrebleu: the n-grams of a row are counted once, for its score and for that of all rows."""

    @lru_cache(maxsize=1)
    def statistics(output: str, reference: str) -> tuple[int, ...]:
        fast = character_ngrams(output, reference, rows.char_order) if name == "chrf" else None
        return fast or tuple(rows._extract_corpus_statistics([output], [[reference]])[0])

    def of_row(output: str, reference: str) -> float:
        return of(rows, [statistics(output, reference)])

    def of(metric: Any, counts: Sequence[Sequence[float]]) -> float:
        return float(metric._aggregate_and_compute([[int(count) for count in row] for row in counts]).score) / 100

    signature = f"sacrebleu {version('sacrebleu')}, {_said(rows)}"
    return OverlapMetric(name, of_row, lambda counts: of(corpus, counts), signature, statistics)


@cache
def _upstream_rouge() -> list[OverlapMetric]:
    """ROUGE as the released evaluator reports it: of all rows, the median of bootstrapped means."""

    def renamed(metric: OverlapMetric) -> OverlapMetric:
        signature = f"{metric.signature}; of all rows the median of 1,000 bootstrapped means, as the released scorer"
        return OverlapMetric(
            f"upstream_{metric.name}",
            metric.score,
            lambda rows: _median_of_means([row[0] for row in rows]),
            f"{signature}, but seeded",
            lambda output, reference: (metric.score(output, reference),),
        )

    return [renamed(metric) for metric in _rouge()]


def _median_of_means(scores: Sequence[float]) -> float:
    draws = np.random.default_rng(0)
    values = np.asarray(scores)
    return float(np.median([values[draws.integers(0, len(values), len(values))].mean() for _ in range(1000)]))


@cache
def _upstream_bleu() -> list[OverlapMetric]:
    """BLEU as the released evaluator computes it: no smoothing, so that a row without a shared 4-gram scores 0."""
    from sacrebleu.metrics.bleu import BLEU

    metric: Any = BLEU(smooth_method="none")
    return [_of_sacrebleu("upstream_bleu", metric, metric)]


def _said(metric: Any) -> str:
    """The settings of a metric as sacrebleu prints them, without its version and the number of references."""
    metric.sentence_score("a", ["a"])  # the number of references is known only then
    parts = str(metric.get_signature()).split("|")
    return "|".join(part for part in parts if not part.startswith(("version", "nrefs")))


def _main() -> None:
    """Score each line of standard input, [families, texts], and print the scores."""
    for line in sys.stdin:
        families, texts = json.loads(line)
        print(json.dumps(_score_texts(families, texts)), flush=True)


if __name__ == "__main__":
    _main()
