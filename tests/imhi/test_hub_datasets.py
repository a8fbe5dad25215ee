"""Data sets of the hub, read by `datasets` from a folder that stands in for a repository; quietly, within limits."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mentallama_jax.errors import UserError
from mentallama_jax.imhi.data_files import hub_datasets
from mentallama_jax.imhi.data_files.posts import read_posts
from mentallama_jax.imhi.data_files.readers import read_records

QUERY = '"Consider this post: ""{}"" Question: Does the poster suffer from {}?","{}, the poster {} from {}."\n'


def released(path: Path, *posts: str, of: str = "stress") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = "".join(QUERY.format(post, of, "Yes", "suffers", of) for post in posts)
    path.write_text("query,gpt-3.5-turbo\n" + rows, encoding="utf-8")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is what `someone/NAME` on the hub would be, read by the true machinery of `datasets`."""
    import datasets
    import huggingface_hub

    folder = tmp_path / "repository"
    folder.mkdir()
    build, names = datasets.load_dataset_builder, datasets.get_dataset_config_names
    cache = str(tmp_path / "cache")

    def builder(name: str, configuration: str | None = None, *, revision: str | None, **options: Any) -> Any:
        assert name.startswith("someone/")
        assert revision in (None, "v1")
        return build(str(folder), configuration, cache_dir=cache, **options)

    def snapshot(name: str, **options: Any) -> str:
        assert options["repo_type"] == "dataset"
        return str(folder)

    monkeypatch.setattr(datasets, "load_dataset_builder", builder)
    monkeypatch.setattr(datasets, "get_dataset_config_names", lambda name, revision: names(str(folder)))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    return folder


def test_splits_are_read_under_their_names(repository: Path, capfd: pytest.CaptureFixture[str]) -> None:
    released(repository / "train.csv", "All is late.", "NA", "nan")
    released(repository / "validation.csv", "Nothing works.")
    released(repository / "test.csv", "The week was calm.")
    records = read_records(["hub:someone/imhi@v1"], strict=True).records
    assert [(record.post, record.split) for record in records] == [
        ("All is late.", "train"),
        ("NA", "train"),
        ("nan", "train"),
        ("Nothing works.", "val"),
        ("The week was calm.", "test"),
    ]
    assert records[0].source == "hub:someone/imhi@v1:train:1"
    (record,) = read_records(["hub:someone/imhi@v1:val"]).records
    assert (record.dataset, record.id) == ("dreaddit", "dreaddit/val/1")
    assert capfd.readouterr() == ("", "")


def test_the_name_of_repository_or_configuration_says_which_data_set(repository: Path) -> None:
    released(repository / "train.csv", "All is grey.", of="depression")
    assert read_records(["hub:someone/clpsych"]).records[0].dataset == "CLP"
    with pytest.raises(UserError, match="DR or CLP"):
        read_records(["hub:someone/imhi"])
    (repository / "train.csv").unlink()
    for name in ("DR", "clpsych"):
        released(repository / name / "train.csv", f"All is grey in {name}.", of="depression")
    card = "".join(f"- config_name: {name}\n  data_files: {name}/train.csv\n" for name in ("DR", "clpsych"))
    (repository / "README.md").write_text(f"---\nconfigs:\n{card}---\n", encoding="utf-8")
    records = read_records(["hub:someone/imhi"]).records
    assert [(record.dataset, record.source) for record in records] == [
        ("DR", "hub:someone/imhi:DR:train:1"),
        ("CLP", "hub:someone/imhi:clpsych:train:1"),
    ]


def test_files_of_several_layouts_are_read_one_by_one(repository: Path) -> None:
    """As the release has them: `datasets` cannot make one table of both wordings."""
    released(repository / "train_data" / "instruction_data" / "dreaddit" / "train.csv", "All is late.")
    completion = repository / "train_data" / "complete_data" / "dreaddit" / "train.csv"
    completion.parent.mkdir(parents=True)
    completion.write_text("post,question,response\na,b,c\n", encoding="utf-8")
    (record,) = read_records(["hub:someone/imhi"]).records
    assert (record.dataset, record.split) == ("dreaddit", "train")
    assert record.source.startswith(str(repository))


def test_posts_alone_are_read_too(repository: Path) -> None:
    (repository / "test.csv").write_text("post\nAll is grey.\n", encoding="utf-8")
    (record,) = read_posts(["hub:someone/posts"], "DR").records
    assert (record.post, record.label) == ("All is grey.", "")


def test_no_valid_name_is_one_line() -> None:
    for read in (hub_datasets.load_parts, lambda name: hub_datasets.fetch_files(name, (".csv",))):
        with pytest.raises(UserError, match=r"^hub:one/two/three: .*no valid name"):
            read("one/two/three")


def test_a_cell_that_datasets_cannot_read_is_not_quoted(repository: Path) -> None:
    (repository / "train.jsonl").write_text('{"post": "secret words"}\n{"post": {"a": [1]}}\n{"post" "secret words"\n')
    with pytest.raises(UserError) as error:
        read_records(["hub:someone/imhi"])
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


SILENT = """
import os, socket, sys, threading, time
server = socket.create_server(("127.0.0.1", 0))
kept = []
threading.Thread(target=lambda: [kept.append(server.accept()) for _ in range(50)], daemon=True).start()
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.getsockname()[1]}"
from mentallama_jax import hub
from mentallama_jax.cli.main import main
from mentallama_jax.imhi.data_files import hub_datasets
hub_datasets.SECONDS = 3.0
hub.PATIENCE = 60.0
start = time.perf_counter()
status = main(["data", "check", "hub:someone/imhi"])
assert time.perf_counter() - start < 30
sys.stdout.flush()
os._exit(status)
"""


def ask(program: str, folder: Path, **environment: str) -> tuple[int, str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")}
    clean |= {"HF_HOME": str(folder / "hf"), **environment}
    done = subprocess.run(
        [sys.executable, "-c", program], env=clean, capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode, done.stdout, done.stderr


CHECK = "import sys; from mentallama_jax.cli.main import main; sys.exit(main(['data', 'check', 'hub:someone/imhi']))"


@pytest.mark.long
@pytest.mark.parametrize(
    ("program", "environment", "said"),
    [
        (SILENT, {}, "did not answer within 3 s"),
        (CHECK, {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        (CHECK, {"ALL_PROXY": "socks5://127.0.0.1:9"}, "ALL_PROXY"),
        (CHECK, {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_é"}, "not ASCII"),
    ],
    ids=["silent", "offline", "socks", "token"],
)
def test_each_trouble_is_one_line(tmp_path: Path, program: str, environment: dict[str, str], said: str) -> None:
    status, out, error = ask(program, tmp_path, **environment)
    assert status == 2, error
    (line,) = error.splitlines()
    assert line.startswith("error: hub:someone/imhi")
    assert said in line
    assert out == ""
