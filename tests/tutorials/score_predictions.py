# %% [markdown]
# # Score somebody else's predictions
#
# A colleague sends the outputs of a system that this package knows nothing of. What is needed to score them is a gold
# label and an output in each row, and the data set that the rows belong to. No model is opened here.

# %%
import csv
import json
from importlib import resources
from pathlib import Path

from mentallama_jax import Task, evaluate

# %% [markdown]
# ## A file of theirs
#
# It is made here from the sample: a system that says yes wherever a post mentions sleep, and no elsewhere. Its columns
# are called as they like.

# %%
lines = (resources.files("mentallama_jax.imhi") / "sample" / "test.jsonl").read_text("utf-8").splitlines()
rows = [row for row in map(json.loads, lines) if row["dataset"] == "DR"]
with Path("theirs.csv").open("w", newline="", encoding="utf-8") as stream:
    writer = csv.writer(stream)
    writer.writerow(["number", "answer", "output"])
    for row in rows:
        said = "Yes, the poster suffers" if "sleep" in row["post"] else "No, the poster does not suffer"
        writer.writerow([row["id"], row["label"], f"{said} from depression."])

# %% [markdown]
# ## Score it
#
# `columns` says which column is for what, where a name does not say it. `data` names the posts, so that quotes are
# looked up in them.

# %%
scores = evaluate(
    "theirs.csv",
    columns={"id": "number", "gold": "answer", "text": "output"},
    dataset="DR",
    data=["sample:test"],
    out="scores/theirs",
)
print(scores)
figures = scores.to_pandas()
print(figures[["n", "weighted_f1", "weighted_f1_low", "weighted_f1_high", "majority_weighted_f1"]])

# %% [markdown]
# What is missed of high risk stands first in the report, for a mean over data sets hides it.

# %%
recall = scores.scores["high_risk"]["datasets"]["DR"][0]["recall"]
print(f"posts of people with depression that were found: {recall['count']} of {recall['of']}")
Path("theirs.html").write_text(scores.to_html(), encoding="utf-8")

# %% [markdown]
# The released rule scorer reads labels otherwise. For comparison with figures that it made, and for nothing else:

# %%
upstream = evaluate("theirs.csv", columns={"gold": "answer", "text": "output"}, dataset="DR", reader="as-upstream")
print(upstream)

# %% [markdown]
# ## A task of your own
#
# Labels and sentences of another task are a YAML file (`mentallama data new-task` writes one), or a `Task`. Rows can
# come from memory, too.

# %%
sleep = Task(
    name="sleep",
    kind="quality of sleep",
    source="diaries",
    question="Does the writer sleep badly?",
    sentences={"bad": "The writer sleeps badly.", "good": "The writer sleeps well."},
    completion_prefix="The writer sleeps",
    completion_words={"bad": "badly", "good": "well"},
)
own = evaluate(
    [
        {"label": "bad", "output": "The writer sleeps badly. Reasoning: they lie awake."},
        {"label": "good", "output": "The writer sleeps badly. Reasoning: they mention a night."},
        {"label": "good", "output": "The writer sleeps well. Reasoning: they woke up rested."},
    ],
    dataset="sleep",
    tasks=[sleep],
)
print(own.to_pandas().loc["sleep", ["n", "accuracy", "unparsed"]])
