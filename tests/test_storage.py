"""Places on buckets: in memory, and by the real client against a stand-in of the service."""

import json
import os
import sys

import fsspec  # noqa: F401 (its registry is emptied below)
import pytest

from mentallama_jax import storage
from mentallama_jax.errors import UserError
from mentallama_jax.files import atomic_open, read_jsonl, write_json, write_jsonl
from mentallama_jax.storage import RemotePath, as_path, file_sizes, is_remote, local_path


def test_what_is_written_is_there(remote):
    folder = as_path(remote + "/")
    assert isinstance(folder, RemotePath)
    assert (str(folder), folder.name) == (remote, "folder")
    assert list(folder.iterdir()) == list(folder.rglob("*")) == []
    assert not folder.exists()
    (folder / "a.txt").write_bytes(b"ends in CRLF\r\n")
    write_json(folder / "sub" / "b.json", {"b": "é"})
    assert write_jsonl(folder / "sub/c.jsonl", [{"n": 1}, {"n": 2}]) == 2

    assert folder.is_dir()
    assert not folder.is_file()
    assert (folder / "a.txt").is_file()
    assert [path.name for path in folder.iterdir()] == ["a.txt", "sub"]
    assert [str(path) for path in folder.rglob("*")] == [
        f"{remote}/{n}" for n in ("a.txt", "sub/b.json", "sub/c.jsonl")
    ]
    assert file_sizes(folder)["a.txt"] == 14
    assert (folder / "a.txt").read_bytes() == b"ends in CRLF\r\n"
    assert json.loads((folder / "sub/b.json").read_text(encoding="utf-8")) == {"b": "é"}
    assert list(read_jsonl(folder / "sub/c.jsonl")) == [{"n": 1}, {"n": 2}]


def test_names_are_those_of_pathlib():
    path = as_path("gs://bucket/imhi/DR.train.csv")
    assert (path.name, path.stem, path.suffix) == ("DR.train.csv", "DR.train", ".csv")
    assert str(path.parent) == "gs://bucket/imhi"
    assert str(path.with_suffix(".meta.json")) == "gs://bucket/imhi/DR.train.meta.json"
    assert path.parts == ("bucket", "imhi", "DR.train.csv")
    assert not is_remote("hub:owner/name")
    assert not is_remote("data/imhi:train")


def test_a_long_listing_comes_in_pages(bucket):
    names = [f"{number:03}" for number in range(120)]
    for name in names:
        bucket.write(f"bucket/many/{name}", b"x")
        bucket.write(f"bucket/many-more/{name}", b"x")
    assert [path.name for path in RemotePath("gs://bucket/many").iterdir()] == names
    assert list(RemotePath("gs://bucket/many").sizes()) == names


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # of aiohttp, to gcsfs
def test_a_large_file_goes_up_by_another_way(bucket, tmp_path):
    data = bytes(range(256)) * 30_000
    (tmp_path / "large").write_bytes(data)
    RemotePath("gs://bucket/large").upload(tmp_path / "large")
    assert bucket.objects["bucket/large"].data == data
    RemotePath("gs://bucket/large").download(tmp_path / "new" / "back")
    assert (tmp_path / "new" / "back").read_bytes() == data


def test_an_object_is_created_once(remote):
    path = as_path(remote) / "lock"
    assert path.create(b"first")
    assert not path.create(b"second")
    assert path.read_bytes() == b"first"
    path.unlink(missing_ok=False)
    path.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        path.unlink(missing_ok=False)
    assert path.create(b"third")


def test_a_folder_is_removed_with_all_below_and_nothing_beside(remote):
    folder = as_path(remote)
    for name in ("a/one", "a/b/two", "ab/three"):
        (folder / name).write_bytes(b"x")
    (folder / "a").rmtree()
    (folder / "a").rmtree()
    assert list(folder.sizes()) == ["ab/three"]


def test_what_fails_half_way_leaves_the_object_as_it_was(remote):
    path = as_path(remote) / "file"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), atomic_open(path) as stream:
        stream.writelines(["new", None])
    assert path.read_bytes() == b"old"
    with pytest.raises(FileNotFoundError):
        (path.parent / "other").read_bytes()


def test_listings_are_never_old(bucket):
    folder = RemotePath("gs://bucket/run")
    (folder / "one").write_bytes(b"1")
    assert list(folder.sizes()) == ["one"]
    bucket.write("bucket/run/two", b"22")  # by another host
    assert list(folder.sizes()) == [path.name for path in folder.iterdir()] == ["one", "two"]
    del bucket.objects["bucket/run/one"]
    assert not (folder / "one").exists()


def test_a_refusal_is_one_line_and_not_an_absence(bucket, monkeypatch):
    def refuse(*_, **__):
        raise OSError("Forbidden: you may\nnot")

    path = RemotePath("gs://bucket/file")
    monkeypatch.setattr(storage._file_system("gs"), "info", refuse)
    with pytest.raises(UserError, match=r"^gs://bucket/file: cannot be reached \(OSError: Forbidden: you may not\)"):
        path.exists()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    monkeypatch.setattr(sys.modules["fsspec.registry"], "registry", {})
    storage._file_system.cache_clear()
    with pytest.raises(UserError, match=r"gs://: a package is missing; pip install 'mentallama-jax\[gcs\]'"):
        as_path("gs://bucket/file").exists()


def test_an_unknown_kind_of_storage_is_one_line():
    with pytest.raises(UserError, match="floppy://: no such kind of storage"):
        as_path("floppy://a/b").exists()


def test_a_url_is_refused_where_a_file_has_to_be_here():
    assert str(local_path("a/b")) == "a/b"
    with pytest.raises(UserError, match="gs://bucket/out: has to be on a file system here"):
        local_path("gs://bucket/out")


@pytest.mark.parametrize(
    "url",
    [
        "gs://",
        "gs:///x",
        "://x",
        "GS://x",
        "gs://a/" + "x" * 2000,
        "gs://a/\x1b[31m",
        "gs://a\n/b",
        "zip://a::gs://b\0",
    ],
)
def test_what_is_no_url_of_a_bucket_is_one_line(url):
    with pytest.raises(UserError, match=r"not the URL of a place on a bucket") as refused:
        as_path(url).exists()
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("url", ["gs://bucket/../x", "gs://bucket/a/..", "memory://a/b/../../c"])
def test_a_url_may_not_lead_out_of_its_folder(url):
    with pytest.raises(UserError, match=r"may not hold '\.\.'"):
        as_path(url)
    with pytest.raises(UserError, match=r"may not hold '\.\.'"):
        as_path("gs://bucket/a") / "../b"


def test_an_object_whose_name_leads_out_of_its_folder_is_refused(bucket):
    folder = RemotePath("gs://bucket/run")
    bucket.write("bucket/run/fine", b"x")
    bucket.write("bucket/run/sub/../../../etc/passwd", b"x")
    with pytest.raises(UserError, match=r"leads out of it: 'sub/\.\./"):
        folder.sizes()
    with pytest.raises(UserError, match="leads out of it"):
        list(folder.rglob("*"))


@pytest.mark.parametrize("place", ["zip://a/b", "reference://a/b", "github://a/b", "simplecache://a/b"])
def test_whatever_a_service_raises_is_one_line(place):
    with pytest.raises(UserError) as refused:
        as_path(place).is_file()
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


def test_the_home_directory_is_written_out(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert as_path("~/a") == local_path("~/a") == tmp_path / "a"
    assert str(as_path("a/~b")) == "a/~b"
    monkeypatch.setattr(os.path, "expanduser", lambda text: text)
    with pytest.raises(UserError, match="no home directory is known"):
        as_path("~/a")


@pytest.mark.parametrize("text", ["", "a\0b"])
def test_a_text_that_no_file_can_be_called_is_one_line(text):
    for read in (as_path, local_path):
        with pytest.raises(UserError, match="not a path"):
            read(text)


def test_an_unreadable_folder_is_not_passed_over(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b").write_bytes(b"xy")
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "gone").symlink_to("nowhere")
    assert list(file_sizes(tmp_path).items()) == [("a", 1), ("sub/b", 2)]
    scandir = os.scandir

    def refuse(place):
        if str(place).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"sub: cannot be read \(Permission denied\)"):
        file_sizes(tmp_path)
