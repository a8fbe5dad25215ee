"""Reads a config of any root from YAML plus dotted overrides; a misspelt key is refused with the nearest known one.

Each command that has a config has a root, a pydantic model of sections: `run_config.RunConfig` is that of training. A
section can be one of several kinds, a union told by its key `kind`. The YAML is read by `strict_yaml`; relative paths
in it are read from the folder the command runs in.
"""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from mentallama_jax.config.shipped import find_config, near_config
from mentallama_jax.errors import UserError
from mentallama_jax.files import regular_file
from mentallama_jax.foreign import shown
from mentallama_jax.strict_yaml import parse_yaml

_LONGEST_TEXT = 1000
_MOST_PROBLEMS = 3
_LONGEST_PROBLEM = 90
_FEW_KEYS = 8
_NEAR = 0.7
KIND = "kind"
"""The key that tells which member of a union a section is."""
ALTERNATIVES = (("training.epochs", "training.steps"),)
"""Keys of which a config holds one: an override that sets one clears the others of the file."""

Root = TypeVar("Root", bound=BaseModel)


def read_config(root: type[Root], path: str | Path, overrides: Sequence[str] = ()) -> Root:
    """Read a YAML file, or a shipped config by its name, and apply overrides such as `training.steps=20`.

    Of `ALTERNATIVES` an override that sets one key clears the others, unless overrides set these too.

    Raises:
        UserError: unreadable file, invalid YAML, an unknown key (with the nearest known one) or a bad value. It names
            the file, or the command line where an override is at fault.
    """
    path = find_config(path)
    if not path.exists():
        raise UserError(f"{path}: no such config; {near_config(path)}")
    values = parse_yaml(regular_file(path).read_bytes(), path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected sections such as `model:` and `data:`")
    return changed(root, values, str(path), overrides)


def changed(root: type[Root], values: dict[str, Any], origin: str, overrides: Sequence[str]) -> Root:
    """Apply overrides to plain values, as read from YAML, and check them; `origin` names them in errors.

    Raises:
        UserError: as `read_config`.
    """
    values = copy.deepcopy(values)
    given = [_apply(values, override) for override in overrides]
    _clear_alternatives(values, given)
    return validate(root, values, origin, given)


def validate(root: type[Root], values: Any, origin: str, overridden: Sequence[str] = ()) -> Root:
    """Check plain values, as read from YAML or from JSON; `origin` names them in errors.

    Args:
        root: the config.
        values: its sections.
        origin: where they come from.
        overridden: keys that the command line set; problems of these are said to come from there.

    Raises:
        UserError: an unknown key (with the nearest known one) or a bad value; at most three are named.
    """
    if not isinstance(values, dict):
        raise UserError(f"{origin}: expected the sections of a config")
    _check_texts(values, origin, overridden=overridden)
    try:
        # A section whose keys are all commented out is read as null: its keys take their defaults.
        return root.model_validate(
            {key: {} if value is None and not _may_be_null(root, key) else value for key, value in values.items()}
        )
    except ValidationError as error:
        found: dict[str, None] = {}
        by_origin: dict[str, list[str]] = {}
        for problem in error.errors(include_url=False):
            text = _explain(problem, root, values)
            if text not in found and len(found) < _MOST_PROBLEMS:
                key = ".".join(_place(problem["loc"], root))
                by_origin.setdefault(_origin(key, text, origin, overridden), []).append(text)
            found[text] = None
        more = f"; and {len(found) - _MOST_PROBLEMS} more" if len(found) > _MOST_PROBLEMS else ""
        raise UserError("; ".join(f"{of}: {'; '.join(texts)}" for of, texts in by_origin.items()) + more) from None


def known_keys(root: type[BaseModel], values: Mapping[str, Any] | None = None, prefix: str = "") -> Iterator[str]:
    """Yield every dotted key, sections included; of a union those of the kind in `values`, or of all its members."""
    for name, info in root.model_fields.items():
        yield prefix + name
        given = values.get(name) if values else None
        given = given if isinstance(given, Mapping) else {}
        members = _sections(info.annotation)
        chosen = [member for member in members if len(members) > 1 and given.get(KIND) in _kinds(member)]
        seen = set()
        for member in chosen or members:
            for key in known_keys(member, given, f"{prefix}{name}."):
                if key not in seen:
                    seen.add(key)
                    yield key


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The sections that an annotation allows: one, the members of a union, or none."""
    found = [annotation, *get_args(annotation)]
    return [one for one in found if isinstance(one, type) and issubclass(one, BaseModel)]


def _may_be_null(root: type[BaseModel], key: str) -> bool:
    """Whether a section may be left out altogether, and null says so."""
    return key in root.model_fields and type(None) in get_args(root.model_fields[key].annotation)


def _kinds(section: type[BaseModel]) -> tuple[Any, ...]:
    field = section.model_fields.get(KIND)
    return get_args(field.annotation) if field else ()


def _check_texts(values: Any, origin: str, key: str = "", overridden: Sequence[str] = ()) -> None:
    """Refuse texts that are no names of anything: with control characters, half surrogate pairs, or very long."""
    if isinstance(values, str):
        if len(values) > _LONGEST_TEXT or not values.isprintable():
            of = _origin(key, key, origin, overridden)
            raise UserError(f"{of}: {key or 'a value'} is {shown(values, 40)}; expected a short printable text")
    elif isinstance(values, dict):
        for name, value in values.items():
            _check_texts(value, origin, f"{key}.{shown(name)[1:-1]}".removeprefix("."), overridden)
    elif isinstance(values, list | tuple):
        for value in values:
            _check_texts(value, origin, key, overridden)


def _origin(key: str, text: str, origin: str, overridden: Sequence[str]) -> str:
    """Where a problem comes from: the command line, where it set the key at fault or one that the problem names."""
    for given in overridden:
        if key == given or key.startswith(f"{given}."):
            return "command line"
        beneath = given.startswith(f"{key}.") or not key
        if beneath and given in text:
            return f"command line, over {origin}"
        if beneath and key and re.search(rf"\b{re.escape(given.rpartition('.')[2])}\b", text.removeprefix(key)):
            return f"command line, over {origin}"
        if key and given.startswith(f"{key}.") and text.startswith(f"unknown key {key}"):
            return "command line"
    return origin


def _clear_alternatives(values: dict[str, Any], given: Sequence[str]) -> None:
    """Drop what the file says of a key where the command line sets its alternative."""
    for keys in ALTERNATIVES:
        chosen = [key for key in keys if key in given and _value(values, key) is not None]
        for key in keys if chosen else ():
            if key not in given and _value(values, key) is not None:
                section, _, last = key.rpartition(".")
                del values[section][last]


def _value(values: Mapping[str, Any], key: str) -> Any:
    place: Any = values
    for part in key.split("."):
        place = place.get(part) if isinstance(place, Mapping) else None
    return place


def _apply(values: dict[str, Any], override: str) -> str:
    """Set a value; return its key."""
    named = f"override {shown(override, 80)}"
    key, equals, text = override.partition("=")
    *sections, last = key.split(".")
    if not equals or not all((*sections, last)):
        raise UserError(f"{named}: expected section.key=value")
    place: Any = values
    for section in sections:
        if place.get(section) is None:  # absent, or emptied
            place[section] = {}
        place = place[section]
        if not isinstance(place, dict):
            raise UserError(f"{named}: {shown('.'.join(sections))[1:-1]} is not a section")
    place[last] = parse_yaml(text, named)
    return key


def _explain(problem: Any, root: type[BaseModel], values: Mapping[str, Any]) -> str:
    parts = _place(problem["loc"], root)
    if problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
        given, kinds = problem["ctx"].get("tag"), ", ".join(_kinds_at(parts, root))
        what = "missing" if given is None else f"there is no {shown(given)}"
        return f"{'.'.join([*parts, KIND])}: {what}; there are: {kinds}"
    key = shown(".".join(parts))[1:-1] if parts else ""
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key}{_hint(key, root, values)}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "literal_error":
        message = f"Input should be {problem['ctx']['expected']}"
    if problem["type"] != "value_error" and len(message) > _LONGEST_PROBLEM:
        message = message[:_LONGEST_PROBLEM] + "..."
    if problem["type"] == "tuple_type":
        message = "Input should be a list, such as [A, B], or one value"
    if problem["type"] == "bool_type":
        message += " (true or false)"
    return f"{key}: {message}" if key else message


def _hint(key: str, root: type[BaseModel], values: Mapping[str, Any]) -> str:
    """The kinds of the section that have this key, or the nearest key that is near."""
    section, _, last = key.rpartition(".")
    kinds = [kind for kind, member in _members_at(section.split("."), root) if last in member.model_fields]
    if kinds:
        return f"; it goes with {section}.{KIND}={' or '.join(kinds)}"
    names, given = list(known_keys(root, values)), _value_at(values, key)
    if not isinstance(given, Mapping):
        near = max(names, key=lambda known: _nearness(key, known))
        if _nearness(key, near) >= _NEAR:
            return f"; did you mean {near}?"
        own = [name.rpartition(".")[2] for name in names if section and name.rpartition(".")[0] == section]
        return f"; {section} has {', '.join(own)}" if 0 < len(own) <= _FEW_KEYS else ""
    sections = [name for name in names if any(other.startswith(f"{name}.") for other in names)]
    near = max(sections, key=lambda known: _nearness(key, known), default="")
    if near and _nearness(key, near) >= _NEAR:
        return f"; did you mean {near}?"
    meant = [name for name in names if "." in name and name.rpartition(".")[2] in given]
    return f"; did you mean {meant[0]}?" if len(meant) == 1 else ""


def _value_at(values: Mapping[str, Any], key: str) -> Any:
    place: Any = values
    for part in key.split("."):
        place = place.get(part) if isinstance(place, Mapping) else None
    return place


def _nearness(key: str, known: str) -> float:
    """How alike two keys are, from 0 to 1: their last parts, and their sections where both have one."""
    section, _, last = key.rpartition(".")
    known_section, _, known_last = known.rpartition(".")
    alike = SequenceMatcher(None, last.lower(), known_last).ratio()
    if last != known_last and section:
        alike = min(alike, SequenceMatcher(None, section.lower(), known_section).ratio())
    return alike


def _place(location: Sequence[Any], root: type[BaseModel]) -> list[str]:
    """The keys of a place, without what pydantic puts between them: names of types, and kinds of sections."""
    parts: list[str] = []
    sections: list[type[BaseModel]] = [root]
    for part in map(str, location):
        if len(sections) > 1 and any(part in _kinds(section) for section in sections):
            sections = [section for section in sections if part in _kinds(section)]
            continue
        if re.search(r"[\[\]]", part):  # a member of another union, as `literal['none',...]`
            continue
        parts.append(part)
        fields = [section.model_fields[part] for section in sections if part in section.model_fields]
        sections = [section for field in fields for section in _sections(field.annotation)]
    return parts


def _kinds_at(parts: Sequence[str], root: type[BaseModel]) -> list[str]:
    """The kinds of the section at a place."""
    return [kind for kind, _ in _members_at(parts, root)]


def _members_at(parts: Sequence[str], root: type[BaseModel]) -> list[tuple[str, type[BaseModel]]]:
    """Each kind of the section at a place, with its model; none where it is of one kind."""
    sections = [root]
    for part in parts:
        fields = [section.model_fields[part] for section in sections if part in section.model_fields]
        sections = [section for field in fields for section in _sections(field.annotation)]
    return [(str(kind), section) for section in sections for kind in _kinds(section)]
