"""One study of stand-ins that ran without a break, for all tests that only look at it."""

import copy
from pathlib import Path

import pytest
from stand_ins import CONFIG, StandIns

from mentallama_jax.config.study_config import parse_study
from mentallama_jax.jobs.run_study import run_study


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StandIns]:
    """The folder of the study, and what started its steps."""
    values, start = copy.deepcopy(CONFIG), StandIns()
    out = tmp_path_factory.mktemp("unbroken") / "study"
    values["study"]["out"] = str(out)
    assert run_study(parse_study(values, "test"), start=start).failed == []
    return out, start
