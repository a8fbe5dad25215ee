"""What each command is for, in a line: `mentallama --help` shows them without importing the commands."""

SUMMARIES = {
    "data": "check, build, convert and annotate records",
    "plan": "will a job fit on TPUs or GPUs, how fast, at what price",
    "bench": "measure training and generation on the devices present",
    "configs": "list the configs that are shipped, or copy one",
    "train": "tune a model, or resume a run",
    "transfer": "train on each data set, test on all",
    "generate": "answer test rows with a model",
    "ask": "answer test rows with ChatGPT, GPT-4 or a local server",
    "baseline": "answer test rows with a floor: majority class, TF-IDF",
    "evaluate": "score generated answers",
    "compare": "compare systems on the same rows",
    "agree": "compare metrics with human marks",
    "probe": "change posts, and measure what that does to labels",
    "report": "make a page of scores or training runs",
    "study": "run all systems of a study, and write its tables",
    "export": "write a Hugging Face folder",
    "serve": "answer over HTTP, as OpenAI's API does",
    "quickstart": "the whole job on the bundled sample, in minutes",
    "completion": "print a script that lets a shell complete options",
}
"""Each is the `help` of the command's own parser; a command that is not here is imported to be listed."""
