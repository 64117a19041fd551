"""The web UI: static files that `make web` (or the wheel's build) put into `service/static/`, and what a browser may
do with them.

Scripts and styles have their content in their names and are kept for ever; the page itself is asked for each time, so
that an upgrade is seen at once. Any address that is no file shows the page: the page knows its own addresses.
"""

from __future__ import annotations

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Scope

FOLDER = Path(__file__).resolve().parent / "static"
PAGE = "index.html"
ASSETS = "assets/"
# Mantine and uPlot set style attributes: those are allowed, scripts are only our own files. `data:` are small pictures
# that the libraries draw, `blob:` what a person exports.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def is_built(folder: Path = FOLDER) -> bool:
    return (folder / PAGE).is_file()


def frontend(folder: Path = FOLDER) -> ASGIApp:
    """The application that serves the built files of `folder`, compressed."""
    return GZipMiddleware(_Files(directory=folder), minimum_size=1000)


class _Files(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        try:
            answer = await super().get_response(path, scope)
        except HTTPException as error:
            if error.status_code != 404 or not _is_page(path):
                raise
            path = PAGE
            answer = await super().get_response(PAGE, scope)
        kept = path.startswith(ASSETS)
        answer.headers["Cache-Control"] = "public, max-age=31536000, immutable" if kept else "no-cache"
        answer.headers["Content-Security-Policy"] = POLICY
        return answer


def _is_page(path: str) -> bool:
    """An address of the page's own: not the API's, and no file that is missing (their names have a dot at the end)."""
    if path == ".":  # the root
        return True
    first, _, _ = path.partition("/")
    return first not in ("api", "assets") and "." not in path.rpartition("/")[2]
