"""Writes a report: one page, one Markdown file, one file of LaTeX tables."""

from pathlib import Path

from mentallama_jax.evaluation.reports.document import ReportDocument
from mentallama_jax.evaluation.reports.latex import latex_tables
from mentallama_jax.evaluation.reports.markdown import markdown_text
from mentallama_jax.evaluation.reports.page import html_page
from mentallama_jax.files import atomic_open

PAGE = "report.html"


def write_pages(folder: Path, document: ReportDocument) -> list[Path]:
    """Write `report.html`, `report.md` and `tables.tex`; return their paths. Equal documents give equal bytes."""
    texts = {PAGE: html_page(document), "report.md": markdown_text(document), "tables.tex": latex_tables(document)}
    for name, text in texts.items():
        with atomic_open(folder / name) as stream:
            stream.write(text)
    return [folder / name for name in texts]
