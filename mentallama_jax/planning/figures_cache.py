"""Compiled figures by content: what decides a program decides its name."""

import hashlib
import json
from pathlib import Path
from typing import Any

from mentallama_jax.files import write_json


class FiguresCache:
    """A folder of JSON files, each the figures of one compiled program."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @staticmethod
    def key(*parts: str) -> str:
        """SHA-256 of all that decides a program: its lowered text, the topology, versions, flags."""
        digest = hashlib.sha256()
        for part in parts:
            digest.update(f"{len(part)}:".encode() + part.encode())
        return digest.hexdigest()

    def read(self, key: str) -> dict[str, Any] | None:
        """The figures of a program; None where there are none, or the file is damaged."""
        if self._folder is None:
            return None
        try:
            found = json.loads((self._folder / f"{key}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def write(self, key: str, figures: dict[str, Any]) -> None:
        """Keep the figures of a program; the file appears at once or not at all."""
        if self._folder is not None:
            write_json(self._folder / f"{key}.json", figures)
