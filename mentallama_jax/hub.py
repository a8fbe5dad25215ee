"""Repositories on the Hugging Face hub: fetched once into the local cache, every trouble said in one line."""

import errno
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from mentallama_jax.errors import UserError

RepositoryKind = Literal["model", "dataset"]
PATIENCE = 20.0
"""Seconds that a server may be silent, where the hub's client would wait without end."""


def download(
    repository: str,
    kind: RepositoryKind,
    revision: str | None,
    patterns: Sequence[str],
    *,
    label: str,
    ignore: str | None = None,
) -> Path:
    """The local folder with the files of a repository.

    Args:
        repository: `owner/name`.
        kind: what it holds.
        revision: branch, tag or commit; None for the main branch.
        patterns: names of the files to fetch.
        label: what to call it in errors.
        ignore: a pattern of files to leave out.

    Raises:
        UserError: no such repository or revision, no access, or the hub cannot be reached and the cache has no copy.
    """
    with told(label, kind):
        import huggingface_hub
        from huggingface_hub.utils.tqdm import disable_progress_bars

        if not sys.stderr.isatty():
            disable_progress_bars()
        limit_silence()
        folder = huggingface_hub.snapshot_download(
            repository, repo_type=kind, revision=revision, allow_patterns=list(patterns), ignore_patterns=ignore
        )
    return Path(folder)


@contextmanager
def told(label: str, kind: RepositoryKind) -> Iterator[None]:
    """Turn whatever the hub's clients raise inside the block into one line that begins with `label`.

    Raises:
        UserError: the block raised something. A `UserError` of the block passes as it is.
    """
    with _in_one_line(label, lambda error: _what_to_do(error, kind)):
        yield


@contextmanager
def told_writing(label: str) -> Iterator[None]:
    """Turn whatever the hub's client raises over an upload into one line that begins with `label`.

    Raises:
        UserError: the block raised something. A `UserError` of the block passes as it is.
    """
    with _in_one_line(label, _what_to_do_about_writing):
        yield


@contextmanager
def _in_one_line(label: str, what_to_do: Callable[[Exception], str]) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        try:
            from huggingface_hub import constants, errors  # noqa: F401
        except Exception as reason:  # no home folder to keep a cache in, for example
            advice = f"the hub's client cannot start ({_words(reason)}); set HF_HOME to a folder"
        else:
            advice = what_to_do(error)
        raise UserError(f"{label}: {advice}") from None


def _what_to_do_about_writing(error: Exception) -> str:
    from huggingface_hub import constants, errors

    causes = list(_causes(error))
    status = next((each.response.status_code for each in causes if isinstance(each, errors.HfHubHTTPError)), 0)
    login = "log in with `hf auth login`, or set HF_TOKEN, with a token that may write"
    if any(isinstance(each, errors.LocalTokenNotFoundError) for each in causes) or status == 401:
        return f"the hub asks for a token; {login}" if not _has_token() else f"the hub refuses the token; {login}"
    if status == 403:
        return f"the account of the token may not write there; name a repository of yours, or {login}"
    if any(isinstance(each, errors.HFValidationError) for each in causes):
        return "no valid name; a repository is owner/name"
    unreachable = ("ConnectError", "ConnectTimeout", "ReadTimeout", "ConnectionError", "OfflineModeIsEnabled")
    if any(type(each).__name__ in unreachable for each in causes):
        return "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub cannot be reached; try again"
    return _trouble_here(error, causes)


def limit_silence() -> None:
    """Let the hub's client wait `PATIENCE` seconds at most for each answer, also where it asks to wait without end."""
    from huggingface_hub import get_session

    hooks = get_session().event_hooks["request"]
    if _be_impatient not in hooks:
        hooks.append(_be_impatient)


def _be_impatient(request: Any) -> None:
    limits = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {
        part: PATIENCE if limits.get(part) is None else limits[part] for part in ("connect", "read", "write", "pool")
    }


def _what_to_do(error: Exception, kind: RepositoryKind) -> str:
    from huggingface_hub import errors

    causes = list(_causes(error))

    def any_of(*kinds: type[BaseException], named: str = "") -> bool:
        return any(isinstance(cause, kinds) or type(cause).__name__ == named for cause in causes)

    token, login = _has_token(), "run `hf auth login` or set HF_TOKEN"
    if any_of(errors.LocalTokenNotFoundError):
        return f"the hub asks for a token and there is none here; {login}"
    if any_of(errors.GatedRepoError):
        first = "" if token else f"there is no token here: {login}; "
        return f"gated; {first}accept its terms on its hub page with the account of the token"
    if any_of(errors.RevisionNotFoundError) or "doesn't exist for dataset" in str(error):
        return "the hub has no such revision; give a branch, tag or full commit"
    if any_of(errors.HFValidationError):
        return "no valid name; a repository is owner/name"
    # `datasets` raises a plain ConnectionError where it cannot reach the hub; its kinds are of a request that failed.
    if any_of(errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, named="ConnectionError"):
        return _unreachable(kind)
    if any_of(errors.RepositoryNotFoundError, named="DatasetNotFoundError"):
        known = "no such folder here and no such model" if kind == "model" else "no such data set"
        return f"{known} on the hub; check the spelling" + ("" if token else f"; if it is private, {login}")
    return _trouble_here(error, causes)


def _trouble_here(error: Exception, causes: list[BaseException]) -> str:
    """What is wrong on this side: proxies, tokens, rights, disks; or an answer that nobody expected."""
    if any(isinstance(cause, UnicodeEncodeError) for cause in causes):
        return "the token, or another setting of the hub, has a character that is not ASCII; set HF_TOKEN anew"
    named = any(type(cause).__name__ in ("InvalidURL", "UnsupportedProtocol", "ProxyError") for cause in causes)
    if named or any(isinstance(cause, ImportError | ValueError) and "proxy" in str(cause).lower() for cause in causes):
        return f"the proxy of this machine cannot be used ({_words(error)}); set HTTPS_PROXY anew, or unset ALL_PROXY"
    for cause in causes:
        if isinstance(cause, OSError) and cause.errno in (
            errno.EACCES,
            errno.EPERM,
            errno.ENOSPC,
            errno.EROFS,
            errno.ENOENT,
        ):
            return f"the cache cannot be written ({_words(cause)}); make room, or set HF_HOME to a folder of yours"
    return f"the hub answered with an error ({_words(error)}); try again"


def _unreachable(kind: RepositoryKind) -> str:
    from huggingface_hub import constants

    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub cannot be reached"
    if kind == "model":
        return (
            f"no such folder here, not in the local cache, and {reason}; download it once while online, "
            "or give the path of a folder"
        )
    return f"not in the local cache, and {reason}; fetch it once while online"


def _has_token() -> bool:
    from huggingface_hub import get_token

    try:
        return bool(get_token())
    except (OSError, ValueError):
        return False


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _words(error: BaseException) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return "".join(character for character in words if character.isprintable())[:160]
