"""Data sets on the Hugging Face hub."""

from pathlib import Path

from mentallama_jax import hub

PREFIX = "hub:"


def fetch_dataset(name: str, suffixes: tuple[str, ...]) -> Path:
    """The local folder with the data files of `owner/name` or `owner/name@revision`.

    Args:
        name: the repository, without the `hub:` in front.
        suffixes: endings of the files to fetch.

    Raises:
        UserError: no such repository or revision, no access, no network and not in the cache.
    """
    repository, _, revision = name.partition("@")
    patterns = [f"*{suffix}" for suffix in suffixes]
    return hub.download(repository, "dataset", revision or None, patterns, label=f"{PREFIX}{name}")
