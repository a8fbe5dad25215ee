"""Damage to files: of any bytes, of JSON by its structure, and of lines."""

import copy
import json
import random
from collections.abc import Callable
from typing import Any

# Stand for literals that `json.dumps` cannot write; `dumps` puts them in.
LITERALS = {
    "@nan@": "NaN",
    "@inf@": "-Infinity",
    "@huge@": "1e999",
    "@digits@": "9" * 5000,
    "@digits300@": "7" * 299,
    "@deep@": "[" * 30_000 + "]" * 30_000,
    "@objects@": '{"a":' * 20_000 + "1" + "}" * 20_000,
    "@surrogate@": r'"\ud800"',
    "@escape@": r'"\u001b[31m\u0000"',
    "@negative0@": "-0.0",
    "@comment@": "1 /* a comment */",
}
ABSURD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 1.5, -0.5, 1e308, 5e-324, 10**9, 2**31, 2**32, 2**63, 2**64 - 1, 10**30,
    "", " ", "text", "0", "1", "none", "\0", "../../../etc/passwd", "/etc/passwd", "[/x][red]", "x" * 3000, "é\u202e",
    [], {}, [[]], [None], [1], ["a", "a"], {"a": 1}, {"": {}}, [[[[]]]], [0] * 3000, *LITERALS,
)  # fmt: skip


def dumps(value: Any) -> bytes:
    """JSON, with the stand-ins of `LITERALS` replaced."""
    text = json.dumps(value, ensure_ascii=False)
    for name, literal in LITERALS.items():
        text = text.replace(f'"{name}"', literal)
    return text.encode("utf-8", "surrogatepass")


def places(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside a JSON value, containers included."""
    found = [prefix] if prefix else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        found += places(part, (*prefix, key))
    return found


def _holder(value: Any, place: tuple[Any, ...]) -> Any:
    for key in place[:-1]:
        value = value[key]
    return value


def change_json(value: Any, rng: random.Random) -> tuple[bytes, str]:
    """A JSON text that is `value` with one thing changed, and what that was."""
    value = copy.deepcopy(value)
    ways = places(value)
    # Long lists are full of the same: prefer places near the top.
    place = rng.choice(rng.choice([ways, [way for way in ways if len(way) <= 2]]) or ways)
    holder = _holder(value, place)
    kind = rng.choice(["value", "value", "value", "value", "drop", "twice", "rename", "swap", "add", "wrap"])
    name = ".".join(map(str, place))[:60]
    if kind == "value":
        holder[place[-1]] = rng.choice(ABSURD)
        return dumps(value), f"{name} = {holder[place[-1]]!r:.30}"
    if kind == "drop":
        del holder[place[-1]]
        return dumps(value), f"{name} dropped"
    if kind == "twice" and isinstance(holder, dict):
        other = rng.choice([holder[place[-1]], *ABSURD])
        holder["@twice@"] = other
        key = json.dumps(place[-1], ensure_ascii=False)
        return dumps(value).replace(b'"@twice@"', key.encode("utf-8", "surrogatepass")), f"{name} twice ({other!r:.20})"
    if kind == "swap":
        other = rng.choice(ways)
        second = _holder(value, other)
        if other[: len(place)] != place and place[: len(other)] != other:
            holder[place[-1]], second[other[-1]] = second[other[-1]], holder[place[-1]]
        return dumps(value), f"{name} swapped with {other}"
    if kind == "wrap":
        holder[place[-1]] = [holder[place[-1]]] if rng.random() < 0.5 else {"value": holder[place[-1]]}
        return dumps(value), f"{name} wrapped"
    if isinstance(holder, dict):
        new = rng.choice(["", "x", "\0", "a" * 500, "__class__", str(place[-1]).upper(), "\x1b[31m", "[/x]"])
        holder[new] = holder.pop(place[-1]) if kind == "rename" else rng.choice(ABSURD)
        return dumps(value), f"{name} {kind} {new!r:.20}"
    holder.append(rng.choice(ABSURD))
    return dumps(value), f"{name} appended {holder[-1]!r:.20}"


def change_bytes(content: bytes, rng: random.Random, first: int | None = None) -> tuple[bytes, str]:
    """The bytes with something flipped, cut, put in or put twice; within the first `first` bytes if given."""
    end = len(content) if first is None else min(first, len(content))
    at, other = sorted((rng.randrange(end + 1), rng.randrange(end + 1)))
    kinds: dict[str, Callable[[], bytes]] = {
        "cut off": lambda: content[:at],
        "emptied": lambda: b"",
        "bit flipped": lambda: _flip(content, min(at, max(end - 1, 0)), 1 << rng.randrange(8)),
        "bits flipped": lambda: _flip(
            _flip(content, min(at, max(end - 1, 0)), 0xFF), min(other, max(end - 1, 0)), 0x80
        ),
        "NUL put in": lambda: content[:at] + b"\0" + content[at:],
        "bad UTF-8 put in": lambda: content[:at] + rng.choice([b"\xff", b"\xc3", b"\xed\xa0\x80"]) + content[at:],
        "part removed": lambda: content[:at] + content[other:],
        "part twice": lambda: content[:other] + content[at:other] + content[other:],
        "zeros": lambda: content[:at] + b"\0" * (other - at) + content[other:],
        "noise": lambda: content[:at] + rng.randbytes(min(other - at, 64)) + content[min(other, at + 64) :],
        "more behind": lambda: content + rng.randbytes(8),
        "byte-order mark": lambda: rng.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"]) + content,
    }
    kind = rng.choice([*kinds, "bit flipped", "bit flipped", "cut off"])
    return kinds[kind](), f"{kind} at {at}..{other}"


def _flip(content: bytes, at: int, mask: int) -> bytes:
    return content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :] if content else b""


def change_lines(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """JSON lines with one line changed by its structure, twice, gone or in another's place."""
    lines = content.splitlines()
    at = rng.randrange(len(lines))
    kind = rng.choice(["json", "json", "json", "json", "twice", "gone", "joined", "raw"])
    if kind == "json":
        lines[at], what = change_json(json.loads(lines[at]), rng)
        return b"\n".join(lines) + b"\n", f"line {at + 1}: {what}"
    if kind == "twice":
        lines.insert(rng.randrange(len(lines) + 1), lines[at])
    elif kind == "gone":
        del lines[at]
    elif kind == "joined":
        lines[at] = lines[at] * 2
    else:
        lines[at] = dumps(rng.choice(ABSURD))
    return b"\n".join(lines) + b"\n", f"line {at + 1}: {kind}"
