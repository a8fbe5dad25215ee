"""What the parser takes and refuses, before a command runs."""

import pytest

from mentallama_jax.cli.main import parse

CHANGES = ["training.steps=5", "model.remat=full"]


@pytest.mark.parametrize("place", range(3))
def test_changes_to_the_config_may_stand_before_and_after_options(place):
    words = ["train", "run.yaml", *CHANGES[:place], "--distributed", *CHANGES[place:]]
    options = parse(words)
    assert (options.config, options.overrides, options.distributed) == ("run.yaml", CHANGES, True)


def test_options_may_come_first():
    options = parse(["plan", "--topology", "v5e-64", "run.yaml", *CHANGES])
    assert (options.config, options.overrides, options.topology) == ("run.yaml", CHANGES, ["v5e-64"])


@pytest.mark.parametrize(
    ("words", "unknown"),
    [
        (["train", "run.yaml", "--distributed", "--steps=5"], "--steps=5"),
        (["train", "run.yaml", "--steps", "training.seed=1"], "--steps"),
        (["train", "run.yaml", "--distributed", "another.yaml"], "another.yaml"),
        (["evaluate", "answers", "--out", "scores", "training.seed=1"], "training.seed=1"),
    ],
)
def test_what_is_neither_is_refused_by_its_name(words, unknown, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(words)
    assert capsys.readouterr().err.endswith(f"unrecognized arguments: {unknown}\n")
