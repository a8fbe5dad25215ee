"""What a report is made of: sections of tables, pictures and lines, before they become HTML, Markdown or LaTeX."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph.

    Attributes:
        text: plain text.
        tone: "plain", or "warning" for what a reader must mind.
    """

    text: str
    tone: str = "plain"


@dataclass(frozen=True, slots=True)
class FigureTable:
    """A table whose first columns are words and whose others are figures.

    Attributes:
        caption: what it shows; unique within a report.
        header: one cell a column.
        rows: as many cells as the header each.
        words: columns at the left that hold words; the others are aligned right.
        notes: lines below it.
        printed: whether it goes to `tables.tex`.
        folded: whether it is folded away on the page until it is asked for.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1
    notes: tuple[str, ...] = ()
    printed: bool = True
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing in SVG.

    Attributes:
        title: short, and what is read out first.
        description: what it shows, for those who do not see it.
        width: in pixels.
        height: in pixels.
        body: the elements inside `<svg>`.
    """

    title: str
    description: str
    width: int
    height: int
    body: str


@dataclass(frozen=True, slots=True)
class Gallery:
    """Pictures side by side, with a heading of their own where there is one."""

    pictures: tuple[Picture, ...]
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Terms:
    """Names and what stands for them, such as a signature; folded away below `heading` where there is one."""

    pairs: tuple[tuple[str, str], ...]
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """What a model wrote, as it is."""

    heading: str
    text: str


Block = Paragraph | FigureTable | Gallery | Terms | Excerpt


@dataclass(frozen=True, slots=True)
class ReportSection:
    """A heading and what stands below it; `blocks` first, then `parts` one level deeper."""

    title: str
    blocks: Sequence[Block]
    parts: Sequence["ReportSection"] = ()

    @property
    def anchor(self) -> str:
        """The name of the place in the page."""
        return slug(self.title)


@dataclass(frozen=True, slots=True)
class ReportDocument:
    """A whole report.

    Attributes:
        title: of the page.
        subtitle: what was scored, in a line.
        sections: in reading order.
    """

    title: str
    subtitle: str
    sections: Sequence[ReportSection] = field(default_factory=list)

    def tables(self) -> Iterator[FigureTable]:
        """Every table, in reading order."""
        for section in self.sections:
            yield from _tables(section)


def slug(text: str) -> str:
    """A name for anchors and labels: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "section"


def _tables(section: ReportSection) -> Iterator[FigureTable]:
    for block in section.blocks:
        if isinstance(block, FigureTable):
            yield block
    for part in section.parts:
        yield from _tables(part)
