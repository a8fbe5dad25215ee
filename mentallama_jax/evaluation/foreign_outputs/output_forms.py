"""Which form a file of outputs has, by its content."""

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.foreign_outputs.delimited import delimited_table
from mentallama_jax.evaluation.foreign_outputs.generated_lines import lines_table
from mentallama_jax.evaluation.foreign_outputs.harness_samples import KEYS as HARNESS_KEYS
from mentallama_jax.evaluation.foreign_outputs.harness_samples import harness_table
from mentallama_jax.evaluation.foreign_outputs.openai_batch import KEYS as BATCH_KEYS
from mentallama_jax.evaluation.foreign_outputs.openai_batch import batch_table
from mentallama_jax.evaluation.foreign_outputs.output_table import OutputTable, objects
from mentallama_jax.foreign import reading
from mentallama_jax.imhi.data_files.json_values import json_rows
from mentallama_jax.storage import AnyPath

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv")


def read_output_table(path: AnyPath, wanted_filter: str | None = None) -> OutputTable:
    """The rows of a file of outputs, in whichever form it is.

    Raises:
        UserError: no such file, it cannot be read, or `wanted_filter` does not go with it.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if not _is_json(path):
        table = delimited_table(path)
    else:
        rows, problems = json_rows(path)
        found = list(objects(rows, problems))
        if not found and not problems:
            raise UserError(f"{path}: holds no rows")
        keys = found[0][1].keys() if found else set()
        if keys >= HARNESS_KEYS:
            return harness_table(found, problems, path, wanted_filter)
        table = batch_table(found, problems) if keys >= BATCH_KEYS else lines_table(found, problems)
    if wanted_filter is not None:
        raise UserError(f"{path}: is no log of lm-evaluation-harness, so --columns filter=NAME says nothing of it")
    return table


def _is_json(path: AnyPath) -> bool:
    if path.suffix.lower() in (".jsonl", ".json"):
        return True
    with reading(path, "text", may_hold_posts=True), path.open("rb") as stream:
        return stream.read(64).lstrip(b"\xef\xbb\xbf \r\n\t")[:2] in (b'{"', b"[{")
