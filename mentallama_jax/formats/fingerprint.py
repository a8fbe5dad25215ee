"""What a model's files hold, in one short text, wherever they lie and however their path is written."""

import hashlib
from pathlib import Path

from mentallama_jax.formats.locate import locate
from mentallama_jax.formats.shards import find_shards, stored_form

_SAMPLES = 16
_SAMPLE_BYTES = 1 << 16


def source_fingerprint(source: str, revision: str | None = None) -> str:
    """SHA-256 of the config and of samples of the weights: their headers, their sizes, and 16 places of each file.

    A copy, another spelling of the path, and the same files from elsewhere have the same one. Other weights of the same
    shape have another one.

    Args:
        source: as in `model.source`.
        revision: branch, tag or commit of a hub id.

    Raises:
        UserError: no such model.
    """
    path = locate(source, revision, weights=True)
    files = [path] if path.is_file() else sorted([*_weights(path), *path.glob("config.json")])
    digest = hashlib.sha256()
    for file in files:
        name = "" if path.is_file() else file.name
        digest.update(f"{name}:{file.stat().st_size}:".encode())
        for block in _samples(file):
            digest.update(block)
    return digest.hexdigest()


def _weights(folder: Path) -> list[Path]:
    form = stored_form(folder)
    return [] if form is None else [path for path in find_shards(folder, form).paths if path.exists()]


def _samples(file: Path) -> list[bytes]:
    """The beginning of a file, with the header, its end, and places in between."""
    last = max(file.stat().st_size - _SAMPLE_BYTES, 0)
    with file.open("rb") as stream:
        blocks = []
        for start in sorted({last * number // (_SAMPLES - 1) for number in range(_SAMPLES)}):
            stream.seek(start)
            blocks.append(stream.read(_SAMPLE_BYTES))
        return blocks
