"""What is wrong with the machine or its settings, from exceptions that libraries raise over it."""

import os
import traceback


def explain(error: BaseException) -> str | None:
    """One line on a fault of the user's surroundings; None where the exception is no such fault.

    Args:
        error: what no room of the package has turned into a `UserError`.
    """
    text = " ".join(str(error).split())
    if isinstance(error, RecursionError):
        return "a file is nested too deeply to be read"
    if isinstance(error, MemoryError):
        return "out of memory on this host; take smaller batches, a shorter data.max_length or a smaller model"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or text or type(error).__name__}"
    asked = os.environ.get("JAX_PLATFORMS", "")
    if _from(error, "xla_bridge") and (asked or text.startswith("Unable to initialize backend")):
        return (
            f"JAX_PLATFORMS={asked}: jax finds no such device here; unset it, or install what the device needs "
            "(the extras cuda and tpu)"
        )
    if isinstance(error, RuntimeError) and "home directory" in text:
        return "no home directory is known; set HOME"
    return None


def _from(error: BaseException, *packages: str) -> bool:
    """Whether the exception came out of one of some packages."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(package in frame.filename for frame in frames for package in packages)
