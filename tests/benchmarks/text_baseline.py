"""TF-IDF and logistic regression on posts: what a classifier has to beat. Needs the extra `baselines`.

    python tests/benchmarks/text_baseline.py ../shared/imhi --out /tmp/baseline dreaddit DR SAD

It runs `mentallama baseline tfidf` on the released files, C chosen on the validation rows as a classifier's best
checkpoint is, and prints the weighted F1 of each data set with its interval.
"""

import argparse
from pathlib import Path

from mentallama_jax.baselines.floors import STRENGTHS, TextSettings
from mentallama_jax.evaluation.correctness import evaluate
from mentallama_jax.evaluation.reading import read_predictions
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.jobs.answer import questions_in
from mentallama_jax.jobs.baseline import baseline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("imhi", type=Path, help="the released files")
    parser.add_argument("datasets", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    train = [str(options.imhi / "train_data" / "instruction_data")]
    test = [str(options.imhi / "test_data" / "test_instruction")]
    for name in options.datasets:
        path = options.out / f"{name}.jsonl"
        questions = questions_in(test, datasets=[name])
        baseline("tfidf", train, questions, path, validation=train, settings=TextSettings(STRENGTHS), say=print)
        scores = evaluate(read_predictions(path), reader="templates+words", settings=IntervalSettings()).pooled
        low, high = scores.weighted_f1_interval
        print(f"{name}: {scores.n} rows, weighted F1 {100 * scores.weighted_f1:.1f} ({100 * low:.1f}-{100 * high:.1f})")


if __name__ == "__main__":
    main()
