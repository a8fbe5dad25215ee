"""Exports that are pushed, by the real client of the hub to a stand-in of it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import TOKEN, FakeHub
from huggingface_hub import constants

from mentallama_jax.cli.main import main
from mentallama_jax.errors import UserError
from mentallama_jax.formats.model_card import ModelCard, render_card
from mentallama_jax.jobs.push_export import push_export

LLAMA = Path(__file__).resolve().parents[1] / "fixtures" / "llama" / "mha-untied"
NAME = "me/tuned"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What an export looks like."""
    place = tmp_path / "exports" / "tuned"
    place.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(LLAMA / name, place)
    (place / "README.md").write_text(render_card(ModelCard("tuned", "org/base", base_is_hub_id=True), 10, "float32"))
    (place / "tokenizer.json").write_text("{}")
    return place


@pytest.mark.parametrize("public", [False, True])
def test_a_folder_is_pushed_whole_and_private_unless_asked(hub: FakeHub, folder: Path, public: bool) -> None:
    pushed = push_export(folder, NAME, public=public)
    assert pushed == (f"{hub.url}/{NAME}", public)
    found = hub.repositories[NAME]
    assert found["private"] is not public
    assert found["files"] == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert b"Not for clinical use" in found["files"]["README.md"]
    push_export(folder, NAME, public=public)  # the same repository again
    assert len(hub.repositories) == 1
    assert push_export(folder, NAME, public=True).public is public  # who may see it stays as it was


def test_a_public_repository_is_not_taken_for_a_private_one(hub: FakeHub, folder: Path) -> None:
    hub.repositories[NAME] = {"private": False, "files": {}}
    with pytest.raises(UserError, match=f"--push {NAME}: is there already, and public; add --public"):
        push_export(folder, NAME)
    assert hub.repositories[NAME]["files"] == {}
    push_export(folder, NAME, public=True)
    assert hub.repositories[NAME]["files"]


@pytest.mark.parametrize("name", ["train.csv", "metrics.jsonl", "optimizer.safetensors", "data/", "link.json"])
def test_what_is_no_part_of_a_model_is_not_uploaded(hub: FakeHub, folder: Path, name: str) -> None:
    if name == "data/":
        (folder / name).mkdir()
    elif name == "link.json":
        (folder / "config.json").rename(folder.parent / name)
        (folder / "config.json").symlink_to(folder.parent / name)
        name = "config.json"
    else:
        (folder / name).write_text("I cannot sleep.")
    with pytest.raises(UserError, match=f"holds '{name.rstrip('/')}', which is no part of an export"):
        push_export(folder, NAME)
    assert hub.asked == []


def test_a_card_that_lost_its_notice_is_refused(hub: FakeHub, folder: Path) -> None:
    (folder / "README.md").write_text("# tuned\n")
    with pytest.raises(UserError, match="does not say that the model is for research"):
        push_export(folder, NAME)
    (folder / "README.md").unlink()
    with pytest.raises(UserError, match="does not say that the model is for research"):
        push_export(folder, NAME)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="holds no weights"):
        push_export(folder, NAME)
    assert hub.asked == []


@pytest.mark.parametrize("name", ["tuned", "a/b/c", "../x/y", "me/", "me/a b", "https://x/y"])
def test_what_is_no_name_of_a_repository_is_refused(hub: FakeHub, folder: Path, name: str) -> None:
    with pytest.raises(UserError, match="give OWNER/NAME"):
        push_export(folder, name)
    assert hub.asked == []


def test_each_refusal_of_the_hub_says_what_to_do(hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for status, words in ((401, "the hub refuses the token; log in"), (403, "may not write there"), (418, "an error")):
        hub.refuse = status
        with pytest.raises(UserError, match=f"^--push {NAME}: .*{words}") as caught:
            push_export(folder, NAME)
        assert TOKEN not in str(caught.value)
        assert "\n" not in str(caught.value)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "none"))
    hub.refuse = 0
    with pytest.raises(UserError, match="the hub asks for a token; log in"):
        push_export(folder, NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        push_export(folder, NAME)


def test_the_command_asks_before_it_exports_and_says_where_the_model_is(
    hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exported: list[str] = []

    def export(opened: str, out: Path, **_: object) -> str:
        exported.append(opened)
        return "checkpoint of step 2"

    monkeypatch.setattr("mentallama_jax.jobs.export.open_sequence", lambda source, **_: source)
    monkeypatch.setattr("mentallama_jax.jobs.export.export_sequence", export)
    words = ["export", "runs/toy", "--out", str(folder), "--push", NAME]
    hub.refuse = 403
    assert main(words) == 2
    assert exported == []
    hub.refuse = 0
    assert main(words) == 0
    assert capsys.readouterr().out.endswith(f"pushed to {hub.url}/{NAME} (private)\n")
    assert main([*words[:4], "--public"]) == 2
    assert "--public goes with --push" in capsys.readouterr().err
