import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from mentallama_jax.errors import UserError
from mentallama_jax.formats.load import load_model
from mentallama_jax.formats.locate import locate
from mentallama_jax.formats.tokenizers.tokenizer import load_tokenizer

GATED = "meta-llama/Llama-2-7b-chat-hf"


def http_error(kind: type[Exception]) -> Exception:
    """As the hub client raises it, without a request having been made."""
    error = kind.__new__(kind)
    error.args = ("403 Client Error.",)
    return error


def answer(monkeypatch: pytest.MonkeyPatch, error: Exception, token: str | None = None) -> None:
    def snapshot_download(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: token)


@pytest.mark.parametrize(
    ("kind", "token", "parts"),
    [
        (errors.GatedRepoError, None, ("gated", "no token here", "hf auth login", "accept its terms")),
        (errors.GatedRepoError, "hf_x", ("gated", "accept its terms")),
        (errors.RepositoryNotFoundError, None, ("no such folder here and no such model", "if it is private")),
        (errors.RepositoryNotFoundError, "hf_x", ("check the spelling",)),
        (errors.RevisionNotFoundError, None, ("revision main", "no such revision")),
        (errors.HfHubHTTPError, None, ("the hub answered with an error", "403")),
    ],
)
def test_each_refusal_of_the_hub_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception], token: str | None, parts: tuple[str, ...]
) -> None:
    answer(monkeypatch, http_error(kind), token)
    with pytest.raises(UserError, match=f"^{GATED}, revision main: ") as raised:
        load_model(GATED, revision="main")
    message = str(raised.value)
    assert all(part in message for part in parts)
    assert token is None or "hf auth login" not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("error", "offline", "parts"),
    [
        (errors.LocalTokenNotFoundError("x"), False, ("asks for a token", "hf auth login")),
        (errors.OfflineModeIsEnabled("x"), True, ("HF_HUB_OFFLINE is set", "download it once while online")),
        (errors.LocalEntryNotFoundError("x"), True, ("HF_HUB_OFFLINE is set", "not in the local cache")),
        (errors.LocalEntryNotFoundError("x"), False, ("cannot be reached", "not in the local cache")),
        (ConnectionResetError("reset by\npeer"), False, ("answered with an error (reset by peer)",)),
    ],
)
def test_each_trouble_on_this_side_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, error: Exception, offline: bool, parts: tuple[str, ...]
) -> None:
    answer(monkeypatch, error)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(UserError, match=f"^{GATED}: ") as raised:
        load_tokenizer(GATED)
    assert all(part in str(raised.value) for part in parts)


def test_offline_for_real(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No patched function here: the client itself finds an empty cache and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        locate("nobody/nothing", weights=True)


def test_what_is_asked_of_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []

    def snapshot_download(repo_id: str, **options: Any) -> str:
        asked.append({"repo_id": repo_id, **options})
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert locate("org/model", "v1", weights=False) == tmp_path
    assert locate("org/model", weights=True) == tmp_path
    light, whole, torch = asked  # nothing came of safetensors, so torch's own files are asked for
    assert (light["repo_id"], light["revision"], whole["revision"]) == ("org/model", "v1", None)
    assert not any("safetensors" in pattern for pattern in light["allow_patterns"])
    assert {"config.json", "tokenizer.model", "model*.safetensors"} <= set(whole["allow_patterns"])
    assert not any(".bin" in pattern for pattern in whole["allow_patterns"])
    assert {"pytorch_model*.bin", "pytorch_model.bin.index.json"} <= set(torch["allow_patterns"])
    (tmp_path / "model.safetensors").touch()
    locate("org/model", weights=True)
    assert len(asked) == 4


@pytest.mark.parametrize(
    ("source", "revision", "reason"),
    [
        ("models/not/there", None, "no such folder or file"),
        ("./nothing/here", None, "no such folder or file"),
        (Path("org/model"), None, "no such folder or file"),
        ("{folder}", "main", "a revision (main) goes with a hub id"),
        ("{folder}/model.safetensors", None, "not a folder or a .gguf file"),
        ("package:no_such_package", None, "no such Python package"),
        ("package:not a name", None, "no such Python package"),
        ("package:json", None, "holds 0 .gguf files and 0 model folders"),
    ],
)
def test_sources_that_are_none(tmp_path: Path, source: str | Path, revision: str | None, reason: str) -> None:
    (tmp_path / "model.safetensors").touch()
    if isinstance(source, str):
        source = source.format(folder=tmp_path)
    with pytest.raises(UserError, match=re.escape(reason)):
        locate(source, revision, weights=True)


def test_the_gguf_file_inside_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "carrier_of_a_model"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('need not be imported')")
    (package / "model.gguf").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert locate("package:carrier_of_a_model", weights=True) == package / "model.gguf"


def test_the_model_folder_inside_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "carrier_of_a_folder" / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    for name in ("config.json", "model.safetensors", "1_Pooling/config.json"):  # the last one is no model's
        (folder / name).touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert locate("package:carrier_of_a_folder", weights=True) == folder
    (folder.parent / "model.gguf").touch()
    with pytest.raises(UserError, match=r"holds 1 \.gguf files and 1 model folders, expected one"):
        locate("package:carrier_of_a_folder", weights=True)


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


ASK = """
import sys, time
from mentallama_jax import hub
from mentallama_jax.errors import UserError
from mentallama_jax.imhi.data_files.hub_datasets import fetch_files
from mentallama_jax.formats.locate import locate
hub.PATIENCE = 1.0
start = time.perf_counter()
try:
    fetch_files("nobody/nothing", (".csv",)) if sys.argv[1] == "dataset" else locate("nobody/nothing", weights=True)
except UserError as error:
    print(error)
print(f"{time.perf_counter() - start:.1f}")
"""


def ask(tmp_path: Path, kind: str, **environment: str | None) -> tuple[str, float]:
    """What a process of its own says that asks the hub, and how many seconds it took."""
    places = {"HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": None, "HF_HUB_OFFLINE": None}
    wanted = {**os.environ, **places, **environment}
    done = subprocess.run(
        [sys.executable, "-c", ASK, kind],
        env={key: value for key, value in wanted.items() if value is not None},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    said, seconds = done.stdout.splitlines()
    assert len(said) < 400
    return said, float(seconds)


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_silent_server_is_not_waited_for(tmp_path: Path, silent_server: str, kind: str) -> None:
    said, seconds = ask(tmp_path, kind, HF_ENDPOINT=silent_server, NO_PROXY="127.0.0.1")
    assert "not in the local cache, and the hub cannot be reached" in said
    assert seconds < 30


@pytest.mark.parametrize(
    ("environment", "part"),
    [
        ({"ALL_PROXY": "socks5://127.0.0.1:9", "HTTPS_PROXY": None, "HTTP_PROXY": None}, "nobody/nothing: "),
        ({"HTTPS_PROXY": "nonsense://x", "HTTP_PROXY": "nonsense://x"}, "the proxy of this machine cannot be used"),
        ({"HF_TOKEN": "caf\u00e9"}, "a character that is not ASCII"),
        ({"HF_ENDPOINT": "no address"}, "nobody/nothing: "),
        ({"HOME": None, "HF_HOME": None, "XDG_CACHE_HOME": None}, "nobody/nothing: "),
        ({"HF_HOME": "/proc/nothing"}, "nobody/nothing: "),
    ],
)
def test_odd_surroundings_give_one_line(
    tmp_path: Path, silent_server: str, environment: dict[str, str | None], part: str
) -> None:
    said, _ = ask(tmp_path, "model", **({"HF_ENDPOINT": silent_server} | environment))
    assert part in said
    assert "Traceback" not in said


def test_no_file_of_formats_imports_in_a_circle() -> None:
    folder = Path(locate.__code__.co_filename).parent
    imports = {
        path.stem: {
            word.split(".")[-1] for word in re.findall(r"from (mentallama_jax\.formats\.\w+)", path.read_text())
        }
        for path in folder.glob("*.py")
    }
    reached = {name: set(direct) for name, direct in imports.items()}
    for _ in imports:
        reached = {
            name: found.union(*(reached.get(other, set()) for other in found)) for name, found in reached.items()
        }
    assert not [name for name, found in reached.items() if name in found]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("runs/toyy", "did you mean runs/toy?"),
        ("runs/qwerty", "in runs there is toy"),
        ("./nothing", "in . there is runs"),
        ("../x/y", "there is no folder ../x"),
    ],
)
def test_what_looks_like_a_path_is_not_asked_of_the_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, said: str
) -> None:
    answer(monkeypatch, AssertionError("the hub was asked"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "toy").mkdir(parents=True)
    with pytest.raises(UserError, match=f"^{re.escape(source)}: no such folder or file; ") as raised:
        locate(source, weights=False)
    assert said in str(raised.value)
    assert "hub" not in str(raised.value)


def test_a_hub_id_is_still_asked_of_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answer(monkeypatch, http_error(errors.GatedRepoError))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="gated"):
        locate(GATED, weights=False)
