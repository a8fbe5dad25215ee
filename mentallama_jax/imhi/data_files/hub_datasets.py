"""Data sets on the Hugging Face hub, by way of `datasets`: late, quietly, and with a limit to waiting."""

import importlib
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.hub import download, limit_silence, told

PREFIX = "hub:"

SECONDS = 90.0
"""How long the hub may take to say what a data set holds. Downloads have the limits of `huggingface_hub`, see there."""


def load_parts(name: str) -> dict[tuple[str, str], Any]:
    """The rows of `owner/name` or `owner/name@revision`: (configuration, split) -> a `datasets.Dataset`.

    They are fetched once into the cache of `datasets`.

    Args:
        name: the repository, without the `hub:` in front.

    Returns:
        The parts; none where the repository's files do not make up tables with the same columns, as those of the
        release: `fetch_files` then gives them one by one.

    Raises:
        UserError: no such repository or revision, no access, no answer, no network and not in the cache.
    """
    repository, _, revision = name.partition("@")
    with told(PREFIX + name, "dataset"), _quiet():
        import datasets
        from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

        validate_repo_id(repository)
        limit_silence()

        def described(configuration: str | None, **options: Any) -> Any:
            builder = _within_limit(
                lambda: datasets.load_dataset_builder(repository, configuration, revision=revision or None, **options),
                name,
            )
            if builder.BUILDER_CONFIG_CLASS.__name__ == "CsvConfig" and not options:
                return described(configuration, keep_default_na=False)  # a post may be the word `NA`
            return builder

        try:
            builders = _builders(described, repository, revision or None, name)
            parts: dict[tuple[str, str], Any] = {}
            for builder in builders:
                builder.download_and_prepare()
                found = builder.as_dataset()
                parts |= {(builder.config.name, str(split)): rows for split, rows in found.items()}
        except (datasets.exceptions.DatasetGenerationError, datasets.exceptions.DataFilesNotFoundError):
            return {}
        return parts


def fetch_files(name: str, suffixes: tuple[str, ...]) -> Path:
    """The local folder with the data files of `owner/name` or `owner/name@revision`.

    Args:
        name: the repository, without the `hub:` in front.
        suffixes: endings of the files to fetch, in small letters; they are matched in any case.

    Raises:
        UserError: as `load_parts`.
    """
    repository, _, revision = name.partition("@")
    in_any_case = [
        "*" + "".join(f"[{letter}{letter.upper()}]" if letter.isalpha() else letter for letter in suffix)
        for suffix in suffixes
    ]
    with _quiet():
        return download(repository, "dataset", revision or None, in_any_case, label=PREFIX + name)


def _builders(described: Callable[[str | None], Any], repository: str, revision: str | None, name: str) -> list[Any]:
    """What `datasets` knows of each configuration of a repository."""
    import datasets

    try:
        return [described(None)]
    except ValueError as error:
        if "Config name is missing" not in str(error):
            raise
    names = _within_limit(lambda: datasets.get_dataset_config_names(repository, revision=revision), name)
    return [described(configuration) for configuration in names]


def _within_limit(ask: Callable[[], Any], name: str) -> Any:
    """The answer of the hub. The clients wait for a silent server much longer than a person does."""
    answers: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue()

    def work() -> None:
        try:
            answers.put((ask(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=work, daemon=True, name="ask the hub").start()
    try:
        answer, error = answers.get(timeout=SECONDS)
    except queue.Empty:
        raise UserError(
            f"{PREFIX}{name} could not be fetched: the hub did not answer within {SECONDS:.0f} s; try again, or set "
            "HF_HUB_OFFLINE=1 to use what is in the cache"
        ) from None
    if error is not None:
        raise error
    return answer


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep progress bars and log lines of the clients off the terminal."""
    # As modules of any type: not all of these names are declared to be public.
    clients: list[Any] = [importlib.import_module(name) for name in ("datasets", "huggingface_hub.utils")]
    before = [(client, client.are_progress_bars_disabled(), client.logging.get_verbosity()) for client in clients]
    for client in clients:
        client.disable_progress_bars()
        client.logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        for client, disabled, level in before:
            client.logging.set_verbosity(level)
            if not disabled:
                client.enable_progress_bars()
