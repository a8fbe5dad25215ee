"""Models on buckets: their files, fetched once into a cache here."""

import hashlib
import json
import os
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from mentallama_jax.errors import UserError
from mentallama_jax.files import atomic_folder
from mentallama_jax.storage import RemotePath

_IDENTITY = ("size", "generation", "etag", "ETag", "mtime", "LastModified", "created")
"""What tells one version of an object from another; each service has some of it."""


def fetch_model(source: RemotePath, patterns: Sequence[str]) -> Path:
    """A copy in `~/.cache/mentallama-jax`, made anew where the objects have changed.

    Args:
        source: a folder, or a `.gguf` file.
        patterns: names of the files to fetch of a folder.

    Raises:
        UserError: nothing there, or it cannot be read.
    """
    folder, wanted = (source.parent, [source.name]) if source.suffix == ".gguf" else (source, patterns)
    facts = {name: f for name, f in folder.facts().items() if any(fnmatch(name, pattern) for pattern in wanted)}
    facts = {name: f for name, f in facts.items() if "/" not in name}  # copies in other formats, in subfolders
    if not facts:
        raise UserError(f"{source}: no such model; name a folder with config.json and safetensors, or a .gguf file")
    identity = {name: [str(f[key]) for key in _IDENTITY if key in f] for name, f in facts.items()}
    digest = hashlib.sha256(json.dumps([str(folder), identity]).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mentallama-jax" / digest
    copy = cache / folder.name
    if not copy.exists():
        try:
            with atomic_folder(copy) as fresh:
                for name in facts:
                    (folder / name).download(fresh / name)
        except OSError:
            if not copy.exists():  # otherwise another process of this host was faster
                raise
    return copy / source.name if source.suffix == ".gguf" else copy
