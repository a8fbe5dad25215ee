"""The key of pseudonyms: made here, read from a file or the environment, never printed and never beside the data."""

import os
import re
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

from mentallama_jax.errors import UserError
from mentallama_jax.files import regular_file
from mentallama_jax.foreign import reading

VARIABLE = "MENTALLAMA_DISGUISE_KEY"
"""The environment variable that may hold a key."""

_BYTES = 32
_HEX = re.compile(r"[0-9a-f]{64}", re.IGNORECASE)
_MOST = 4096


@dataclass(frozen=True, slots=True)
class DisguiseKey:
    """A secret of 32 bytes; it is in no `repr`.

    Whoever has it and a guess of the original text can confirm the guess, so it does not travel with the data.
    """

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != _BYTES:
            raise UserError(f"a key of pseudonyms has {_BYTES} bytes, not {len(self.secret)}")


def new_key(path: Path) -> DisguiseKey:
    """Make a key and write it to a new file that only its owner can read.

    Raises:
        UserError: the file exists already, or cannot be written.
    """
    secret = secrets.token_bytes(_BYTES)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        raise UserError(f"{path}: exists already; use it by --key-file, or name a new file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        os.fchmod(stream.fileno(), 0o600)
        stream.write(secret.hex() + "\n")
    return DisguiseKey(secret)


def read_key(path: Path) -> DisguiseKey:
    """The key in a file that `new_key` wrote.

    Raises:
        UserError: no such file, others can read it, or it holds no key; what it holds is never quoted.
    """
    regular_file(path)
    with reading(path, "key", may_hold_posts=True):
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise UserError(f"{path}: others can read this key; run `chmod 600` on it")
        with path.open("rb") as stream:
            text = stream.read(_MOST).decode("ascii", "replace")
    return _parsed(text, str(path))


def key_of_environment() -> DisguiseKey | None:
    """The key in the environment variable; None where it is not set.

    Raises:
        UserError: what it holds is no key.
    """
    text = os.environ.get(VARIABLE, "")
    return _parsed(text, f"the environment variable {VARIABLE}") if text else None


def refuse_beside(key: Path, out: Path) -> None:
    """Refuse a key file in the folder that the data are written to, or below it.

    Raises:
        UserError: it is there.
    """
    folder = out if out.suffix == "" else out.parent
    if folder.resolve() in key.resolve().parents:
        raise UserError(f"{key}: the key would lie in {folder}, beside the data that it disguises; keep it elsewhere")


def _parsed(text: str, place: str) -> DisguiseKey:
    if not _HEX.fullmatch(text.strip()):
        raise UserError(f"{place}: holds no key of 64 hexadecimal digits; make one with --new-key FILE")
    return DisguiseKey(bytes.fromhex(text.strip()))
