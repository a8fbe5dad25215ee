"""Nothing is left half-written, nothing is destroyed, and what is no file is not read."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.files import (
    atomic_folder,
    atomic_open,
    is_temporary,
    read_jsonl,
    regular_file,
    sweep,
    write_json,
    write_jsonl,
)
from mentallama_jax.temporaries import new_temporary


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "deep" / "new") as folder:
        (folder / "file").write_text("x", "utf-8")
        assert not (tmp_path / "deep" / "new").exists()
    assert (tmp_path / "deep" / "new" / "file").read_text("utf-8") == "x"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["new"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_folder_that_fails_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def fill() -> None:
        with atomic_folder(tmp_path / "new") as folder:
            (folder / "file").write_text("x", "utf-8")
            raise error

    with pytest.raises(type(error)):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused_and_an_empty_one_is_filled(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with atomic_folder(tmp_path / "new") as folder:
        (folder / "file").touch()
    with pytest.raises(UserError, match="exists already"), atomic_folder(tmp_path / "new"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.fixture
def plain_umask() -> Iterator[None]:
    old = os.umask(0o027)
    yield
    os.umask(old)


def test_new_files_and_folders_follow_the_umask(tmp_path: Path, plain_umask: None) -> None:
    write_json(tmp_path / "sub" / "file.json", 1)
    with atomic_folder(tmp_path / "new") as folder:
        (folder / "file").touch()
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.rglob("*")}
    assert modes == {"sub": "0o750", "file.json": "0o640", "new": "0o750", "file": "0o640"}


def test_a_file_that_is_replaced_keeps_its_rights(tmp_path: Path) -> None:
    path = tmp_path / "private"
    path.touch(0o600)
    write_json(path, 1)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("old", "utf-8")
    (tmp_path / "middle").symlink_to("there/file")
    (tmp_path / "link").symlink_to("middle")
    (tmp_path / "dangling").symlink_to("there/later")
    write_json(tmp_path / "link", "new")
    write_json(tmp_path / "dangling", "late")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "middle").is_symlink()
    assert (tmp_path / "dangling").is_symlink()
    assert (tmp_path / "there" / "file").read_text("utf-8") == '"new"\n'
    assert (tmp_path / "there" / "later").read_text("utf-8") == '"late"\n'
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder").symlink_to("empty")
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "x").touch()
    assert (tmp_path / "folder").is_symlink()
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["x"]


def test_links_in_a_circle_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(UserError, match="circle"):
        write_json(tmp_path / "a", 1)


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text("utf-8")))
    reader.start()
    write_json(pipe, {"a": 1})
    reader.join(10)
    assert json.loads(got[0]) == {"a": 1}
    assert pipe.is_fifo()


def test_a_device_is_written_to_and_stays() -> None:
    before = os.stat(os.devnull)
    write_json(Path(os.devnull), 1)
    assert os.stat(os.devnull).st_rdev == before.st_rdev
    assert os.stat(os.devnull).st_ino == before.st_ino


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_standard_output_is_written_to_in_order(tmp_path: Path, kind: str) -> None:
    code = """
from pathlib import Path
from mentallama_jax.files import write_json
print("before")
write_json(Path("/dev/stdout"), {"a": 1})
print("after")
"""
    with (tmp_path / "out").open("wb") as stream:
        target = subprocess.PIPE if kind == "pipe" else stream
        done = subprocess.run([sys.executable, "-c", code], stdout=target, check=True)
    content = done.stdout if kind == "pipe" else (tmp_path / "out").read_bytes()
    assert content == b'before\n{\n  "a": 1\n}\nafter\n'


def test_a_folder_is_refused_as_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        write_json(tmp_path, 1)


def killed_while(what: str, target: Path) -> None:
    """Let another process begin to write and kill it there."""
    code = f"""
import os, signal, sys
from pathlib import Path
from mentallama_jax.files import {what}
with {what}(Path(sys.argv[1])) as new:
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert done.returncode == -9


@pytest.mark.parametrize("name", ["new", "x" * 250, "é" * 120, "we[i]rd\n*"])
@pytest.mark.parametrize("what", ["atomic_open", "atomic_folder"])
def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path, what: str, name: str) -> None:
    target = tmp_path / name
    (tmp_path / f".{name[:20]}.mine.tmp").touch()
    killed_while(what, target)
    killed_while(what, tmp_path / "another")
    left = sorted(path.name for path in tmp_path.iterdir() if is_temporary(path.name))
    assert len(left) == 2
    if what == "atomic_open":
        write_json(target, 1)
    else:
        with atomic_folder(target) as folder:
            (folder / "file").touch()
    left = [path.name for path in tmp_path.iterdir() if is_temporary(path.name)]
    assert len(left) == 1
    assert left[0].startswith(".another.")
    assert target.exists()
    assert (tmp_path / f".{name[:20]}.mine.tmp").exists()
    assert [path.name for path in sweep(tmp_path)] == left


def test_temporaries_in_use_or_of_other_hosts_stay_until_they_are_old(tmp_path: Path) -> None:
    other = tmp_path / ".file.0123abcd-7-100-89abcdef.mentallama.tmp"
    other.touch()
    reused = new_temporary(tmp_path / "file").name.replace(f"-{os.getpid()}-", "-1-")
    with atomic_open(tmp_path / "file") as stream:
        stream.write("outer")
        write_json(tmp_path / "file", "inner")
        assert len(list(tmp_path.iterdir())) == 3
    assert (tmp_path / "file").read_text("utf-8") == "outer"
    (tmp_path / reused).mkdir()  # of a process whose number belongs to another one now
    assert [path.name for path in sweep(tmp_path, "file")] == [reused]
    os.utime(other, (0, 0))
    assert sweep(tmp_path, "other") == []
    assert sweep(tmp_path, "file") == [other]
    assert sweep(tmp_path / "missing") == []


@pytest.mark.parametrize(
    "name", [".file.tmp", ".file.abcdefgh.tmp", "file.0123abcd-7-100-89abcdef.mentallama.tmp", ".mentallama.tmp"]
)
def test_names_of_others_are_no_temporaries(name: str) -> None:
    assert not is_temporary(name)


def test_many_writers_of_one_file_leave_one_whole_file(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from mentallama_jax.files import write_json
for _ in range(60):
    write_json(Path(sys.argv[1]), [sys.argv[2]] * 2000)
"""
    target = tmp_path / "file.json"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(target), name]) for name in "abc"]
    threads = [threading.Thread(target=lambda: [write_json(target, ["t"] * 2000) for _ in range(60)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(set(json.loads(target.read_bytes()))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]


def test_the_second_of_two_writers_of_a_folder_says_what_happened(tmp_path: Path) -> None:
    def second() -> None:
        with atomic_folder(tmp_path / "new") as slow:
            with atomic_folder(tmp_path / "new") as fast:
                (fast / "fast").touch()
            (slow / "slow").touch()

    with pytest.raises(UserError, match=f"^{tmp_path}/new: another program wrote there"):
        second()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["fast"]


def full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("where", ["fsync", "body"])
def test_a_full_disk_names_the_file(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", full_disk if where == "fsync" else os.fsync)

    def write() -> None:
        with atomic_open(tmp_path / "file") as stream:
            if where == "body":
                full_disk()
            stream.write("x")

    with pytest.raises(OSError, match=re.escape(str(tmp_path / "file"))):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_full_device_names_itself() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(OSError, match="/dev/full"):
        write_json(Path("/dev/full"), "x" * 100_000)


def test_an_error_inside_a_folder_names_where_the_file_was_to_be(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=re.escape(f"{tmp_path}/new/deep/file")),
        atomic_folder(tmp_path / "new") as folder,
    ):
        (folder / "deep" / "file").read_bytes()


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("none")
    assert regular_file(tmp_path / "file") == tmp_path / "file"
    assert regular_file(tmp_path / "link") == tmp_path / "link"
    for path, what in (
        (tmp_path / "pipe", "named pipe"),
        (tmp_path, "folder"),
        (Path("/dev/zero"), "device"),
        (tmp_path / "none", "no such file"),
        (tmp_path / "dangling", "no such file"),
        (tmp_path / "file" / "below", "no such file"),
        (Path("a\0b"), "cannot be read"),
        (Path("x" * 5000), "cannot be read"),
    ):
        with pytest.raises(UserError, match=what):
            regular_file(path)
        with pytest.raises(UserError, match=what):
            next(read_jsonl(path))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [0, {"b": float("nan")}]}, r"a\[1\]\.b is nan"),
        (float("inf"), "the value is inf"),
        ({"a": "\ud800"}, "surrogate"),
    ],
)
def test_what_json_cannot_hold_is_never_written(tmp_path: Path, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        write_json(tmp_path / "file.json", value)
    with pytest.raises(UserError, match=r"line 2: .*" + message.replace("the value", "0")):
        write_jsonl(tmp_path / "file.jsonl", [{}, {"0": value} if not isinstance(value, dict) else value])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"a": NaN}', "NaN is not a number"),
        (b'{"a": 1, "a": 2}', "stands twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[1]", "expected a JSON object"),
        (b'{"post": "I have not slept for nine nights', "line 1, column 10"),
        (b'{"a": "\xff"}', "not UTF-8"),
    ],
)
def test_a_line_that_is_no_object_is_one_line(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n' + line + b"\n")
    rows = read_jsonl(path)
    assert next(rows) == {"a": 1}
    with pytest.raises(UserError, match=message) as raised:
        next(rows)
    assert str(raised.value).startswith(f"{path}, line 3: ")
    assert "slept" not in str(raised.value)
    assert len(str(raised.value).removeprefix(str(path))) < 200


def test_a_line_of_strangers_may_hold_what_is_no_json_where_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": NaN, "b": "\\ud800"}', "utf-8")
    row = next(read_jsonl(path, lenient=True))
    assert (str(row["a"]), row["b"]) == ("nan", "\ud800")
    with pytest.raises(UserError, match="line 1: NaN"):
        next(read_jsonl(path))
