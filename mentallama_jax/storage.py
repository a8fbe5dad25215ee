"""Places on buckets, `gs://bucket/folder`: the part of `pathlib` that the package uses, by way of fsspec.

On a bucket an object is written whole or not at all, nothing can be appended or renamed, and a folder is no more than
the names that begin with it. No listing is cached: other hosts write there too.
"""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, total_ordering
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from mentallama_jax.errors import UserError

_MARK = "://"
_EXTRAS = {"gs": "gcs"}
_LONGEST = 1024
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^/]")


@total_ordering
class RemotePath:
    """A place of which `str` is the URL. What its methods share with `pathlib.Path` means the same.

    Every method that asks the service raises `UserError` where it cannot be reached or refuses; only what is not
    there is a `FileNotFoundError`.
    """

    __slots__ = ("_url",)

    def __init__(self, url: str) -> None:
        if len(url) > _LONGEST or not url.isprintable() or not _URL.match(url):
            raise UserError(f"{url[:60]!r}: not the URL of a place on a bucket; expected gs://BUCKET/NAME")
        self._url = url
        if ".." in self._inner.parts:
            raise UserError(f"{url}: may not hold '..'; write out where it leads")

    @property
    def url(self) -> str:
        """The whole URL."""
        return self._url

    def __eq__(self, other: object) -> bool:
        return self.url == other.url if isinstance(other, RemotePath) else NotImplemented

    def __lt__(self, other: "RemotePath") -> bool:
        return self.url < other.url if isinstance(other, RemotePath) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.url)

    def __repr__(self) -> str:
        return f"RemotePath({self.url!r})"

    def __truediv__(self, name: str | PurePosixPath) -> "RemotePath":
        return RemotePath(f"{self.url}/{name}")

    def __str__(self) -> str:
        return self.url

    def __fspath__(self) -> str:
        """Return the URL: orbax takes URLs where others take paths."""
        return self.url

    @property
    def _inner(self) -> PurePosixPath:
        return PurePosixPath(self.url.partition(_MARK)[2])

    @property
    def name(self) -> str:
        """The last part."""
        return self._inner.name

    @property
    def stem(self) -> str:
        """The last part without its ending."""
        return self._inner.stem

    @property
    def suffix(self) -> str:
        """The ending of the last part."""
        return self._inner.suffix

    def with_suffix(self, suffix: str) -> "RemotePath":
        """Its neighbour with another ending."""
        return self.parent / (self.stem + suffix)

    @property
    def parts(self) -> tuple[str, ...]:
        """From the bucket on."""
        return self._inner.parts

    @property
    def parent(self) -> "RemotePath":
        """The folder that it is in."""
        return RemotePath(f"{self.url.partition(_MARK)[0]}{_MARK}{self._inner.parent}")

    def absolute(self) -> "RemotePath":
        """Itself."""
        return self

    def resolve(self) -> "RemotePath":
        """Itself."""
        return self

    def exists(self) -> bool:
        """Whether there is an object or a folder."""
        return self._kind() is not None

    def is_file(self) -> bool:
        """Whether there is an object."""
        return self._kind() == "file"

    def is_dir(self) -> bool:
        """Whether there are objects below."""
        return self._kind() == "directory"

    def iterdir(self) -> Iterator["RemotePath"]:
        """What is in the folder; nothing where there is no such folder."""
        with self._asking() as system:
            try:
                names = system.ls(self.url, detail=False)
            except FileNotFoundError:
                names = []
        for name in sorted({name.rstrip("/").rpartition("/")[2] for name in names} - {self.name, "", ".", ".."}):
            yield self / name

    def rglob(self, pattern: Literal["*"]) -> Iterator["RemotePath"]:
        """All objects below."""
        for name in self.sizes():
            yield self / name

    def sizes(self) -> dict[str, int]:
        """The bytes of all objects below, by where they are seen from here."""
        return {name: facts["size"] for name, facts in self.facts().items()}

    def facts(self) -> dict[str, dict[str, Any]]:
        """All that the service tells of each object below."""
        with self._asking() as system:
            found = system.find(self.url, detail=True)
            start = system._strip_protocol(self.url).rstrip("/") + "/"
        below = {name.removeprefix(start): facts for name, facts in sorted(found.items()) if name.startswith(start)}
        for name in below:
            # A copy of the folder is written by these names, and may not leave its own folder.
            if ".." in PurePosixPath(name).parts or name.startswith("/"):
                raise UserError(f"{self.url}: holds an object whose name leads out of it: {name[:60]!r}")
        return below

    def read_bytes(self) -> bytes:
        """The whole object."""
        with self._asking() as system:
            return bytes(system.cat_file(self.url))

    def read_text(self, encoding: str) -> str:
        """The whole object as text."""
        return self.read_bytes().decode(encoding)

    def open(self, mode: Literal["rb"]) -> io.BytesIO:
        """The whole object as a stream."""
        return io.BytesIO(self.read_bytes())

    def write_bytes(self, data: bytes) -> None:
        """Write an object, whole or not at all, instead of what is there."""
        with self._asking() as system:
            system.pipe_file(self.url, data)

    def create(self, data: bytes) -> bool:
        """Write an object where there is none; whether it was written."""
        with self._asking() as system:
            try:
                system.pipe_file(self.url, data, mode="create")
            except FileExistsError:
                return False
            return True

    def download(self, target: Path) -> None:
        """Copy the object into a file, which is incomplete if that fails."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._asking() as system:
            system.get_file(self.url, str(target))

    def upload(self, source: Path) -> None:
        """Write an object, whole or not at all, from a file that nobody writes to."""
        with self._asking() as system:
            system.put_file(str(source), self.url)

    def mkdir(self, parents: bool, exist_ok: bool) -> None:
        """Nothing: folders are names."""

    def unlink(self, missing_ok: bool) -> None:
        """Remove the object."""
        with self._asking() as system:
            try:
                system.rm_file(self.url)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    def rmtree(self) -> None:
        """Remove all objects below, if there are any."""
        with self._asking() as system:
            try:
                system.rm(self.url, recursive=True)
            except FileNotFoundError:
                return

    def _kind(self) -> str | None:
        with self._asking() as system:
            try:
                return str(system.info(self.url)["type"])
            except FileNotFoundError:
                return None

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        try:
            yield _file_system(self.url.partition(_MARK)[0])
        except (FileNotFoundError, UserError):
            raise
        except Exception as error:  # each service has its own, and those of its HTTP client and of its credentials
            text = " ".join(str(error).split())[:120]
            raise UserError(
                f"{self.url}: cannot be reached ({type(error).__name__}{': ' if text else ''}{text}); check the name, "
                "your rights to it, and the network"
            ) from None


AnyPath = Path | RemotePath


def is_remote(place: object) -> bool:
    """Whether a text or a path is a URL."""
    return _MARK in str(place)


def expanded(place: str) -> str:
    """A place that a user names, with a leading `~` as the home folder: the shell leaves it in `key=~/x` and in YAML.

    Every option and every key that names a place goes through this, `as_path` or `local_path`.

    Raises:
        UserError: no home folder is known.
    """
    path = os.path.expanduser(place)
    if path == "~" or path.startswith("~/"):
        raise UserError(f"{place}: no home directory is known; set HOME, or write the path out")
    return path


def _here(text: str) -> Path:
    if not text or "\0" in text:
        raise UserError(f"{text[:60]!r}: not a path; name a file or a folder")
    return Path(expanded(text))


def as_path(place: str | os.PathLike[str]) -> AnyPath:
    """A path, here or on a bucket; `~` stands for the home directory.

    Raises:
        UserError: a URL of no bucket, or a text that no file can be called.
    """
    text = os.fspath(place)
    return RemotePath(text.rstrip("/")) if is_remote(text) else _here(text)


def local_path(text: str) -> Path:
    """A path that has to be here, such as one to write to; `~` is the home folder.

    Raises:
        UserError: it is a URL, or a text that no file can be called.
    """
    if is_remote(text):
        raise UserError(f"{text}: has to be on a file system here; copy it from or to the bucket yourself")
    return _here(text)


def file_sizes(folder: AnyPath) -> dict[str, int]:
    """The bytes of all files below a folder, by where they are seen from it.

    Raises:
        UserError: a folder below cannot be read.
    """
    if isinstance(folder, RemotePath):
        return folder.sizes()
    sizes = {}
    for place, _, names in os.walk(folder, onerror=_refuse_unreadable):
        for path in (Path(place) / name for name in names):
            if path.is_file():
                sizes[str(path.relative_to(folder))] = path.stat().st_size
    return dict(sorted(sizes.items()))


def _refuse_unreadable(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from None


@cache
def _file_system(scheme: str) -> Any:
    import fsspec

    # In the settings rather than as an argument: orbax opens its own.
    fsspec.config.conf.setdefault(scheme, {}).setdefault("use_listings_cache", False)
    try:
        return fsspec.filesystem(scheme)
    except ImportError:
        extra = _EXTRAS.get(scheme)
        what = f"pip install 'mentallama-jax[{extra}]'" if extra else f"install what fsspec needs for {scheme}{_MARK}"
        raise UserError(f"{scheme}{_MARK}: a package is missing; {what}") from None
    except ValueError:
        raise UserError(f"{scheme}{_MARK}: no such kind of storage (a bucket is gs://NAME)") from None
