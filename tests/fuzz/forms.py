"""All kinds of files, and how many cases of each."""

from collections.abc import Iterator

from data_forms import data_forms
from hostile import Form
from model_forms import model_forms
from run_forms import run_forms

CASES = {
    "config": 220,
    "safetensors": 180,
    "index": 110,
    "gguf": 250,
    "tokenizer": 220,
    "sentencepiece": 120,
    "csv": 100,
    "released": 60,
    "jsonl": 110,
    "parquet": 60,
    "arrow": 60,
    "answers": 40,
    "outputs": 60,
    "samples": 60,
    "batch": 40,
    "generated": 40,
    "predictions": 80,
    "resumed": 60,
    "annotations": 30,
    "study": 60,
    "yaml": 220,
    "plan": 30,
    "scores": 30,
    "metrics": 60,
    "probe": 60,
    "run": 80,
    "checkpoint": 40,
}


def forms() -> Iterator[Form]:
    """Every form."""
    yield from model_forms()
    yield from data_forms()
    yield from run_forms()
