"""Which files of a Hugging Face folder hold the weights: one file, or several that an index names."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown, shown_tensor
from mentallama_jax.formats.folder import file_size, read_object


@dataclass(frozen=True, slots=True)
class WeightsForm:
    """A form in which weights are stored.

    Attributes:
        index: name of the file that says which tensor is in which file.
        single: name of the file that holds all of them.
    """

    index: str
    single: str


SAFETENSORS = WeightsForm("model.safetensors.index.json", "model.safetensors")
TORCH = WeightsForm("pytorch_model.bin.index.json", "pytorch_model.bin")


def stored_form(folder: Path) -> WeightsForm | None:
    """The form of the weights in a folder, safetensors before torch, as transformers chooses; None without weights."""
    return next(
        (form for form in (SAFETENSORS, TORCH) if any((folder / name).exists() for name in (form.index, form.single))),
        None,
    )


class Shards(NamedTuple):
    """The files that hold the weights.

    Attributes:
        paths: of the files.
        weight_map: tensor -> name of its file, by the index; None where there is one file without an index.
    """

    paths: list[Path]
    weight_map: dict[str, str] | None


def find_shards(folder: Path, form: WeightsForm) -> Shards:
    """The files of the weights in a folder.

    Raises:
        UserError: there are none; an index that is damaged, names files elsewhere or that are not there, or stands
            beside a whole file that it does not name.
    """
    weight_map = read_weight_map(folder, form)
    if weight_map is None:
        return Shards([folder / form.single], None)
    paths = [folder / name for name in sorted(set(weight_map.values()))]
    for path in paths:
        _check_place(path, form)
    return Shards(paths, weight_map)


def stored_bytes(folder: Path) -> int | None:
    """How many bytes the weights of a folder have; None where they are not (all) here, or not yet downloaded."""
    form = stored_form(folder)
    if form is None:
        return None
    weight_map = read_weight_map(folder, form)
    files = {folder / name for name in ([form.single] if weight_map is None else weight_map.values())}
    return sum(map(file_size, files)) if all(file.exists() for file in files) else None


def read_weight_map(folder: Path, form: WeightsForm) -> dict[str, str] | None:
    """Tensor -> file of the folder, by the index; None where there is the single file alone.

    Raises:
        UserError: see `find_shards`.
    """
    index, single = folder / form.index, folder / form.single
    if not index.exists():
        if single.exists():
            return None
        raise UserError(f"{folder}: no {form.single} or {form.index}; give the folder that holds the weights")
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError(f"{index}: no weight_map; download it again")
    for name, file in weight_map.items():
        if not isinstance(file, str) or not _is_file_name(file):
            raise UserError(f"{index}: {shown_tensor(name)} is in {shown(file)}, no name of a file in this folder")
    if single.exists() and form.single not in weight_map.values():
        raise UserError(
            f"{folder}: holds a whole {form.single} and an {form.index} of other files; "
            "remove the one that is not meant"
        )
    return weight_map


def _is_file_name(name: str) -> bool:
    """Whether a name stays in its folder: an index may come from anyone, and name any file of this machine."""
    return (
        0 < len(name.encode()) <= 255 and name not in (".", "..") and name.isprintable() and not {"/", "\\"} & set(name)
    )


def _check_place(path: Path, form: WeightsForm) -> None:
    """Refuse a file of the index that is not there, or that is a link to elsewhere."""
    if not path.exists():
        raise UserError(f"{path}: missing, though {form.index} lists it; download it again")
    home, target = path.parent.resolve(), path.resolve()
    # The cache of the hub keeps a model's files as snapshots/REVISION/NAME, links to blobs/HASH of the same model.
    blobs = home.parent.parent / "blobs" if home.parent.name == "snapshots" else home
    if target.parent not in (home, blobs):
        raise UserError(f"{path}: a link out of the folder; copy the file itself into it")
