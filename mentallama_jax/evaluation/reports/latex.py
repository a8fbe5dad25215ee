"""The tables of a report as LaTeX with the rules of `booktabs`, to be put into a paper by `\\input`."""

import re
from collections.abc import Iterator

from mentallama_jax.evaluation.reports.document import FigureTable, ReportDocument, slug
from mentallama_jax.foreign import printable

_HEAD = """\
% Made by `mentallama report`; needs \\usepackage{booktabs}.
"""
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",
    "]": "{]}",
    "−": "$-$",
    "–": "--",
    "…": r"\dots{}",
}
_PATTERN = re.compile("|".join(map(re.escape, _SPECIAL)))


def latex_tables(document: ReportDocument) -> str:
    """Every printed table, each a float with a caption and a label of its own."""
    taken: dict[str, int] = {}
    lines = [_HEAD]
    for table in document.tables():
        if table.printed and table.rows:
            name = slug(table.caption)
            taken[name] = taken.get(name, 0) + 1
            lines += _float(table, name if taken[name] == 1 else f"{name}-{taken[name]}")
    return "\n".join(lines)


def _float(table: FigureTable, name: str) -> Iterator[str]:
    form = "l" * table.words + "r" * (len(table.header) - table.words)
    yield from (r"\begin{table}[t]", r"\centering", r"\small")
    yield rf"\caption{{{latex_escape(table.caption)}}}"
    yield rf"\label{{tab:{name}}}"
    yield rf"\begin{{tabular}}{{{form}}}"
    yield from (r"\toprule", _cells(table.header), r"\midrule")
    yield from map(_cells, table.rows)
    yield from (r"\bottomrule", r"\end{tabular}")
    for note in table.notes:
        yield rf"\par\smallskip\footnotesize {latex_escape(note)}"
    yield from (r"\end{table}", "")


def _cells(cells: tuple[str, ...]) -> str:
    return " & ".join(map(latex_escape, cells)) + r" \\"


def latex_escape(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return _PATTERN.sub(lambda found: _SPECIAL[found[0]], printable(" ".join(text.split())))
