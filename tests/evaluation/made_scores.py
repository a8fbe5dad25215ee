"""Scores of made-up predictions for tests of reports: three systems, ten data sets."""

import random
from pathlib import Path

from mentallama_jax.evaluation.correctness import evaluate
from mentallama_jax.evaluation.reading import Predictions
from mentallama_jax.evaluation.score_report import write_report
from mentallama_jax.evaluation.statistics.bootstrap import Bootstrap
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
        write_report(folders[-1], evaluate(made, reader="templates+words", bootstrap=Bootstrap(resamples=20)))
    return folders
