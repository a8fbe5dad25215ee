"""Keys of a run that say nothing of its result, and how keys and sections are looked up."""

from collections.abc import Sequence

IDLE_KEYS = (
    "model.remat",
    "model.offload",
    "data.cache_dir",
    "training.micro_batch_rows",
    "training.run_dir",
    "training.log_every",
    "training.compile_cache_dir",
    "mesh",
    "checkpoint",
)
"""They change where, how fast and in how much memory a run is made: one that is under way goes on with others."""


def is_among(key: str, keys: Sequence[str]) -> bool:
    """Whether a key such as `model.remat`, or the section that it stands in, is one of `keys`."""
    return any(key == each or key.startswith(f"{each}.") for each in keys)
