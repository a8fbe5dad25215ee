"""TF-IDF and logistic regression on posts: what a classifier has to beat. Needs the extra `baselines`.

    python tests/benchmarks/text_baseline.py ../shared/imhi --out /tmp/baseline dreaddit DR SAD

It writes predictions that `mentallama evaluate` scores. The regularisation is chosen on the validation rows, as a
classifier's best checkpoint is.
"""

import argparse
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from mentallama_jax.evaluation.correctness import evaluate
from mentallama_jax.evaluation.reading import read_predictions
from mentallama_jax.evaluation.statistics.f1 import tally, weighted_f1
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.files import write_jsonl
from mentallama_jax.imhi.class_inputs import record_text
from mentallama_jax.imhi.data_files.readers import read_records
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.wording import instruction_response

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("imhi", type=Path, help="the released files")
    parser.add_argument("datasets", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    sources = [options.imhi / "train_data" / "instruction_data", options.imhi / "test_data" / "test_instruction"]
    records = read_records(sources).records
    for name in options.datasets:
        parts = {
            split: [record for record in records if (record.dataset, record.split) == (name, split)]
            for split in ("train", "val", "test")
        }
        texts = {split: [record_text(record, "post") for record in part] for split, part in parts.items()}
        labels = {split: [record.label for record in part] for split, part in parts.items()}
        scored = []
        for strength in STRENGTHS:
            words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
            model = make_pipeline(words, LogisticRegression(C=strength, max_iter=2000))
            model.fit(texts["train"], labels["train"])
            found = model.predict(texts["val"])
            posts = [record.post_id for record in parts["val"]]
            counts = tally(labels["val"], list(found), posts, parts["val"][0].task.labels).total()
            scored.append((float(weighted_f1(counts)), -strength, model))
        on_validation, strength, model = max(scored, key=lambda entry: entry[:2])
        path = options.out / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [
            Prediction(
                id=record.id,
                dataset=record.dataset,
                aspect=record.aspect,
                split=record.split,
                post_id=record.post_id,
                label=record.label,
                goldens=instruction_response(record),
                generated_text=record.task.sentences[label],
            )
            for record, label in zip(parts["test"], model.predict(texts["test"]), strict=True)
        ]
        write_jsonl(path, (row.to_json() for row in rows))
        scores = evaluate(read_predictions(path), reader="templates+words", settings=IntervalSettings()).pooled
        low, high = scores.weighted_f1_interval
        print(
            f"{name}: {scores.n} rows, weighted F1 {100 * scores.weighted_f1:.1f} ({100 * low:.1f}-{100 * high:.1f}); "
            f"on validation {100 * on_validation:.1f}, C {-strength:g}"
        )


if __name__ == "__main__":
    main()
