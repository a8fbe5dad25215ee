"""Puts an exported folder on the Hugging Face hub: private unless asked, a model and its card and nothing else."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mentallama_jax import __version__
from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown
from mentallama_jax.formats.file_names import TOKENIZER_FILES
from mentallama_jax.formats.peft import WEIGHTS as ADAPTER_WEIGHTS
from mentallama_jax.formats.peft_options import CONFIG as ADAPTER_CONFIG
from mentallama_jax.hub import told_writing
from mentallama_jax.imhi.task_files.kept_tasks import KEPT

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CARD = "README.md"
RESEARCH_ONLY = "Not for clinical use"
"""Words of the card that `formats.model_card` writes into each."""

_OF_A_MODEL = frozenset(
    {CARD, KEPT, "config.json", "generation_config.json", "model.safetensors.index.json"}
    | {"vocab.txt", "vocab.json", "merges.txt", "spiece.model", ADAPTER_CONFIG, ADAPTER_WEIGHTS, *TOKENIZER_FILES}
)
_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


class Pushed(NamedTuple):
    """Where a folder is now.

    Attributes:
        url: page of the repository.
        public: whether everybody sees it.
    """

    url: str
    public: bool


def check_push(repository: str, *, public: bool) -> None:
    """Ask the hub whether a push would succeed, before an export is made for it.

    Raises:
        UserError: no such name, no token, the hub cannot be reached, or the repository is there and public and that
            was not asked for.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise UserError(f"--push {shown(repository)}: no name of a repository; give OWNER/NAME")
    with told_writing(f"--push {repository}"):
        api = _api()
        api.whoami()
        if not public and api.repo_exists(repository) and not api.repo_info(repository).private:
            raise UserError(
                f"--push {repository}: is there already, and public; add --public if everybody may have this model, or "
                "name another"
            )


def push_export(folder: str | Path, repository: str, *, public: bool = False) -> Pushed:
    """Upload an exported folder; a repository that is not there is made.

    Args:
        folder: what `jobs.export` wrote.
        repository: `owner/name`.
        public: whether everybody may see it; a new repository is private otherwise.

    Raises:
        UserError: the folder holds what is no part of a model, its card lost the notice that the model is for research
            only, or see `check_push`. The folder stays as it is.
    """
    place = Path(folder)
    names = check_folder(place)
    check_push(repository, public=public)
    with told_writing(f"--push {repository}"):
        api = _api()
        api.create_repo(repository, private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=str(place),
            allow_patterns=names,
            commit_message=f"Export by mentallama_jax {__version__}",
        )
        # One that was there before keeps who may see it.
        return Pushed(f"{api.endpoint}/{repository}", not api.repo_info(repository).private)


def check_folder(folder: Path) -> list[str]:
    """The names of an export's files.

    Raises:
        UserError: there is anything that an export does not write, such as data that the model was tuned on; no model;
            or a card without the notice.
    """
    names = sorted(os.listdir(folder))
    for name in names:
        path = folder / name
        if path.is_symlink() or not path.is_file() or not (name in _OF_A_MODEL or _WEIGHTS.fullmatch(name)):
            raise UserError(
                f"{folder}: holds {shown(name)}, which is no part of an export; it may be what a model was tuned on, "
                "and is not uploaded: move it away"
            )
    if not any(_WEIGHTS.fullmatch(name) or name == ADAPTER_WEIGHTS for name in names):
        raise UserError(f"{folder}: holds no weights; `mentallama export` writes a folder that does")
    if CARD not in names or RESEARCH_ONLY not in (folder / CARD).read_text("utf-8", errors="replace"):
        raise UserError(
            f"{folder / CARD}: does not say that the model is for research and {RESEARCH_ONLY.lower()}; take the card "
            "that `mentallama export` wrote"
        )
    return names


def _api() -> "HfApi":
    from huggingface_hub import HfApi

    return HfApi(library_name="mentallama_jax", library_version=__version__)
