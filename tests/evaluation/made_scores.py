"""Scores of made-up predictions for tests of reports: three systems, ten data sets."""

import random
from pathlib import Path

from mentallama_jax.evaluation.correctness import evaluate
from mentallama_jax.evaluation.score_report import write_report
from mentallama_jax.evaluation.statistics.intervals import IntervalSettings
from mentallama_jax.evaluation.system_predictions import Predictions
from mentallama_jax.imhi.predictions import Prediction
from mentallama_jax.imhi.tasks import TASKS

SYSTEMS = {"base": 0.4, "tuned": 0.7, "larger": 0.85}


def made_rows(share_right: float, seed: int, posts: int = 12) -> tuple[Prediction, ...]:
    """Answers to every data set, about this share of them right; some state no label."""
    rng = random.Random(seed)
    rows = []
    for task in TASKS.values():
        gold = random.Random(task.name)
        for post in range(posts):
            for aspect in task.aspects or ("",):
                label = gold.choice(task.labels)
                stated = label if rng.random() < share_right else rng.choice(task.labels)
                text = f"{task.sentences[stated]} Reasoning: It says so." if rng.random() > 0.05 else "Hard to say."
                row_id = f"{task.name}/{post}/{aspect}"
                rows.append(
                    Prediction(
                        id=row_id,
                        dataset=task.name,
                        aspect=aspect,
                        post_id=f"{task.name} {post}",
                        label=label,
                        generated_text=text,
                    )
                )
    return tuple(rows)


def write_made_scores(folder: Path, posts: int = 12) -> list[Path]:
    """A folder of scores for each of `SYSTEMS`."""
    folders = []
    for seed, (name, share) in enumerate(SYSTEMS.items()):
        files = ({"file": f"{name}.jsonl", "sha256": "0"},)
        made = Predictions(made_rows(share, seed, posts), files, {"model": name}, "label of each row", True)
        folders.append(folder / name)
        write_report(folders[-1], evaluate(made, reader="templates+words", settings=IntervalSettings()))
    return folders


def share(count: int, of: int) -> dict:
    """A counted share as `scores.json` holds it."""
    ends = [max(0.0, count / of - 0.1), min(1.0, count / of + 0.1)]
    return {
        "count": count,
        "of": of,
        "posts": of,
        "share": count / of,
        "interval": ends,
        "method": "x",
        "warning": "few",
    }


def estimate(value: float) -> dict:
    """A figure with its interval as `scores.json` holds it."""
    return {"value": value, "interval": [value - 0.125, value + 0.125], "method": "x"}


def _reliability() -> dict:
    bins = [
        {"lowest": low, "highest": low + 0.5, "rows": 6, "confidence": low + 0.25, "right": estimate(low + 0.125)}
        for low in (0.0, 0.5)
    ]
    figures = {"ece": 0.1875, "brier": 0.4375, "log_loss": 0.8125, "confidence": 0.6875, "accuracy": 0.5625}
    return {**{key: estimate(value) for key, value in figures.items()}, "ece_if_calibrated": 0.0625, "bins": bins}


def trust_sections() -> dict:
    """The sections on trust that `evaluate` writes, of one data set, made up."""
    risk = {"label": "yes", "aspect": "", "recall": share(3, 8), "missed": share(5, 8), "precision": share(3, 4)}
    points = [{"coverage": place / 4, "risk": place / 16, "threshold": 0.5} for place in range(1, 5)]
    figures = (("aurc", 0.3125), ("excess_aurc", 0.25), ("accuracy_at_80", 0.625))
    selective = {**{key: estimate(value) for key, value in figures}, "risk_coverage": points}
    conformal = {
        "promised": 0.9,
        "coverage": estimate(0.875),
        "mean_size": estimate(1.375),
        "labels": 2,
        "sizes": {"1": 5, "2": 3},
        "threshold": 0.25,
        "calibration_rows": 40,
        "calibration_posts": 40,
        "remark": None,
    }
    calibration = {
        "rows": 8,
        "posts": 8,
        "without_log_probabilities": 0,
        "differing": 1,
        "as_given": _reliability(),
        "temperature": {"value": 1.25, "interval": [0.75, 2.0], "rows": 40, "posts": 40, "remark": None},
        "tempered": _reliability(),
        "selective": selective,
        "conformal": conformal,
        "warning": None,
    }
    metric = {"mean": 0.375, "interval": [0.25, 0.5], "method": "x", "corpus": None, "unit": "share"}
    part = {"rows": 8, "posts": 8, "without_reference": 0, "empty": 0, "warning": None, "metrics": {"rouge1": metric}}
    return {
        "high_risk": {
            "datasets": {"DR": [{**risk, "unparsed": 2, "read_as": {"no": 3, "unparsed": 2}}]},
            "reasons": {"DR": "yes: who is missed gets no help"},
            "definitions": {"recall": "of the rows with this gold label"},
        },
        "calibration": {
            "datasets": {"DR": calibration},
            "pooled": calibration,
            "calibrated_on": None,
            "definitions": {},
        },
        "output_faults": {
            "datasets": {"DR": {"empty": share(1, 8)}},
            "pooled": {"empty": share(1, 8)},
            "definitions": {},
        },
        "explanations": {
            "datasets": {"DR": {"response": part}},
            "pooled": {"response": part},
            "signatures": {"rouge1": "rouge-score"},
        },
    }


def comparison_section() -> dict:
    """What `compare` writes, of two systems and one data set, made up."""
    pair = {"metric": "weighted_f1", "dataset": "DR"}
    return {
        "schema_version": 1,
        "systems": {"base": [], "tuned": []},
        "left_out": {},
        "units": {"weighted_f1": "share"},
        "standings": [
            {**pair, "values": {"base": [0.5], "tuned": [0.75]}, "best": "tuned", "not_distinguished": ["tuned"]}
        ],
        "differences": [
            {
                **pair,
                "first": "base",
                "second": "tuned",
                "rows": 8,
                "posts": 8,
                "first_value": 0.5,
                "second_value": 0.75,
                "difference": -0.25,
                "interval": [-0.4375, -0.0625],
                "test": "mcnemar",
                "p": 0.03125,
                "p_holm": 0.0625,
                "icc": None,
                "design_effect": None,
                "post_variance": 0.01,
                "seed_variance": 0.0,
                "minimum_detectable": 0.3125,
                "posts_needed": 12,
                "warning": None,
            }
        ],
        "signature": {},
    }
