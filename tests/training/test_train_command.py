"""`mentallama train`: what it says, what it refuses, what it returns."""

import json

import pytest
import yaml

from mentallama_jax.cli import main as command_line
from mentallama_jax.training.run.metrics import read_metrics


@pytest.fixture
def mentallama(monkeypatch, capsys):
    """Run the command in this process: (status, standard output, standard error)."""
    monkeypatch.setattr(command_line, "COMMANDS", ("train",))

    def run(*arguments):
        try:
            status = command_line.main(["train", *map(str, arguments)])
        except SystemExit as exit_:  # argparse
            status = exit_.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def config_file(tiny_values, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(json.dumps(tiny_values(tmp_path / "run")))
    return path


def test_help_teaches(mentallama):
    status, out, _ = mentallama("--help")
    assert status == 0
    for word in ("CONFIG", "key=value", "training.run_dir", "status 75", "mentallama train configs/toy.yaml"):
        assert word in out
    assert max(map(len, out.splitlines())) <= 120


def test_show_prints_a_config_that_says_the_same(mentallama, config_file, tmp_path):
    status, out, _ = mentallama(config_file, "training.batch_size=8", "--show")
    assert status == 0
    assert yaml.safe_load(out)["training"]["batch_size"] == 8
    assert yaml.safe_load(out)["optimizer"]["beta2"] == 0.999
    (tmp_path / "shown.yaml").write_text(out)
    assert mentallama(tmp_path / "shown.yaml", "--show")[1] == out


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.batchsize=8", "unknown key training.batchsize; did you mean training.batch_size?"),
        ("training.epochs=null", "give exactly one of epochs and steps"),
        ("optimizer.learning_rate=fast", "optimizer.learning_rate"),
        ("nonsense", "override 'nonsense': expected section.key=value"),
        ("data.train=[/nowhere]", "data.train: /nowhere: no such file or folder"),
        ("data.datasets=[CAMS, DRR]", "DRR"),
        ("evaluation.metric=label_f1", "evaluation.metric label_f1 needs evaluation.generate_rows above 0"),
        ("data.max_rows=0", "data.max_rows"),
    ],
)
def test_what_is_wrong_is_one_line(mentallama, config_file, override, message):
    status, _, err = mentallama(config_file, override)
    assert status == 2
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--coordinator", "host:1"],
            "--processes and --process missing: --coordinator, --processes and --process go together",
        ),
        (["--distributed", "--process", "1"], "either --distributed alone"),
        (["--coordinator", "host:1", "--processes", "2", "--process", "2"], "must be from 0 to 1"),
        (["--coordinator", "host", "--processes", "2", "--process", "1"], "must be HOST:PORT"),
    ],
)
def test_flags_of_processes_that_do_not_fit_together_are_refused(mentallama, config_file, flags, message):
    status, out, err = mentallama(config_file, *flags)
    assert (status, out) == (2, "")
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_no_config_is_a_usage_line_and_a_missing_one_is_named(mentallama, tmp_path):
    assert mentallama()[0] == 2
    status, _, err = mentallama(tmp_path / "missing.yaml")
    assert (status, err.count("\n")) == (2, 1)
    assert "missing.yaml: no such config" in err


@pytest.mark.long
def test_a_run_with_generated_answers_ends_with_its_best_checkpoint_and_its_place(mentallama, config_file, tmp_path):
    status, out, err = mentallama(
        config_file,
        "evaluation.generate_rows=3",
        "evaluation.max_new_tokens=6",
        "evaluation.metric=label_f1",
        "evaluation.every_steps=12",
    )
    assert status == 0, err
    (row,) = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if row["kind"] == "validation"]
    assert 0 <= row["label_f1"] <= 1
    assert f"label_f1 {row['label_f1']:.4f}" in out
    assert out.splitlines()[0].startswith("best checkpoint: update 12 (validation_loss ")
    assert out.splitlines()[-2] == f"run directory: {tmp_path / 'run'}"
    assert out.splitlines()[-1].startswith(f"next: mentallama generate {tmp_path / 'run'} ")
    status, _, err = mentallama(config_file, "optimizer.beta1=0.5")
    assert status == 2
    assert "optimizer.beta1 was 0.9, is 0.5" in err.splitlines()[-1]


def test_auto_remat_becomes_a_policy_before_anything_is_compiled(mentallama, config_file, tmp_path):
    status, out, err = mentallama(config_file, "model.remat=auto", "training.steps=1", "training.epochs=null")
    assert status == 0, err
    assert "model.remat auto: none" in out  # a tiny model fits with everything kept
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model"]["remat"] == "none"
