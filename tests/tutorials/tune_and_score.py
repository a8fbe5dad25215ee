# %% [markdown]
# # Tune a model on the sample, and score it
#
# The whole job from Python: a toy LLaMA learns the sample that comes with the package, analyses posts that it has not
# seen, and its answers are scored. It takes about a minute on two CPU cores, and needs no network. Of a real job only
# the names differ: a config such as `llama2-chat-7b`, and your data.
#
# **For research only.** What a model says of a post is no assessment of anybody.

# %%
import json
from importlib import resources

from mentallama_jax import evaluate, load_model, train

STEPS = 252

# %% [markdown]
# ## Tune
#
# `train` takes the name of a shipped config (`mentallama configs list` shows them) or a YAML file, and changes by
# section. The same call again resumes a run that was stopped.

# %%
run = train(
    "toy",
    training={"run_dir": "runs/tutorial", "steps": STEPS},
    evaluation={"generate_rows": 0, "metric": "validation_loss"},  # the loss is enough here; label_f1 would take longer
)
print(run)
print(run.paths["checkpoints"])
print(run.to_pandas()[["kind", "step", "loss"]].tail())

# %% [markdown]
# ## Ask
#
# An analysis has a label with the probability of each, the model's reasons for that label, and where it quotes the
# post. Below `abstain_below` it says that it is too unsure. One post gives one analysis; several go through together:
# here a post of our own, and those of the sample's test split that are asked about depression. A toy writes poorly.

# %%
model = load_model("runs/tutorial", max_length=400)
print(model)
lines = (resources.files("mentallama_jax.imhi") / "sample" / "test.jsonl").read_text("utf-8").splitlines()
rows = [row for row in map(json.loads, lines) if row["dataset"] == "DR"]
posts = ["I count the cracks of the ceiling until it gets light.", *(row["post"] for row in rows)]
own, *analyses = model.analyse(posts, "DR", abstain_below=0.6, max_new_tokens=60)
print(own)
for row, found in zip(rows[:3], analyses, strict=False):
    print(f"{row['label']:>4} is gold; {found!r}")

# %% [markdown]
# ## Score
#
# `evaluate` takes rows in memory, a data frame or a file. Every figure has a 95 % interval over posts, and an output
# without a readable label is counted as wrong.

# %%
answers = [
    {"id": row["id"], "dataset": "DR", "gold": row["label"], "output": f"{found.label}. Reasoning: {found.explanation}"}
    for row, found in zip(rows, analyses, strict=True)
]
scores = evaluate(answers, out="scores/tutorial")
print(scores)
print(scores.to_pandas().T)

# %% [markdown]
# `scores/tutorial/report.html` is the page to read and print; in a notebook, `scores` shows its table by itself.

# %%
print(*scores.paths, sep="\n")
