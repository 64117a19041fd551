"""What is in a data set, from its gallery. Pure functions."""

from __future__ import annotations

import math

import numpy as np

from bcd.detections.gallery import Gallery
from service.images.looks import objects_of
from service.images.schemas import ClassOut, DataOut, PictureOut, SizeOut

# COCO's bounds of small and medium (32, 96), and steps around them.
BOUNDS = (0.0, 8.0, 16.0, 32.0, 64.0, 96.0, 192.0, 384.0, math.inf)


def describe(gallery: Gallery, sample: int) -> DataOut:
    """Classes, sizes and at most `sample` pictures."""
    truth = gallery.truth
    counts_G = ~truth.ignore_G
    label_G, image_G = truth.label_G[counts_G], truth.image_G[counts_G]
    size_G = np.sqrt((truth.box_G4[:, 2:] - truth.box_G4[:, :2]).clip(min=0).prod(1))[counts_G]
    classes = len(truth.class_names)
    objects_C = np.bincount(label_G, minlength=classes)
    shown = np.unique(np.stack([label_G, image_G]), axis=1)[0] if len(label_G) else label_G
    images_C = np.bincount(shown, minlength=classes)
    sizes = np.histogram(size_G, BOUNDS)[0]
    places = np.unique(np.linspace(0, truth.images - 1, min(sample, truth.images)).round().astype(int))
    return DataOut(
        data_hash=gallery.data_hash,
        pictures=truth.images,
        whole=gallery.whole,
        objects=int(counts_G.sum()),
        ignored=int((~counts_G).sum()),
        classes=[
            ClassOut(name=name, objects=int(objects_C[c]), images=int(images_C[c]))
            for c, name in enumerate(truth.class_names)
        ],
        sizes=[
            SizeOut(least=low, below=None if math.isinf(high) else high, objects=int(count))
            for low, high, count in zip(BOUNDS, BOUNDS[1:], sizes, strict=False)
        ],
        sample=[
            PictureOut(
                image=gallery.pictures[place].id,
                file_name=gallery.pictures[place].file_name,
                width=gallery.pictures[place].width,
                height=gallery.pictures[place].height,
                objects=objects_of(gallery, place, truth.ignore_G),
            )
            for place in places
        ],
    )
