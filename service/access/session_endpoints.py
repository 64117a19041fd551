"""HTTP routes of browsers' sessions. Opening one is how a caller proves who they are, so nothing asks for it before."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from service.access import sessions
from service.access.origin import COOKIE, refuse_cross_site
from service.access.principal import Me
from service.access.schemas import SessionIn, SessionOut
from service.bodies import documented, read_as
from service.deps import Config, Db

router = APIRouter(tags=["access"])

PATH = "/api/v1"  # the cookie goes to the API alone, not to every server on this host's other ports


@router.post("/session", openapi_extra=documented(SessionIn), summary="Open a browser's session (sets a cookie)")
def open_session(
    request: Request,
    response: Response,
    db: Db,
    settings: Config,
    given: Annotated[SessionIn, Depends(read_as(SessionIn))],
) -> SessionOut:
    # also here: another site must not log its visitors in as somebody else
    refuse_cross_site(request, always=True)
    limits = request.app.state.limits
    shown, secret = sessions.open_session(db, limits, given.token, seconds=settings.session_seconds)
    _set_cookie(request, response, secret, settings.session_seconds)
    return shown


@router.get("/session", summary="The browser's session, which lives on from now")
def get_session(request: Request, response: Response, db: Db, me: Me, settings: Config) -> SessionOut:
    with db.write() as session:
        shown = sessions.renew(session, me, seconds=settings.session_seconds)
    _set_cookie(request, response, request.cookies[COOKIE], settings.session_seconds)
    return shown


@router.delete("/session", status_code=204, summary="Close the browser's session")
def close_session(request: Request, db: Db) -> Response:
    refuse_cross_site(request, always=True)
    with db.write() as session:
        sessions.close(session, request.cookies.get(COOKIE, ""))
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, path=PATH, httponly=True, samesite="strict")
    return response


def _set_cookie(request: Request, response: Response, secret: str, seconds: float) -> None:
    response.set_cookie(
        COOKIE, secret, max_age=int(seconds), path=PATH, secure=request.url.scheme == "https", httponly=True,
        samesite="strict",
    )  # fmt: skip
