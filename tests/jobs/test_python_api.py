"""The package as it is imported: four names, stable and documented, without jax until one needs it."""

import inspect
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from child_processes import cpu_environment

import mentallama_jax as mj
from mentallama_jax.jobs.evaluated import Evaluation
from mentallama_jax.jobs.finished_run import FinishedRun
from mentallama_jax.jobs.loaded_model import LoadedModel

HEAVY = {"jax", "numpy", "scipy", "pandas", "pydantic", "yaml", "rich", "torch", "transformers"}
SIGNATURES = {
    mj.load_model: "source adapter= checkpoint= revision= style= max_length= dtype= calibration=",
    mj.train: "config tasks= extend= log_to= **overrides",
    mj.evaluate: "predictions out= pool= columns= dataset= gold= data= metrics= calibrate_on= reader= tasks=",
    LoadedModel.analyse: "post task aspect= abstain_below= max_new_tokens= batch_size=",
    LoadedModel.generate: "messages max_new_tokens= temperature= top_p= seed= stop= batch_size=",
    LoadedModel.score_labels: "post task aspect= batch_size=",
    FinishedRun.load_model: "**options",
    FinishedRun.to_pandas: "",
    Evaluation.to_pandas: "",
    Evaluation.to_html: "",
}
"""What the package promises: what may come as it stands, and what by its name alone."""


def in_a_fresh_interpreter(code: str) -> list[str]:
    """The words that a program prints last."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=cpu_environment()
    )
    return done.stdout.splitlines()[-1].split()


def test_importing_the_names_is_quick_and_loads_nothing_heavy() -> None:
    code = """
import sys, time
start = time.process_time()
from mentallama_jax import Task, evaluate, load_model, train
print(time.process_time() - start, *sys.modules)
"""
    taken: list[float] = []
    while len(taken) < 5 and (
        not taken or min(taken) >= 0.1
    ):  # a busy machine gets more than one try, and counts its own time
        seconds, *modules = in_a_fresh_interpreter(code)
        assert not HEAVY & set(modules)
        taken.append(float(seconds))
    assert min(taken) < 0.1, f"seconds of CPU time of {len(taken)} imports: {taken}"


def test_scoring_needs_no_jax() -> None:
    code = """
import sys
from mentallama_jax import evaluate
rows = [{"id": str(n), "dataset": "DR", "label": "yes", "output": "Yes.", "post_id": str(n)} for n in range(3)]
print(evaluate(rows).scores["pooled"]["n"], "jax" in sys.modules)
"""
    assert in_a_fresh_interpreter(code) == ["3", "False"]


def test_nothing_else_is_public() -> None:
    assert mj.__all__ == ["Task", "evaluate", "load_model", "train"]
    assert set(dir(mj)) == {*mj.__all__, "__version__"}
    given: dict[str, Any] = {}
    exec("from mentallama_jax import *", given)
    assert given.keys() - {"__builtins__"} == set(mj.__all__)
    for name in ("tun", "tune", "score"):
        with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
            getattr(mj, name)


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(mj.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize("of", SIGNATURES, ids=lambda of: of.__qualname__)
def test_signatures_stay_and_every_argument_is_explained(of: Callable[..., Any]) -> None:
    marks = {inspect.Parameter.KEYWORD_ONLY: "{}=", inspect.Parameter.VAR_KEYWORD: "**{}"}
    parameters = [each for each in inspect.signature(of).parameters.values() if each.name != "self"]
    assert " ".join(marks.get(each.kind, "{}").format(each.name) for each in parameters) == SIGNATURES[of]
    assert isinstance(of, types.FunctionType)
    text = of.__doc__ or ""
    if "Args:" in text:
        explained = text.partition("Args:")[2]
        assert [each.name for each in parameters if f"{each.name}:" not in explained] == []


@pytest.mark.parametrize("name", mj.__all__)
def test_every_name_is_documented(name: str) -> None:
    assert getattr(mj, name).__doc__
    assert name in (mj.__doc__ or "")
