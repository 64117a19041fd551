"""Answers about images, from what runs see on them. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bcd.detections.disagreement import rank_disagreements, rank_mistakes
from bcd.detections.errors import IGNORED, RIGHT, TYPES
from bcd.detections.flat import Bools, Ints
from bcd.detections.gallery import Gallery
from service.images.files import Look
from service.images.schemas import (
    DetectionOut,
    ImageOut,
    ImagesOut,
    Kind,
    ObjectOut,
    RankedImage,
    SeenBy,
    Sight,
    Verdict,
)

Seen = tuple[str, Look]  # by a job


def ranked(gallery: Gallery, first: Seen, second: Seen | None, kind: Kind, limit: int) -> ImagesOut:
    """The images of a kind. Without `second` only mistakes are ranked."""
    truth = gallery.truth
    if second is None or kind == "mistakes":
        found = rank_mistakes(truth, first[1].view, top=limit)
    else:
        found = rank_disagreements(truth, first[1].view, second[1].view, top=limit)[kind]
    return ImagesOut(
        pictures=truth.images,
        whole=gallery.whole,
        class_names=list(truth.class_names),
        first=_sight(*first),
        second=_sight(*second) if second is not None else None,
        items=[
            RankedImage(image=one.image_id, file_name=one.file_name, score=one.score, reasons=list(one.reasons))
            for one in found
        ],
    )


def image(gallery: Gallery, place: int, views: Sequence[Seen]) -> ImageOut:
    """One image with what each run sees there."""
    picture, truth = gallery.pictures[place], gallery.truth
    of_image = np.flatnonzero(truth.image_G == place)
    ignore_G = views[0][1].view.flat.ignore_G if views else truth.ignore_G
    return ImageOut(
        image=picture.id,
        file_name=picture.file_name,
        width=picture.width,
        height=picture.height,
        objects=objects_of(gallery, place, ignore_G),
        views=[_seen(job_id, look, place, of_image, truth.class_names) for job_id, look in views],
    )


def objects_of(gallery: Gallery, place: int, ignore_G: Bools) -> list[ObjectOut]:
    """The objects of one image."""
    truth = gallery.truth
    return [
        ObjectOut(box=_box(truth.box_G4[g]), label=truth.class_names[truth.label_G[g]], ignore=bool(ignore_G[g]))
        for g in np.flatnonzero(truth.image_G == place)
    ]


def _sight(job_id: str, look: Look) -> Sight:
    view, flat, matches, errors = look.view, look.view.flat, look.view.matches, None
    if look.errors is not None:
        counts_T = look.errors.counts_CT.sum(0)
        errors = {name: int(count) for name, count in zip(TYPES, counts_T, strict=True)}
    return Sight(
        job_id=job_id,
        name=view.name,
        right=int(matches.right_D.sum()),
        wrong=int(view.wrong_D.sum()),
        missed=int((~flat.ignore_G & (matches.det_G < 0)).sum()),
        errors=errors,
    )


def _seen(job_id: str, look: Look, place: int, of_image: Ints, names: Sequence[str]) -> SeenBy:
    flat, matches = look.view.flat, look.view.matches
    types_D = look.errors.type_D if look.errors is not None else None
    mine = np.flatnonzero(flat.image_D == place)

    def verdict(d: int) -> Verdict:
        if matches.right_D[d]:
            return "right"
        if matches.ignored_D[d]:
            return "ignored"
        if types_D is None or types_D[d] in (RIGHT, IGNORED):
            return "wrong"
        typed: Verdict = TYPES[types_D[d]]  # type: ignore[assignment]  # a detection is never of the type missed
        return typed

    return SeenBy(
        job_id=job_id,
        detections=[
            DetectionOut(
                box=_box(flat.box_D4[d]),
                label=names[flat.label_D[d]],
                score=round(float(flat.score_D[d]), 4),
                verdict=verdict(int(d)),
            )
            for d in mine
        ],
        found=[bool(matches.det_G[g] >= 0) for g in of_image],
    )


def _box(box_4: np.ndarray) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (round(float(value), 1) for value in box_4)
    return x1, y1, x2, y2
