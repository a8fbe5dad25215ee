"""A report as Markdown, with the words of each picture in its place."""

import re
from collections.abc import Iterator

from mentallama_jax.evaluation.reports.document import (
    Block,
    Excerpt,
    FigureTable,
    Gallery,
    Paragraph,
    ReportDocument,
    ReportSection,
    Terms,
)
from mentallama_jax.foreign import printable

_NOTICE = """\
**For research only.** Nothing here diagnoses anybody; never use labels or explanations for diagnosis, triage or
decisions about a person. **In a crisis** call the local emergency number or a crisis line: 988 in the USA, 116 123 in
the UK and Ireland, 13 11 14 in Australia; <https://findahelpline.com> lists lines by country.
"""
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&$])")


def markdown_text(document: ReportDocument) -> str:
    """The whole report."""
    lines = [f"# {_safe(document.title)}", ""]
    if document.subtitle:
        lines += [_safe(document.subtitle), ""]
    lines.append(_NOTICE)
    for section in document.sections:
        lines += _section(section, 2)
    return "\n".join(lines).rstrip() + "\n"


def _section(section: ReportSection, level: int) -> Iterator[str]:
    yield from (f"{'#' * level} {_safe(section.title)}", "")
    for block in section.blocks:
        yield from _block(block, level)
    for part in section.parts:
        yield from _section(part, level + 1)


def _block(block: Block, level: int) -> Iterator[str]:
    match block:
        case Paragraph():
            yield from (_safe(block.text), "")
        case FigureTable():
            yield from _table(block)
        case Gallery():
            if block.heading and block.pictures:
                yield from (f"{'#' * (level + 1)} {_safe(block.heading)}", "")
            for picture in block.pictures:
                yield from (f"*{_safe(picture.title)}.* {_safe(picture.description)}", "")
        case Terms():
            yield from (f"- **{_safe(name)}**: {_safe(text)}" for name, text in block.pairs)
            yield ""
        case Excerpt():
            yield from (f"*{_safe(block.heading)}*", "")
            yield from (f"> {_safe(line)}" for line in block.text.split("\n"))
            yield ""


def _table(table: FigureTable) -> Iterator[str]:
    yield from (f"**{_safe(table.caption)}**", "")
    yield _row(table.header)
    yield _row(["---" if place < table.words else "---:" for place in range(len(table.header))], safe=True)
    yield from (_row(row) for row in table.rows)
    yield ""
    for note in table.notes:
        yield from (_safe(note), "")


def _row(cells: "tuple[str, ...] | list[str]", *, safe: bool = False) -> str:
    return "| " + " | ".join(cell if safe else _safe(cell) for cell in cells) + " |"


def _safe(text: str) -> str:
    """Text on one line that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", printable(" ".join(text.split())))
