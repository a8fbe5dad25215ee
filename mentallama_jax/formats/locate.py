"""Where a model comes from: a folder, a `.gguf` file, a bucket, an installed package that carries one, or the hub."""

import re
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from mentallama_jax import hub
from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown
from mentallama_jax.formats.bucket_models import fetch_model
from mentallama_jax.formats.file_names import TOKENIZER_FILES
from mentallama_jax.formats.shards import TORCH, stored_form
from mentallama_jax.storage import RemotePath, is_remote

_CONFIG_PATTERNS = ("config.json", "generation_config.json", *TOKENIZER_FILES)
_WEIGHT_PATTERNS = ("model*.safetensors", "model.safetensors.index.json")
_TORCH_PATTERNS = ("pytorch_model*.bin", TORCH.index)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PACKAGE = "package:"
_PATHS = ("./", "../", "~", "/", "runs/")
_LISTED = 5


def locate(source: str | Path, revision: str | None = None, *, weights: bool) -> Path:
    """The local folder or `.gguf` file that `source` stands for, downloaded if need be.

    Args:
        source: a folder; a `.gguf` file; the URL of either; `package:NAME`, the one `.gguf` file or model folder
            inside an installed Python package; or a hub id such as `meta-llama/Llama-2-7b-hf`.
        revision: branch, tag or commit of a hub id.
        weights: whether the weights are wanted besides config and tokenizer.

    Raises:
        UserError: nothing there, or the hub does not give it (offline, gated, unknown, no such revision).
    """
    text = str(source)
    if text.startswith(_PACKAGE):
        return _packaged(text.removeprefix(_PACKAGE))
    if is_remote(text):
        if revision is not None:
            raise UserError(f"{source}: a revision ({revision}) goes with a hub id, but this is a URL")
        return fetch_model(
            RemotePath(text.rstrip("/")),
            [*_CONFIG_PATTERNS, *((*_WEIGHT_PATTERNS, *_TORCH_PATTERNS) if weights else ())],
        )
    path = Path(source).expanduser()
    if path.is_dir() or path.is_file():
        if path.is_file() and path.suffix != ".gguf":
            raise UserError(f"{source}: not a folder or a .gguf file; give the folder that holds config.json")
        if revision is not None:
            raise UserError(f"{source}: a revision ({revision}) goes with a hub id, but this is a path")
        return path
    if isinstance(source, Path) or (looks_like_path(text) and revision is None):
        raise UserError(f"{source}: no such folder or file{_near(path)}")
    if not _HUB_ID.fullmatch(text):
        raise UserError(f"{source}: no such folder or file (a hub id looks like owner/name)")
    return _download(text, revision, weights)


def is_hub_id(source: str) -> bool:
    """Whether a name that is nothing on this machine may be a repository on the hub."""
    return bool(_HUB_ID.fullmatch(source)) and not looks_like_path(source) and not Path(source).expanduser().exists()


def looks_like_path(source: str) -> bool:
    """Whether a name means a place on this machine, though nothing is there: a misspelt run is no repository."""
    if source.startswith(_PATHS):
        return True
    return "/" in source and Path(source).expanduser().parent.is_dir()


def _near(path: Path) -> str:
    """What stands where a path leads, as a hint: the nearest name, else some, else the part that is not there."""
    parent = path.parent
    try:
        names = sorted(each.name for each in parent.iterdir() if not each.name.startswith("."))
    except OSError:
        return f"; there is no folder {parent}"
    if near := get_close_matches(path.name, names, n=1, cutoff=0.6):
        return f"; did you mean {shown(str(parent / near[0]))[1:-1]}?"
    listed = ", ".join(shown(name)[1:-1] for name in names[:_LISTED])
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"; in {parent} there is {listed or 'nothing'}{more}"


def _packaged(name: str) -> Path:
    spec = find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{_PACKAGE}{name}: no such Python package; install it with pip")
    places = [Path(place) for place in spec.submodule_search_locations]
    files = [path for place in places for path in sorted(place.glob("*.gguf"))]
    folders = [path.parent for place in places for path in sorted(place.glob("**/config.json")) if _is_model(path)]
    if len(files) + len(folders) != 1:
        raise UserError(
            f"{_PACKAGE}{name}: holds {len(files)} .gguf files and {len(folders)} model folders, expected one; give a "
            "path"
        )
    return [*files, *folders][0]


def _is_model(config: Path) -> bool:
    return stored_form(config.parent) is not None


def _download(repo_id: str, revision: str | None, weights: bool) -> Path:
    patterns = [*_CONFIG_PATTERNS, *(_WEIGHT_PATTERNS if weights else ())]
    label = f"{repo_id}, revision {shown(revision)[1:-1]}" if revision else repo_id
    # Patterns match across "/": leave out copies in other formats that some repositories keep in subfolders.
    folder = hub.download(repo_id, "model", revision, patterns, label=label, ignore="*/*")
    if weights and stored_form(folder) is None:  # older repositories have torch's own files alone
        folder = hub.download(repo_id, "model", revision, [*patterns, *_TORCH_PATTERNS], label=label, ignore="*/*")
    return folder
