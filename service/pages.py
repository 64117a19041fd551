"""The pages that a browser opens: the API's document, and a reference made from it that loads nothing from elsewhere.

FastAPI's own pages fetch their scripts from a content delivery network: blank without internet, and foreign code on the
page of a service that holds tokens.
"""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from service.access import context

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
code, .method { font-family: ui-monospace, monospace }
.method { display: inline-block; width: 4.5rem; font-weight: 600 }
details { border-bottom: 1px solid #ddd; padding: .4rem 0 }
summary { cursor: pointer }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto }
td { padding: .1rem 1rem .1rem 0; vertical-align: top }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd } pre { background: #242424 } }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def _limited(request: Request) -> None:
    """Dependency: these pages are open to all, so callers count by their address."""
    call = context.current()
    request.app.state.limits.anonymous(call.address if call is not None else None)


router = APIRouter(include_in_schema=False, dependencies=[Depends(_limited)])


without_web = APIRouter(include_in_schema=False, dependencies=[Depends(_limited)])


@without_web.get("/")
def home() -> RedirectResponse:
    return RedirectResponse("/docs")


@router.get("/openapi.json")
def document(request: Request) -> Response:
    return Response(json.dumps(request.app.openapi()), media_type="application/json")


@router.get("/docs")
def reference(request: Request) -> HTMLResponse:
    return HTMLResponse(_page(request.app.openapi()), headers={"Content-Security-Policy": _POLICY})


def _page(api: dict[str, Any]) -> str:
    title = escape(api["info"]["title"])
    rooms: dict[str, list[str]] = {}
    for path, item in api["paths"].items():
        for method, operation in item.items():
            room = (operation.get("tags") or ["other"])[0]
            rooms.setdefault(room, []).append(_operation(method, path, operation))
    body = "".join(f"<h2>{escape(room)}</h2>{''.join(items)}" for room, items in rooms.items())
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title} API</title><style>{_STYLE}</style>"
        f"<h1>{title} API</h1><p>{escape(api['info'].get('summary', ''))}</p>"
        "<p>Send <code>Authorization: Bearer &lt;token&gt;</code> with every call. Errors are "
        "<code>application/problem+json</code>: <code>detail</code> says what to change. For programs: "
        '<a href="/openapi.json">openapi.json</a> has all of this with the schemas.</p>'
        f"{body}</html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(one['name'])}</code><td>{escape(one['in'])}<td>{escape(_text(one))}"
        for one in operation.get("parameters", [])
    )
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    schema = json.dumps(content["schema"], indent=1) if "schema" in content else ""
    return (
        f"<details><summary><span class=method>{escape(method.upper())}</span> <code>{escape(path)}</code> "
        f"{escape(operation.get('summary', ''))}</summary>"
        + (f"<table>{rows}</table>" if rows else "")
        + (f"<p>Body:</p><pre>{escape(schema)}</pre>" if schema else "")
        + "</details>"
    )


def _text(parameter: dict[str, Any]) -> str:
    return str(parameter.get("description") or parameter.get("schema", {}).get("description") or "")
