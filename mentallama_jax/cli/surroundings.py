"""What is wrong with the machine or its settings, from exceptions that libraries raise over it."""

import os
import traceback

_PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")


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
    if not _from(error, "httpx", "huggingface_hub", "gcsfs", "aiohttp", "requests"):
        return None
    if isinstance(error, ImportError) and "SOCKS" in text:
        return f"{_set_proxy()} asks for a SOCKS proxy, which needs a package; pip install socksio, or unset it"
    if isinstance(error, UnicodeEncodeError):
        return "HF_TOKEN holds a character that no token has; set it again, or unset it"
    if type(error).__name__ in ("InvalidURL", "UnsupportedProtocol", "ProxyError"):
        return f"the address in {_set_proxy()} is not usable ({text}); mend it, or unset it"
    return None


def _from(error: BaseException, *packages: str) -> bool:
    """Whether the exception came out of one of some packages."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(package in frame.filename for frame in frames for package in packages)


def _set_proxy() -> str:
    names = [name for upper in _PROXIES for name in (upper, upper.lower()) if os.environ.get(name)]
    return names[0] if names else "HF_ENDPOINT or a proxy setting"
