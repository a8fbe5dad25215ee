"""Which column of a table is for what: as the user says, as the form says, or by a name that means one thing only."""

from mentallama_jax.errors import UserError
from mentallama_jax.evaluation.foreign_outputs.output_table import OutputTable
from mentallama_jax.evaluation.foreign_outputs.read_as import ReadAs
from mentallama_jax.foreign import shown
from mentallama_jax.imhi.data_files.column_roles import check_given
from mentallama_jax.imhi.data_files.table_rows import shown_columns
from mentallama_jax.storage import AnyPath

_NAMES = {
    "gold": ("goldens", "gold", "golden", "gold_label", "label", "target", "reference", "ground_truth"),
    "text": ("generated_text", "prediction", "predicted", "output", "outputs", "generation", "completion",
             "model_output"),
    "id": ("id", "custom_id", "doc_id", "row_id"),
    "dataset": ("dataset", "data_set"),
    "aspect": ("aspect",),
    "post_id": ("post_id",),
    "post": ("post", "query"),
    "prompt": ("prompt",),
}  # fmt: skip
"""Names without another meaning: `answer`, `response` and `text` are gold in some files and outputs in others."""

_FIRST = {"gold": "goldens", "text": "generated_text"}


def find_roles(table: OutputTable, read_as: ReadAs, path: AnyPath) -> dict[str, str]:
    """Role -> column of a table.

    Raises:
        UserError: a named column is not there, a role fits several columns, or there is no output or no gold.
    """
    found = {}
    said = read_as.named
    check_given(said, table.columns, path)
    found.update(said)
    taken = set(found.values())
    for role, names in _NAMES.items():
        if role in found or (role == "dataset" and read_as.dataset is not None):
            continue
        if role in table.roles:
            found[role] = table.roles[role]
            continue
        if table.roles and role in ("gold", "text"):
            continue  # the form has its own names
        fitting = [column for column in table.columns if column.strip().lower() in names and column not in taken]
        if len(fitting) > 1 and not (role == "gold" and read_as.gold is not None):
            listed = ", ".join(map(shown, fitting))
            if role in ("post", "prompt"):
                # A query is a post with its question.
                queries = [column for column in fitting if column.strip().lower() == "query"]
                found |= {role: queries[0]} if len(queries) == 1 else {}
                continue
            raise UserError(
                f"{path}: the columns {listed} may each be the {role}; say which by --columns {role}=COLUMN"
            )
        if fitting:
            found[role] = fitting[0]
    _require(table, found, read_as, path)
    return found


def _require(table: OutputTable, found: dict[str, str], read_as: ReadAs, path: AnyPath) -> None:
    by_post = read_as.gold is not None and "post" in found
    needed = ("gold", "text") if read_as.gold is None else ("text",) if by_post else ("text", "id")
    missing = [role for role in needed if role not in found]
    if not missing:
        return
    if table.roles and "gold" in missing:
        raise UserError(f"{path}: is {table.form}, which holds no gold; give --gold SOURCE to join it by the ids")
    names = ", ".join(_FIRST.get(role, role) for role in missing)
    options = ",".join(f"{role}=COLUMN" for role in missing)
    more = ""
    if missing == ["gold"] and found.keys() & {"id", "post"}:
        more = f", or --gold SOURCE to join gold by {'id' if 'id' in found else 'post'}"
    elif len(missing) == len(needed):
        more = ", if its first line names its columns"
    elif "id" in missing:
        more = "; where there is none, rows are joined by a column `query` or `post`"
    raise UserError(
        f"{path}: has no column {names} (found: {shown_columns(table.columns)}); say it by --columns {options}{more}"
    )
