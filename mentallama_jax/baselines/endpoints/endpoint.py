"""Where requests go: the address of an OpenAI-compatible endpoint, and the key that opens it.

The key comes from an environment variable alone. It is held by `ApiKey`, which shows itself as `***`.
"""

import ipaddress
import os
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown

KEY_VARIABLE = "OPENAI_API_KEY"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ApiKey:
    """A secret. Only `reveal` gives it; every other way of showing it gives `***`."""

    __slots__ = ("_secret",)

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def reveal(self) -> str:
        """The key itself, for the client alone."""
        return self._secret

    def __repr__(self) -> str:
        return "***"

    def __reduce__(self) -> str:
        raise TypeError("a key is not written anywhere")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address that chat requests are sent to.

    Attributes:
        url: up to and without `/chat/completions`, such as `https://api.openai.com/v1`.
        host: name and port, for messages and signatures.
        loopback: whether the address is one of this machine.
        encrypted: whether the way there is.
    """

    url: str
    host: str
    loopback: bool
    encrypted: bool

    @property
    def takes_max_completion_tokens(self) -> bool:
        """Whether the limit of an answer is called `max_completion_tokens`, as OpenAI's own newer models want it."""
        return self.host == "api.openai.com"


def parse_endpoint(text: str) -> Endpoint:
    """Read the address of an endpoint.

    Raises:
        UserError: it is no http or https address, or it holds a password or a query. What it holds is not shown then.
    """
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise UserError("--endpoint: not an address; give one such as https://api.openai.com/v1") from None
    if parts.username is not None or parts.password is not None:
        raise UserError("--endpoint: holds a name or a password; keys come from the environment (--key-variable)")
    if parts.query or parts.fragment:
        raise UserError("--endpoint: leave out what stands behind ? or #")
    if parts.scheme not in ("http", "https") or not host or not text.isprintable():
        raise UserError(f"--endpoint {shown(text)}: give an address such as https://api.openai.com/v1")
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    place = f"[{host}]" if ":" in host else host
    place += f":{port}" if port else ""
    url = SplitResult(parts.scheme, place, path, "", "").geturl()
    return Endpoint(url, place, _is_loopback(host), parts.scheme == "https")


def key_for(endpoint: Endpoint, variable: str = KEY_VARIABLE) -> ApiKey:
    """The key in an environment variable; a stand-in for an endpoint of this machine, where the variable is not set.

    Raises:
        UserError: the variable is not set, or holds what can be no key. It is never shown.
    """
    if not _NAME.fullmatch(variable):
        raise UserError("--key-variable: give the name of an environment variable, not the key itself")
    key = os.environ.get(variable, "").strip()
    if not key:
        if endpoint.loopback:
            return ApiKey("none")
        raise UserError(f"the environment variable {variable} is not set; put the key of {endpoint.host} into it")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(f"the environment variable {variable} does not hold a key: it has characters that no key has")
    return ApiKey(key)


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
