"""The tables of probes: those of the package, and files of the same layout."""

from importlib import resources
from pathlib import Path
from typing import Any

from mentallama_jax.files import regular_file
from mentallama_jax.foreign import reading
from mentallama_jax.strict_yaml import parse_yaml


def packaged_table(name: str) -> Any:
    """What a table that comes with the package holds."""
    return parse_yaml(resources.files("mentallama_jax.evaluation.probes").joinpath(name).read_bytes(), name)


def table_of_file(path: Path) -> Any:
    """What a table in a file holds.

    Raises:
        UserError: no such file, or not YAML.
    """
    regular_file(path)
    with reading(path, "YAML"):
        content = path.read_bytes()
    return parse_yaml(content, path)
