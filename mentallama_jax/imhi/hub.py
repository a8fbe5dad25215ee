"""Data sets on the Hugging Face hub: the files of a repository, fetched once into the local cache."""

from pathlib import Path

from mentallama_jax.errors import UserError

PREFIX = "hub:"


def fetch_dataset(name: str, suffixes: tuple[str, ...]) -> Path:
    """The local folder with the data files of `owner/name` or `owner/name@revision`.

    Args:
        name: the repository, without the `hub:` in front.
        suffixes: endings of the files to fetch.

    Raises:
        UserError: no such repository or revision, no access, no network and not in the cache.
    """
    from huggingface_hub import errors, snapshot_download

    repository, _, revision = name.partition("@")
    try:
        folder = snapshot_download(
            repository,
            repo_type="dataset",
            revision=revision or None,
            allow_patterns=[f"*{suffix}" for suffix in suffixes],
        )
    except errors.GatedRepoError:
        what = "asks for consent: accept its terms on its page, then `hf auth login` or set HF_TOKEN"
    except errors.RepositoryNotFoundError:
        what = "is not there, or is private: check the name, or `hf auth login`"
    except errors.RevisionNotFoundError:
        what = f"has no revision {revision!r}"
    except errors.HFValidationError:
        what = "is no valid name; expected hub:owner/name or hub:owner/name@revision"
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        what = "is not in the cache and the hub cannot be reached: fetch it once with network (HF_HUB_OFFLINE unset)"
    except (errors.HTTPError, ConnectionError) as error:  # type: ignore[attr-defined]
        # The HTTP client's own error, which differs between versions of huggingface_hub.
        what = f"could not be fetched: the hub answered with {type(error).__name__}; try again"
    else:
        return Path(folder)
    raise UserError(f"{PREFIX}{name} {what}")
