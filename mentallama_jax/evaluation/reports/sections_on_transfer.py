"""The report of a transfer matrix: one table of figures, one of answers without a label, and how it was made."""

import json

from mentallama_jax.evaluation.reports.document import (
    FigureTable,
    Paragraph,
    ReportDocument,
    ReportSection,
    Terms,
)
from mentallama_jax.evaluation.reports.numerals import count, percent, percent_range
from mentallama_jax.evaluation.transfer_matrix import TransferMatrix

_TITLE = "Transfer between data sets"
_ABOUT = (
    "Each row is a model that was trained on the data sets it is named after, each column the test rows of a data set. "
    "A star marks a data set that the model was trained on. The other figures say what was learnt for a question that "
    "was never asked in training. An answer without a readable label is wrong."
)


def transfer_document(matrix: TransferMatrix) -> ReportDocument:
    """The report of a transfer matrix."""
    sections = [
        ReportSection(_TITLE, [Paragraph(_ABOUT), figures_table(matrix), _unparsed_table(matrix)]),
        ReportSection(
            "How it was made", [Terms(tuple((key, _words(value)) for key, value in matrix.signature.items()))]
        ),
    ]
    return ReportDocument(_TITLE, f"{len(matrix.cells)} models, {len(matrix.tested_on)} data sets", sections)


def figures_table(matrix: TransferMatrix) -> FigureTable:
    """Weighted F1 of each model on each data set, with its interval."""
    rows = []
    for name, cells in matrix.cells.items():
        shown = [
            f"{percent(cell.weighted_f1)}{'*' if cell.own else ''} ({percent_range(cell.weighted_f1_interval)})"
            for cell in (cells[dataset] for dataset in matrix.tested_on)
        ]
        rows.append((name, *shown, *(percent(mean) for mean in matrix.means(name))))
    first = next(iter(matrix.cells.values()))
    majority = [percent(first[dataset].majority_weighted_f1) for dataset in matrix.tested_on]
    rows.append(("majority of the test rows", *majority, percent(None), percent(None)))
    sizes = ", ".join(f"{dataset} {count(first[dataset].rows)}" for dataset in matrix.tested_on)
    return FigureTable(
        f"Weighted F1 in %, {100 * matrix.confidence:g} % intervals over posts",
        ("trained on", *matrix.tested_on, "mean, own", "mean, others"),
        tuple(rows),
        notes=(f"Test rows: {sizes}.",),
    )


def _unparsed_table(matrix: TransferMatrix) -> FigureTable:
    rows = [
        (name, *(percent(cells[dataset].unparsed / cells[dataset].rows) for dataset in matrix.tested_on))
        for name, cells in matrix.cells.items()
    ]
    return FigureTable("Answers without a readable label, in %", ("trained on", *matrix.tested_on), tuple(rows))


def _words(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
