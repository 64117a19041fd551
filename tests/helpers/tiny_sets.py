"""Writes tiny data sets in VOC and COCO form: a few images with coloured rectangles, made in milliseconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = ("red", "green", "blue")
COCO_IDS = (7, 3, 90)  # not contiguous and not in order, as real files have them

TinyObject = tuple[str, tuple[int, int, int, int]]  # class name and 0-based half-open xyxy


def scene(number: int, width: int, height: int) -> tuple[np.ndarray, list[TinyObject]]:
    """Grey noise with one to three rectangles in the colour of their class."""
    random = np.random.default_rng(number)
    image = random.integers(90, 130, (height, width, 3), dtype=np.uint8)
    objects: list[TinyObject] = []
    for _ in range(1 + number % 3):
        channel = int(random.integers(3))
        w, h = int(random.integers(12, width // 2)), int(random.integers(12, height // 2))
        x, y = int(random.integers(0, width - w)), int(random.integers(0, height - h))
        image[y : y + h, x : x + w] = 20
        image[y : y + h, x : x + w, channel] = 230
        objects.append((CLASSES[channel], (x, y, x + w, y + h)))
    return image, objects


def voc_xml(name: str, width: int, height: int, objects: list[TinyObject], difficult: int = 0) -> str:
    """A VOC annotation: corners are 1-based and inclusive."""
    lines = ["<annotation>", f"  <filename>{name}.jpg</filename>"]
    lines += ["  <size>", f"    <width>{width}</width>", f"    <height>{height}</height>", "  </size>"]
    for label, (x1, y1, x2, y2) in objects:
        lines += ["  <object>", f"    <name>{label}</name>", f"    <difficult>{difficult}</difficult>", "    <bndbox>"]
        corners = {"xmin": x1 + 1, "ymin": y1 + 1, "xmax": x2, "ymax": y2}
        lines += [f"      <{key}>{value}</{key}>" for key, value in corners.items()]
        lines += ["    </bndbox>", "  </object>"]
    return "\n".join([*lines, "</annotation>", ""])


def write_tiny_voc(root: Path, n_train: int = 4, n_val: int = 2, *, size: tuple[int, int] = (64, 48)) -> dict[str, Any]:
    """A VOC folder with images of `size` (width, height). Returns the `data` part of a job spec for it."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    names = [f"img{n:03d}" for n in range(n_train + n_val)]
    for n, name in enumerate(names):
        image, objects = scene(n, *size)
        Image.fromarray(image).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
        (root / "Annotations" / f"{name}.xml").write_text(voc_xml(name, *size, objects))
    (root / "ImageSets/Main/train.txt").write_text("\n".join(names[:n_train]) + "\n")
    (root / "ImageSets/Main/val.txt").write_text("\n".join(names[n_train:]) + "\n")
    return {"type": "voc", "root": str(root), "classes": list(CLASSES), "image_size": [48, 64]}


def write_tiny_coco(
    root: Path, n_train: int = 4, n_val: int = 2, *, size: tuple[int, int] = (64, 48)
) -> dict[str, Any]:
    """A COCO folder with images of `size` (width, height). Returns the `data` part of a job spec for it."""
    for split, numbers in (("train", range(n_train)), ("val", range(n_train, n_train + n_val))):
        (root / split).mkdir(parents=True, exist_ok=True)
        content: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
        for n in numbers:
            image, objects = scene(n, *size)
            Image.fromarray(image).save(root / split / f"{n}.png")
            content["images"].append({"id": 100 + n, "file_name": f"{n}.png", "width": size[0], "height": size[1]})
            for label, (x1, y1, x2, y2) in objects:
                content["annotations"].append(
                    {
                        "id": 1000 + len(content["annotations"]),
                        "image_id": 100 + n,
                        "category_id": COCO_IDS[CLASSES.index(label)],
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "area": (x2 - x1) * (y2 - y1),
                        "iscrowd": 0,
                    }
                )
        content["categories"] = [{"id": id, "name": name} for id, name in zip(COCO_IDS, CLASSES, strict=True)]
        write_coco_json(root / f"{split}.json", content)
    return {
        "type": "coco",
        "root": str(root),
        "train_annotations": "train.json",
        "train_folder": "train",
        "val_annotations": "val.json",
        "val_folder": "val",
        "image_size": [48, 64],
    }


def write_coco_json(path: Path, content: dict[str, Any]) -> None:
    """One entry on each line, so that the line of a fault can be told."""
    lists = [
        f'"{key}": [\n' + ",\n".join(json.dumps(entry) for entry in value) + "\n]" for key, value in content.items()
    ]
    path.write_text("{" + ",\n".join(lists) + "}\n")
