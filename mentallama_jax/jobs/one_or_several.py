"""What may be given alone or several times, as people write it in Python."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any


def several(given: Any) -> list[Any]:
    """The list of what is given: a text, a path or a task is one thing, and no list of letters."""
    return list(given) if isinstance(given, Iterable) and not isinstance(given, str | Path) else [given]
