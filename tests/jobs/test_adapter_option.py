"""Every command that takes a model takes an adapter beside it, and hands it on."""

import pytest

from mentallama_jax.cli.main import main
from mentallama_jax.jobs import answer, export, open_scorers, open_sequence
from mentallama_jax.jobs.metric_models import MetricModels

PREDICTIONS = '{"id": "a", "dataset": "dreaddit", "label": "yes", "generated_text": "Yes."}\n'


class HandedOnError(Exception):
    """What a stand-in raises once it was asked."""


@pytest.fixture
def handed_on(monkeypatch) -> list:
    """The adapters that models were opened with; nothing is opened."""
    seen: list = []

    def opens(source, *_, adapter=None, **__):
        seen.append((str(source), adapter))
        raise HandedOnError

    monkeypatch.setattr(answer, "open_answerer", opens)
    monkeypatch.setattr(export, "open_model", opens)
    monkeypatch.setattr(open_scorers, "open_answerer", opens)
    for module in (export, open_sequence):
        monkeypatch.setattr(module, "open_sequence", lambda *_, **__: None)
    return seen


COMMANDS = {
    "generate": ["generate", "MODEL", "--data", "sample:test", "--out", "OUT.jsonl"],
    "labels": ["generate", "MODEL", "--data", "sample:test", "--out", "OUT.jsonl", "--score-labels"],
    "probe": ["probe", "robustness", "MODEL", "--data", "sample:test", "--out", "OUT"],
    "export": ["export", "MODEL", "--out", "OUT"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_hands_the_adapter_on(name, handed_on, tmp_path) -> None:
    command = [str(tmp_path / word) if word.startswith("OUT") else word for word in COMMANDS[name]]
    with pytest.raises(HandedOnError):
        main([*command, "--adapter", str(tmp_path / "adapter")])
    assert handed_on == [("MODEL", tmp_path / "adapter")]


def test_metrics_by_a_language_model_take_its_adapter(handed_on, tmp_path) -> None:
    models = MetricModels(lm="MODEL", lm_adapter=tmp_path / "adapter", data=["sample"])
    with pytest.raises(HandedOnError):
        open_scorers.open_model_metrics(["lm"], models, [])
    assert handed_on == [("MODEL", tmp_path / "adapter")]


def test_an_adapter_of_no_model_is_refused(tmp_path, capsys) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_text(PREDICTIONS)
    command = ["evaluate", str(path), "--out", str(tmp_path / "out"), "--adapter", str(tmp_path / "adapter")]
    assert main(command) == 2
    assert "adapts --lm-model; name that model too" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
