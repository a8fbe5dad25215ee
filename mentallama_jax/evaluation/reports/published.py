"""Figures that papers report, from `published.yaml`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

_OWN = "MentaLLaMA-chat-13B"


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A table of weighted F1.

    Attributes:
        name: of the table.
        source: the paper and the place in it.
        checked: how the figures were checked.
        models: model -> data set -> weighted F1 in %; a set without a figure is absent.
    """

    name: str
    source: str
    checked: str
    models: Mapping[str, Mapping[str, float]]


@cache
def published_tables() -> tuple[PublishedTable, ...]:
    """Every published table."""
    text = files("mentallama_jax.evaluation.reports").joinpath("published.yaml").read_text(encoding="utf-8")
    return tuple(
        PublishedTable(
            name=table["name"],
            source=table["source"],
            checked=table["checked"],
            models={
                model: {name: f1 for name, f1 in zip(table["datasets"], row, strict=True) if f1 is not None}
                for model, row in table["models"].items()
            },
        )
        for table in yaml.safe_load(text)["tables"]
    )


def published_beside() -> tuple[str, Mapping[str, float]]:
    """The model whose figures stand in pictures of weighted F1, and they."""
    return _OWN, published_tables()[0].models[_OWN]
