"""A report as one HTML file that needs nothing else: style sheet and pictures inside, no script, no address fetched."""

from functools import cache
from itertools import count
from typing import TYPE_CHECKING

from mentallama_jax.evaluation.reports.document import ReportDocument, slug
from mentallama_jax.foreign import printable

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATE = "page.html.j2"
_STYLE = "page.css"


def html_page(document: ReportDocument) -> str:
    """The page. Every text of the document is escaped; pictures are taken as they are."""
    numbers = count(1)
    taken: dict[str, int] = {}

    def anchor(title: str) -> str:
        name = slug(title)
        taken[name] = taken.get(name, 0) + 1
        return name if taken[name] == 1 else f"{name}-{taken[name]}"

    environment = _environment()
    return environment.get_template(_TEMPLATE).render(
        document=document,
        style=_file(_STYLE),
        number=lambda: next(numbers),
        anchors=[anchor(section.title) for section in document.sections],
        kind=lambda block: type(block).__name__,
    )


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("mentallama_jax.evaluation.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.filters["shown"] = printable
    return environment


def _file(name: str) -> str:
    from importlib.resources import files

    return files("mentallama_jax.evaluation.reports").joinpath("templates", name).read_text(encoding="utf-8")
