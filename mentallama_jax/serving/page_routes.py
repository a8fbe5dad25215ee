"""The routes of the page."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mentallama_jax.serving.crisis_lines import CrisisLines
from mentallama_jax.serving.page_files import PAGE_HEADERS, PageFile, page_files


def page_routes(lines: CrisisLines | None = None) -> list[Route]:
    """A route for each file of the page, with the headers that keep others out of it.

    Args:
        lines: crisis lines to show; None takes the shipped ones.
    """
    return [_route(path, file) for path, file in page_files(lines).items()]


def _route(path: str, file: PageFile) -> Route:
    async def send(request: Request) -> Response:
        return Response(file.content, media_type=file.media_type, headers=PAGE_HEADERS)

    return Route(path, send, methods=["GET"])
