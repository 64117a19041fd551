"""HTTP routes of images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, TypeVar

import anyio.to_thread
from fastapi import APIRouter, Header, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from service.access.principal import Me, Principal
from service.artifacts.ranges import is_known
from service.db import Database
from service.deps import Config, Db
from service.errors import Problem
from service.images import data, files, looks
from service.images.files import RunFiles, Threshold
from service.images.schemas import DataOut, ImageOut, ImagesOut, Kind

router = APIRouter(tags=["images"])

T = TypeVar("T")
MOST_RUNS = 6

Score = Annotated[float, Query(ge=0.0, le=1.0, description="Detections below this score do not exist.")]
Iou = Annotated[float, Query(ge=0.1, le=0.95, description="From this overlap on a detection has found its object.")]
Label = Annotated[str | None, Query(max_length=200, description="Only this class counts.")]


@router.get("/compare/images", summary="Images on which runs differ, or one run fails, the worst first")
async def rank_images(
    request: Request,
    db: Db,
    me: Me,
    settings: Config,
    first: Annotated[str, Query(max_length=100, description="A job, such as the teacher.")],
    second: Annotated[str | None, Query(max_length=100, description="Another job, such as its student.")] = None,
    kind: Annotated[
        Kind,
        Query(
            description="mistakes: of the first alone. first right, second right: one sees what the other does not. "
            "both wrong: neither finds it. largest gap: by the difference of F1."
        ),
    ] = "mistakes",
    score: Score = 0.3,
    iou: Iou = 0.5,
    label: Label = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> ImagesOut:
    if second is None and kind != "mistakes":
        message = f"{kind!r} needs a second job; with one alone take 'mistakes'"
        raise Problem(422, f"second: {message}", errors=[("?second", message)])
    jobs = [first] if second is None else [first, second]
    runs = await run_in_threadpool(_find, db, me, jobs)
    at = Threshold(score, iou, label)

    def answer() -> ImagesOut:
        gallery = files.gallery_of(settings, runs[0])
        seen = [(run.job_id, files.look_of(settings, run, runs[0], at)) for run in runs]
        return looks.ranked(gallery, seen[0], seen[1] if len(seen) > 1 else None, kind, limit)

    return await _aside(request, answer)


@router.get("/compare/images/{image}", summary="What runs see on one image")
async def look_at_image(
    request: Request,
    db: Db,
    me: Me,
    settings: Config,
    image: int,
    ids: Annotated[str, Query(max_length=50 * MOST_RUNS, description=f"1 to {MOST_RUNS} job ids, by commas.")],
    score: Score = 0.3,
    iou: Iou = 0.5,
    label: Label = None,
) -> ImageOut:
    wanted = list(dict.fromkeys(part.strip() for part in ids.split(",") if part.strip()))
    if not 1 <= len(wanted) <= MOST_RUNS:
        message = f"give 1 to {MOST_RUNS} job ids, separated by commas"
        raise Problem(422, f"ids: {message}", errors=[("?ids", message)])
    runs = await run_in_threadpool(_find, db, me, wanted)
    at = Threshold(score, iou, label)

    def answer() -> ImageOut:
        gallery = files.gallery_of(settings, runs[0])
        place = files.place_of(gallery, image)
        return looks.image(gallery, place, [(run.job_id, files.look_of(settings, run, runs[0], at)) for run in runs])

    return await _aside(request, answer)


@router.get(
    "/jobs/{job_id}/images/{image}/content",
    summary="The picture of a validation image",
    response_class=Response,
    responses={200: {"description": "A JPEG.", "content": {"image/jpeg": {}}}, 304: {"description": "Known already."}},
)
async def get_picture(
    request: Request,
    db: Db,
    me: Me,
    settings: Config,
    job_id: str,
    image: int,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Perhaps smaller than the original; `GET /compare/images/{image}` tells the original's size."""
    (run,) = await run_in_threadpool(_find, db, me, [job_id])
    etag = f'"{run.gallery.sha256[:32]}-{image}"'
    headers = {"ETag": etag, "Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"}
    if is_known(if_none_match, etag):
        return Response(status_code=304, headers=headers)

    def answer() -> bytes:
        return files.picture_of(settings, run, files.place_of(files.gallery_of(settings, run), image))

    return Response(await _aside(request, answer), headers=headers, media_type="image/jpeg")


@router.get("/jobs/{job_id}/data", summary="What the validation data of a run shows")
async def describe_data(
    request: Request,
    db: Db,
    me: Me,
    settings: Config,
    job_id: str,
    sample: Annotated[int, Query(ge=0, le=100, description="Pictures to name.")] = 12,
) -> DataOut:
    (run,) = await run_in_threadpool(_find, db, me, [job_id])
    return await _aside(request, lambda: data.describe(files.gallery_of(settings, run), sample))


def _find(db: Database, me: Principal, job_ids: list[str]) -> list[RunFiles]:
    with db.read() as session:
        return [files.find(session, me, job_id) for job_id in job_ids]


async def _aside(request: Request, act: Callable[[], T]) -> T:
    """In threads of their own: storage that hangs must not use up those that serve everything else."""
    ask = partial(anyio.to_thread.run_sync, limiter=request.app.state.storage_threads)
    return await ask(act)
