"""How often the intervals of `mentallama agree` hold the truth, in simulated studies.

    python tests/benchmarks/human_agreement_coverage.py --runs 400

Two systems answer each post; three annotators mark both answers from 0 to 3; a metric follows the quality of answers.
Quality is half of the post and half of the answer. The truth is the figure of a study of 20,000 posts.
"""

import argparse

import numpy as np

from mentallama_jax.evaluation.people.krippendorff import alpha, coincidences
from mentallama_jax.evaluation.people.rank_correlation import intervals, mean_kendall, mean_spearman, ranked_pairs
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings, metric_interval


def study(posts: int, seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Marks [rows, annotators], a metric [rows] and the post of each row."""
    generator = np.random.default_rng(seed)
    quality = (generator.normal(size=(posts, 1)) + generator.normal(size=(posts, 2))).ravel() / np.sqrt(2)
    noise = generator.normal(size=(len(quality), 3))
    marks = np.clip(np.round(0.9 + quality[:, None] + 0.7 * noise), 0, 3)
    metric = np.exp(0.6 * quality + 0.5 * generator.normal(size=len(quality)))
    return marks, metric, [f"{row // 2:06d}" for row in range(len(quality))]


def figures(posts: int, seed: int, settings: IntervalSettings | None) -> dict[str, tuple[float, tuple[float, float]]]:
    """Each figure and its interval; without settings the figure alone."""
    marks, metric, names = study(posts, seed)
    ranked = {
        "metric": ranked_pairs([(metric, marks.mean(axis=1), names)]),
        "ceiling": ranked_pairs(
            [(marks[:, one], np.delete(marks, one, axis=1).mean(axis=1), names) for one in range(3)]
        ),
    }
    kinds = {"spearman": mean_spearman} if settings is None else {"spearman": mean_spearman, "kendall": mean_kendall}
    found: dict[str, tuple[float, tuple[float, float]]] = {}
    for name, pairs in ranked.items():
        if settings is None:
            found |= {f"{kind} of {name}": (float(figure(pairs)), (0.0, 0.0)) for kind, figure in kinds.items()}
            continue
        for kind, (value, ends) in ((k, (e.value, e.interval)) for k, e in intervals(pairs, kinds, settings).items()):
            found[f"{kind} of {name}"] = (value, ends)
    counts = coincidences(marks.tolist(), names)
    assert counts is not None
    ends = (0.0, 0.0) if settings is None else metric_interval(counts, alpha, settings).ends
    return found | {"alpha": (float(alpha(counts.total())), ends)}


def true_figures() -> dict[str, float]:
    """The figures of a very large study; Kendall's, which compares all pairs of rows, is the mean of large ones."""
    known = {name: value for name, (value, _) in figures(20_000, 1_000_000, None).items()}
    parts = [figures(1_000, 1_000_001 + seed, IntervalSettings()) for seed in range(30)]
    return known | {name: float(np.mean([part[name][0] for part in parts])) for name in parts[0] if "kendall" in name}


def main() -> None:
    """Print the coverage of each figure at each number of posts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--posts", type=int, nargs="+", default=[10, 20, 40, 100])
    options = parser.parse_args()
    truth = true_figures()
    for posts in options.posts:
        held = dict.fromkeys(truth, 0)
        for seed in range(options.runs):
            for name, (_, (low, high)) in figures(posts, seed, IntervalSettings()).items():
                held[name] += low <= truth[name] <= high
        shares = ", ".join(f"{name} {100 * count / options.runs:.1f}" for name, count in held.items())
        print(f"{posts} posts: {shares}")


if __name__ == "__main__":
    main()
