"""What systems are called beside one another."""

from collections.abc import Sequence
from pathlib import Path

from mentallama_jax.errors import UserError
from mentallama_jax.storage import AnyPath

_ENDINGS = (".jsonl", ".json", ".csv", ".tsv")


def system_names(paths: Sequence[str | AnyPath]) -> list[str]:
    """A name for each file or folder of predictions that can be that of a folder: the last part of its path.

    Where two would be equal, more of the path stands before, with `-` between.

    Raises:
        UserError: one is given twice.
    """
    parts = [_parts(path) for path in paths]
    depth = 1
    while len({part[-depth:] for part in parts}) < len(set(parts)):
        depth += 1
    found = ["-".join(part[-depth:]) for part in parts]
    twice = next((place for place, name in enumerate(found) if name in found[:place]), None)
    if twice is not None:
        raise UserError(
            f"{paths[twice]}: given twice; name each system once (two columns of one file: evaluate each by "
            "--columns, then compare the two folders of scores)"
        )
    return found


def _parts(path: str | AnyPath) -> tuple[str, ...]:
    whole = str(Path(path).expanduser().resolve() if isinstance(path, Path) else path)
    *folders, last = [part for part in whole.replace(":", "/").split("/") if part] or ["predictions"]
    ending = next((each for each in _ENDINGS if last.lower().endswith(each) and len(last) > len(each)), "")
    return (*folders, last.removesuffix(last[len(last) - len(ending) :]) if ending else last)
