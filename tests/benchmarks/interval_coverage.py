"""How often 95 % intervals hold the truth, and how often the paired test sees a difference where there is none.

    python tests/benchmarks/interval_coverage.py                          # all of it: some minutes on one core
    python tests/benchmarks/interval_coverage.py --what tests             # the paired test alone
    python tests/benchmarks/interval_coverage.py --posts 20 60 --samples 300

Posts are made up: each has a chance of being answered rightly of its own, from a beta distribution around the truth in
which the rows of a post agree with an intraclass correlation of 0.5; half of the rows of a post have the gold of its
first row; errors are taken for any other class. Four classes hold 40, 30, 20 and 10 % of the rows. The accuracy that is
true is drawn anew for each sample, within 0.03 of 0.5 and of 0.85 and within 0.01 of 0.98, as the coverage of any
interval of a share jumps with the very value. Macro F1 is that of the classes that occur in the sample. Scores are like
those of explanations, any number between 0 and 1. Beside each is the percentile bootstrap over rows.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mentallama_jax.evaluation.beside_classifiers import LabelPairs, cohens_kappa
from mentallama_jax.evaluation.statistics.f1 import Counts, Tally, accuracy, macro_f1, tally_of_confusion, weighted_f1
from mentallama_jax.evaluation.statistics.intervals import (
    IntervalSettings,
    PostSums,
    RowScores,
    mean_score,
    metric_interval,
    paired_difference,
)
from mentallama_jax.evaluation.statistics.paired_tests import exchange_tests, mcnemar

SHARES = np.array([0.4, 0.3, 0.2, 0.1])
ICC = 0.5
TRUTHS = {0.5: 0.03, 0.85: 0.03, 0.98: 0.01}
"""True accuracy -> how far from it that of a sample may be."""

ROW_DRAWS = 200
METRICS = ("accuracy", "weighted F1", "macro F1", "recall", "kappa", "mean of scores")
SETTINGS = IntervalSettings()


@dataclass(frozen=True)
class Answers:
    """The rows of some posts: pairs of gold and predicted class [G, C, C], scores [G, M], and the true accuracy."""

    pairs: Counts
    scores: Counts
    truth: float


def draw(generator: np.random.Generator, posts: int, rows: int, truth: float, near: float) -> Answers:
    """Posts with an accuracy of `truth` in the world that they are from; the higher `near`, the nearer scores to it."""
    classes, spread = len(SHARES), (1 - ICC) / ICC
    gold = generator.choice(classes, p=SHARES, size=(posts, rows))
    gold = np.where(generator.random(gold.shape) < 0.5, gold[:, :1], gold)
    chance = generator.beta(truth * spread, (1 - truth) * spread, size=posts)[:, None]
    other = (gold + generator.integers(1, classes, size=gold.shape)) % classes
    predicted = np.where(generator.random(gold.shape) < chance, gold, other)
    pairs = np.zeros((posts, classes, classes))
    np.add.at(pairs, (np.arange(posts)[:, None], gold, predicted), 1)
    middle = np.clip(generator.beta(near * truth, near * (1 - truth), size=posts), 1e-3, 1 - 1e-3)[:, None]
    scores = generator.beta(near * middle, near * (1 - middle), size=gold.shape)
    return Answers(pairs, scores, truth)


def world(truth: float) -> Counts:
    """The shares of pairs of gold and predicted class in the world."""
    wrong = (1 - truth) / (len(SHARES) - 1)
    return np.asarray(SHARES[:, None] * np.where(np.eye(len(SHARES)) > 0, truth, wrong))


def tally_of(pairs: Counts) -> Tally:
    """Counts by class, of pairs [..., C, C]."""
    return Tally(np.diagonal(pairs, axis1=-2, axis2=-1).copy(), pairs.sum(axis=-2), pairs.sum(axis=-1))


def macro_of(total: Tally, occurs: Counts) -> float:
    """Macro F1 of some classes."""
    f1 = 2 * total.hits / (total.predicted + total.support)
    return float((f1 * occurs).sum() / occurs.sum())


def intervals(answers: Answers) -> Iterator[tuple[str, float, tuple[float, float], str]]:
    """Each metric, its true value, its interval and how that was found."""
    counts, whole = tally_of(answers.pairs), tally_of_confusion(world(answers.truth))
    total = counts.total()
    truths = {
        "accuracy": answers.truth,
        "weighted F1": float(weighted_f1(whole)),
        "macro F1": macro_of(whole, (total.predicted + total.support > 0).astype(float)),
    }
    for name, metric in (("accuracy", accuracy), ("weighted F1", weighted_f1), ("macro F1", macro_f1)):
        found = metric_interval(counts, metric, SETTINGS)
        yield name, truths[name], found.ends, found.method
    of_class = counts.support[:, 1] > 0
    if of_class.any():
        hits, support = counts.hits[of_class, 1], counts.support[of_class, 1]
        yield "recall", answers.truth, *_of(RowScores(hits, support, squares=hits), mean_score)
    kappa = float(cohens_kappa(LabelPairs(world(answers.truth))))
    yield "kappa", kappa, *_of(LabelPairs(answers.pairs), cohens_kappa)
    sums, sizes = answers.scores.sum(axis=1), np.full(len(answers.scores), float(answers.scores.shape[1]))
    squares = (answers.scores**2).sum(axis=1)
    yield "mean of scores", answers.truth, *_of(RowScores(sums, sizes, squares=squares), mean_score)


def _of(sums: PostSums, metric: Callable[..., Counts]) -> tuple[tuple[float, float], str]:
    found = metric_interval(sums, metric, SETTINGS)
    return found.ends, found.method


def row_bootstrap(generator: np.random.Generator, answers: Answers) -> Iterator[tuple[str, float, tuple[float, float]]]:
    """Accuracy, weighted and macro F1 with the percentiles of draws of rows."""
    pairs = answers.pairs.sum(axis=0)
    rows = int(pairs.sum())
    drawn = generator.multinomial(rows, pairs.ravel() / rows, size=ROW_DRAWS).reshape(-1, *pairs.shape).astype(float)
    whole, total = tally_of_confusion(world(answers.truth)), tally_of(pairs)
    found = tally_of(drawn)
    counts = Tally(found.hits, found.predicted, found.support, total)
    occurs = (total.predicted + total.support > 0).astype(float)
    truths = answers.truth, float(weighted_f1(whole)), macro_of(whole, occurs)
    for name, metric, truth in zip(METRICS, (accuracy, weighted_f1, macro_f1), truths, strict=False):
        low, high = np.quantile(metric(counts), (0.025, 0.975))
        yield name, truth, (float(low), float(high))


def coverage(
    posts: int, rows: int, truth: float, samples: int, *, beside: bool = True, near: float = 30
) -> dict[str, float]:
    """The share of samples whose interval holds the truth: metric -> share, and `rows: METRIC` of the row bootstrap."""
    generator = np.random.default_rng([0, posts, rows, int(100 * truth)])
    held: dict[str, list[bool]] = {}
    for _ in range(samples):
        around = TRUTHS[truth]
        answers = draw(generator, posts, rows, generator.uniform(truth - around, truth + around), near)
        for name, true, (low, high), _method in intervals(answers):
            held.setdefault(name, []).append(low <= true <= high)
        if beside:
            for name, true, (low, high) in row_bootstrap(generator, answers):
                held.setdefault(f"rows: {name}", []).append(low <= true <= high)
    return {name: float(np.mean(found)) for name, found in held.items()}


def print_coverage(posts: Sequence[int], samples: int, near: float) -> None:
    """A table of coverage in %."""
    columns = (*METRICS, *(f"rows: {name}" for name in METRICS[:3]))
    print(f"coverage in %, {samples:,} samples a row\n")
    print("| rows a post | truth | posts | " + " | ".join(columns) + " |")
    print("|---" * (3 + len(columns)) + "|")
    for rows in (1, 6):
        for truth in TRUTHS:
            for number in posts:
                found = coverage(number, rows, truth, samples, near=near)
                cells = " | ".join(f"{100 * found[name]:.1f}" for name in columns)
                print(f"| {rows} | {truth} | {number} | {cells} |", flush=True)


def false_alarms(
    posts: int, rows: int, truth: float, samples: int, seed: int = 0, draws: int = 500
) -> dict[str, float]:
    """The share of samples in which two systems that are equally good differ with p <= 0.05: test -> share.

    Half of the posts have a chance of being answered rightly that both systems share; in the others each has its own.
    """
    generator = np.random.default_rng([seed, posts, rows, int(100 * truth), 1])
    metrics = {"accuracy": accuracy, "weighted F1": weighted_f1, "macro F1": macro_f1}
    alarms: dict[str, list[bool]] = {}
    for sample in range(samples):
        first, second = _equally_good(generator, posts, rows, truth)
        for name, found in exchange_tests(first, second, metrics, draws, sample).items():
            alarms.setdefault(name, []).append(found.p <= 0.05)
        difference = paired_difference([first], [second], weighted_f1, SETTINGS)
        alarms.setdefault("interval of weighted F1", []).append(
            not difference.interval[0] <= 0 <= difference.interval[1]
        )
        ours, theirs = (counts.hits.sum(axis=1) for counts in (first, second))
        alarms.setdefault("rows: mcnemar", []).append(_of_rows(generator, ours, theirs, rows) <= 0.05)
    return {name: float(np.mean(found)) for name, found in alarms.items()}


def _equally_good(generator: np.random.Generator, posts: int, rows: int, truth: float) -> tuple[Tally, Tally]:
    classes, spread = len(SHARES), (1 - ICC) / ICC
    gold = generator.choice(classes, p=SHARES, size=(posts, rows))
    shared = generator.random(posts) < 0.5
    chances = generator.beta(truth * spread, (1 - truth) * spread, size=(2, posts))
    chances[1, shared] = chances[0, shared]
    counted = []
    for chance_G in chances:
        other = (gold + generator.integers(1, classes, size=gold.shape)) % classes
        predicted = np.where(generator.random(gold.shape) < chance_G[:, None], gold, other)
        pairs = np.zeros((posts, classes, classes))
        np.add.at(pairs, (np.arange(posts)[:, None], gold, predicted), 1)
        counted.append(tally_of(pairs))
    return counted[0], counted[1]


def _of_rows(generator: np.random.Generator, ours: Counts, theirs: Counts, rows: int) -> float:
    """McNemar's p where rows of a post are taken for independent ones; which rows differ follows from the counts."""
    only = [0, 0]
    for one, other in zip(ours.astype(int), theirs.astype(int), strict=True):
        both = int(generator.hypergeometric(one, rows - one, other)) if other else 0
        only[0] += one - both
        only[1] += other - both
    return mcnemar(*only).p


def print_false_alarms(posts: Sequence[int], samples: int) -> None:
    """A table of false alarms in %."""
    print(f"\nfalse alarms at p <= 0.05 in %, posts of 6 rows, {samples:,} samples a row\n")
    header: list[str] = []
    for truth in TRUTHS:
        for number in posts:
            found = false_alarms(number, 6, truth, samples)
            if not header:
                header = list(found)
                print("| truth | posts | " + " | ".join(header) + " |")
                print("|---" * (2 + len(header)) + "|")
            cells = " | ".join(f"{100 * found[name]:.1f}" for name in header)
            print(f"| {truth} | {number} | {cells} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=("all", "intervals", "tests"), default="all")
    parser.add_argument("--posts", type=int, nargs="+", help="default: 10 to 400, of the tests 10, 30 and 100")
    parser.add_argument("--samples", type=int, default=1000, help="a row of the table (default: 1000)")
    parser.add_argument(
        "--near", type=float, default=30, help="how near scores are to their truth, as a number of draws (default: 30)"
    )
    options = parser.parse_args()
    if options.what in ("all", "intervals"):
        print_coverage(options.posts or [10, 20, 30, 60, 100, 400], options.samples, options.near)
    if options.what in ("all", "tests"):
        print_false_alarms(options.posts or [10, 30, 100], options.samples)
