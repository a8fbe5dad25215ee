"""IMHI as tasks of lm-evaluation-harness: a folder for its `--include_path`.

For each data set there are two tasks: `imhi_DR` generates an answer and reads its label with the reader of this
package, `imhi_DR_choice` asks for the likeliest label sentence. The groups `imhi` and `imhi_choice` hold all of them.
The records are copied into the folder, which therefore holds posts.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mentallama_jax.errors import UserError
from mentallama_jax.files import atomic_folder, write_json, write_jsonl
from mentallama_jax.harness.task_functions import document
from mentallama_jax.imhi.records import Record
from mentallama_jax.imhi.task_files.kept_tasks import KEPT, to_keep
from mentallama_jax.imhi.tasks import TASKS, Task

RECORDS = "records.jsonl"
_UTILS = '''"""Functions of the tasks beside this file; they need the package mentallama-jax."""

from pathlib import Path

from mentallama_jax.harness.registration import register
from mentallama_jax.harness.task_functions import answer_scores, documents, know_tasks

know_tasks(Path(__file__).parent)
register()  # so that a task given as a file knows `--model mentallama`


def load(imhi, **others):
    return documents(Path(__file__).parent / "records.jsonl", imhi)
'''


class _Function(str):
    """The name of a function in YAML."""


class _Dumper(yaml.SafeDumper):
    """Writes names of functions as the harness reads them."""


_Dumper.add_representer(_Function, lambda dumper, name: dumper.represent_scalar("!function", name))


def write_tasks(folder: str | Path, records: Sequence[Record], max_new_tokens: int = 256) -> list[str]:
    """Write the tasks of all data sets that records are of; all of it or nothing.

    Args:
        folder: it must not exist, or be empty.
        records: those without a label are not used.
        max_new_tokens: longest generated answer.

    Returns:
        The names of the tasks.

    Raises:
        UserError: no record has a label, an id stands twice, or the folder is not empty.
    """
    labelled = [record for record in records if record.label]
    if not labelled:
        raise UserError(f"{folder}: no record has a label, and a task needs gold")
    used = [task for task in TASKS.values() if any(record.dataset == task.name for record in labelled)]
    configs = {config["task"]: config for task in used for config in _configs(task, max_new_tokens)}
    groups = {
        "imhi": [name for name in configs if not name.endswith("_choice")],
        "imhi_choice": [name for name in configs if name.endswith("_choice")],
    }
    with atomic_folder(Path(folder)) as new:
        write_jsonl(new / RECORDS, map(document, labelled))
        (new / "utils.py").write_text(_UTILS, "utf-8")
        if own := [task for task in used if not task.is_shipped]:
            write_json(new / KEPT, to_keep(own))
        for name, config in configs.items():
            _write(new / f"{name}.yaml", config)
        for name, members in groups.items():
            mean = {"metric": "acc", "aggregation": "mean", "weight_by_size": False}
            _write(new / f"_{name}.yaml", {"group": name, "task": members, "aggregate_metric_list": [mean]})
    return list(configs)


def _configs(task: Task, max_new_tokens: int) -> list[dict[str, Any]]:
    common = {
        "custom_dataset": _Function("utils.load"),
        "dataset_kwargs": {"imhi": task.name},
        "test_split": "test",
        "doc_to_text": "query",
        "metadata": {"version": 1.0},
    }
    generated = {
        "task": f"imhi_{task.name}",
        **common,
        "output_type": "generate_until",
        "doc_to_target": "label",
        "generation_kwargs": {"until": ["</s>"], "max_gen_toks": max_new_tokens, "do_sample": False},
        "process_results": _Function("utils.answer_scores"),
        "metric_list": [_mean("acc", True), _mean("unparsed", False)],
    }
    choice = {
        "task": f"imhi_{task.name}_choice",
        **common,
        "output_type": "multiple_choice",
        "doc_to_target": "gold",
        "doc_to_choice": list(task.sentences.values()),
        "metric_list": [_mean("acc", True)],
    }
    return [generated, choice]


def _mean(metric: str, higher_is_better: bool) -> dict[str, Any]:
    return {"metric": metric, "aggregation": "mean", "higher_is_better": higher_is_better}


def _write(path: Path, config: dict[str, Any]) -> None:
    path.write_text(yaml.dump(config, Dumper=_Dumper, sort_keys=False, allow_unicode=True), "utf-8")
