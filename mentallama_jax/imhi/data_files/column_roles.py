"""Which column of a table is for what, where the user says it: `post=text,label=class`."""

from collections.abc import Collection, Mapping
from typing import Any

from mentallama_jax.errors import UserError
from mentallama_jax.foreign import shown
from mentallama_jax.imhi.data_files.table_rows import Table, shown_columns


def parse_roles(text: str, roles: Collection[str]) -> dict[str, str]:
    """The columns of an option such as `gold=answer,text=output`: role -> name of a column.

    Raises:
        UserError: it is no such list, or it names a role that there is not, or one twice.
    """
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        role, sign, name = (word.strip() for word in part.partition("="))
        if not sign or not name or role not in roles:
            raise UserError(f"--columns {shown(part)}: give ROLE=COLUMN, with a role of {', '.join(roles)}")
        if role in found:
            raise UserError(f"--columns gives {role} twice; keep one of them")
        found[role] = name
    return found


def check_given(said: Mapping[str, str], columns: Collection[str], place: object) -> None:
    """Refuse the name of a column that a table does not have, and one that is given two roles.

    Raises:
        UserError: begins with `place`, and names those that it has.
    """
    for role, name in said.items():
        if name not in columns:
            raise UserError(f"{place}: has no column {shown(name)} for {role} (found: {shown_columns(columns)})")
        first = next(other for other, column in said.items() if column == name)
        if first != role:
            raise UserError(f"{place}: the column {shown(name)} cannot be both {first} and {role}")


def in_roles(table: Table, said: Mapping[str, str], place: object) -> Table:
    """The table with each named column under the name of its role; a column that has that name already is left out.

    Raises:
        UserError: a named column is not there.
    """
    check_given(said, table.columns, place)
    if not said:
        return table
    kept = [name for name in table.columns if name not in said.values() and name not in said]
    rows: list[tuple[int, Mapping[str, Any]]] = [
        (
            number,
            {name: row[name] for name in kept if name in row}
            | {role: row[name] for role, name in said.items() if name in row},
        )
        for number, row in table.rows
    ]
    return Table((*said, *kept), rows, table.problems)
