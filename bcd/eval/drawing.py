"""Pictures of detections: ground truth and several detectors side by side on the same image, with Pillow alone.

What a box means is told three times, so that it can be seen in print and without telling colours apart: a right
detection has a solid line and the letters TP, a false positive a dashed line and FP, a missed object a dotted line and
FN (drawn where the object is).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from bcd.data.records import Dataset
from bcd.detections.disagreement import View

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Line = Literal["solid", "dashed", "dotted"]
Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]

# Okabe and Ito's palette, whose colours stay apart for people who see fewer of them; the purple darker, for white text.
BLUE, ORANGE, PURPLE, GREY, GREEN = (0, 114, 178), (200, 80, 0), (150, 45, 125), (110, 110, 110), (0, 130, 95)
STYLES: dict[str, tuple[Line, Colour]] = {
    "GT": ("solid", GREEN),
    "ignored": ("dotted", GREY),
    "TP": ("solid", BLUE),
    "FP": ("dashed", ORANGE),
    "FN": ("dotted", PURPLE),
}
LEGEND = "solid TP: right    dashed FP: false positive    dotted FN: missed object"

SHORT_SIDE, LONG_SIDE = 360, 900  # pixels of a panel: small images are enlarged, large ones shrunk
NARROWEST = 220  # pixels of a panel, so that titles stay readable above narrow images
_GAP, _MARGIN, _TEXT = 8, 3, 13
_NEAR = 4  # lines of text; a label further from its box would seem to belong to another
_PAPER, _INK = (255, 255, 255), (20, 20, 20)
_PATTERN = {"solid": (1, 0), "dashed": (9, 5), "dotted": (3, 4)}  # pixels drawn and left out


@dataclass(frozen=True)
class Mark:
    """One box to draw, in pixels of the original image. `kind` is a key of `STYLES`."""

    kind: str
    box: Box
    label: str


@dataclass(frozen=True)
class Panel:
    title: str
    marks: tuple[Mark, ...]


def truth_panel(dataset: Dataset, image: int) -> Panel:
    """The objects of an image, ignored ones dotted."""
    record = dataset.records[image]
    marks = [
        Mark("ignored" if ignored else "GT", _box(box), dataset.class_names[label])
        for box, label, ignored in zip(record.boxes, record.labels, record.ignore, strict=True)
    ]
    count = int((~record.ignore).sum())
    return Panel(f"ground truth: {count} object{'' if count == 1 else 's'}", tuple(marks))


def view_panel(dataset: Dataset, view: View, image: int) -> Panel:
    """What a detector says about an image at its score threshold: right, wrong and missed."""
    flat, names = view.flat, dataset.class_names
    here = np.flatnonzero((flat.image_D == image) & (flat.score_D >= view.score) & ~view.matches.ignored_D)
    missed = np.flatnonzero((flat.image_G == image) & ~flat.ignore_G & (view.matches.det_G < 0))
    marks = [Mark("FN", _box(flat.box_G4[g]), names[flat.label_G[g]]) for g in missed]
    # The surest come last, so that they lie on top.
    for d in here[::-1]:
        kind = "TP" if view.matches.right_D[d] else "FP"
        marks.append(Mark(kind, _box(flat.box_D4[d]), f"{names[flat.label_D[d]]} {flat.score_D[d]:.2f}"))
    right = int(view.matches.right_D[here].sum())
    title = f"{view.name} (score {view.score:.2f} or more): {right} TP, {len(here) - right} FP, {len(missed)} FN"
    return Panel(title, tuple(marks))


def draw_panels(pixels: NDArray[np.uint8], panels: Sequence[Panel], *, notes: Sequence[str] = ()) -> Image.Image:
    """The image (H, W, 3) uint8 RGB once for each panel, side by side, with titles above and legend and notes below."""
    if not panels:
        raise ValueError("there is nothing to draw: give at least one panel")
    height, width = pixels.shape[:2]
    zoom = _zoom(height, width)
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    base = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR if zoom > 1 else Image.Resampling.LANCZOS)
    font = _font()
    column = max(size[0], NARROWEST)
    lines = [_wrapped(panel.title, column, font) for panel in panels]
    step = _line_height(font)
    head = max(map(len, lines)) * step + _GAP
    whole_width = len(panels) * (column + _GAP) + _GAP
    foot = [line for text in (LEGEND, *notes) for line in _wrapped(text, whole_width - 2 * _GAP, font)]
    sheet = Image.new("RGB", (whole_width, head + size[1] + 2 * _GAP + len(foot) * step), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, (panel, title) in enumerate(zip(panels, lines, strict=True)):
        left = _GAP + i * (column + _GAP)
        for n, line in enumerate(title):
            draw.text((left, _GAP // 2 + n * step), line, fill=_INK, font=font)
        picture = base.copy()
        _draw_marks(picture, panel.marks, zoom, font)
        sheet.paste(picture, (left, head))
    for n, line in enumerate(foot):
        draw.text((_GAP, head + size[1] + _GAP + n * step), line, fill=_INK, font=font)
    return sheet


def draw_comparison(dataset: Dataset, image: int, views: Sequence[View], *, notes: Sequence[str] = ()) -> Image.Image:
    """Ground truth and each detector side by side on one image of the data set.

    Raises `DataError` when the image cannot be read.
    """
    panels = [truth_panel(dataset, image), *(view_panel(dataset, view, image) for view in views)]
    return draw_panels(dataset.load_image(image), panels, notes=notes)


def save_png(picture: Image.Image, path: Path) -> Path:
    """Write a PNG; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    picture.save(aside, format="PNG")
    aside.replace(path)
    return path


def _zoom(height: int, width: int) -> float:
    short, long = min(height, width), max(height, width)
    zoom = max(1.0, SHORT_SIDE / short)
    return min(zoom, LONG_SIDE / long)


def _draw_marks(picture: Image.Image, marks: Sequence[Mark], zoom: float, font: Font) -> None:
    """Boxes first, then labels, so that no line runs through a word. Labels never cover each other: where it is too
    crowded only the letters are written, or nothing, and the line style has to do."""
    draw = ImageDraw.Draw(picture)
    for mark in marks:
        line, colour = STYLES[mark.kind]
        _draw_box(draw, _scaled(mark.box, zoom), line, colour, picture.size)
    taken: list[Box] = []
    for mark in reversed(marks):  # the surest first: they get the best places
        for text in (f"{mark.kind} {mark.label}", mark.kind):
            box = _place(_scaled(mark.box, zoom), _text_size(text, font), picture.size, taken)
            if box is not None:
                taken.append(box)
                draw.rectangle(box, fill=STYLES[mark.kind][1])
                draw.text((box[0] + _MARGIN, box[1] + 1), text, fill=_PAPER, font=font)
                break


def _draw_box(draw: ImageDraw.ImageDraw, box: Box, line: Line, colour: Colour, size: tuple[int, int]) -> None:
    """A frame of 2 pixels on a light one of 4, so that it shows on every background."""
    x1, y1 = (min(max(box[i], 1), size[i] - 2) for i in (0, 1))
    x2, y2 = (min(max(box[i + 2], 1), size[i] - 2) for i in (0, 1))
    sides = [((x1, y1), (x2, y1)), ((x2, y1), (x2, y2)), ((x2, y2), (x1, y2)), ((x1, y2), (x1, y1))]
    on, off = _PATTERN[line]
    for width, fill in ((4, _PAPER), (2, colour)):
        for (ax, ay), (bx, by) in sides:
            length = max(abs(bx - ax), abs(by - ay))
            if not off or length <= on:
                draw.line(((ax, ay), (bx, by)), fill=fill, width=width)
                continue
            at = 0.0
            while at < length:
                end = min(at + on, length)
                points = [(ax + (bx - ax) * t / length, ay + (by - ay) * t / length) for t in (at, end)]
                draw.line(points, fill=fill, width=width)
                at += on + off


def _place(box: Box, text: tuple[int, int], size: tuple[int, int], taken: Sequence[Box]) -> Box | None:
    """Where a label goes: above the box, inside it, below it, or a few lines on; None where all of that is taken."""
    width, height = text[0] + 2 * _MARGIN, text[1] + _MARGIN
    left = min(max(box[0], 0), max(0, size[0] - width))
    wishes = [box[1] - height, box[1] + 2, box[3] + 2]
    for n in range(1, _NEAR):
        wishes += [box[1] + 2 + n * height, box[3] + 2 + n * height, box[1] - (n + 1) * height]
    for wish in wishes:
        top = min(max(wish, 0), max(0, size[1] - height))
        place = (left, top, left + width, top + height)
        if not any(_touch(place, other) for other in taken):
            return place
    return None


def _touch(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _scaled(box: Box, zoom: float) -> Box:
    return (box[0] * zoom, box[1] * zoom, box[2] * zoom, box[3] * zoom)


def _box(values: NDArray[np.floating]) -> Box:
    x1, y1, x2, y2 = (float(v) for v in values)
    return (x1, y1, x2, y2)


def _font() -> Font:
    """Pillow's own font: the same picture on every machine."""
    try:
        return ImageFont.load_default(_TEXT)
    except (ImportError, OSError):  # a Pillow without FreeType has one small bitmap font
        return ImageFont.load_default()


def _text_size(text: str, font: Font) -> tuple[int, int]:
    left, _, right, _ = font.getbbox(text)
    return int(right - left) + 1, _line_height(font) - 2


def _line_height(font: Font) -> int:
    return int(font.getbbox("Ágjy|")[3]) + 4


def _wrapped(text: str, width: int, font: Font) -> list[str]:
    """The text in lines that fit into `width` pixels; a longer word stays whole."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and _text_size(f"{lines[-1]} {word}", font)[0] <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
