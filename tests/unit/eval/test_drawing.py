"""Drawings: what is drawn where, that kinds are told apart by line as well as by colour, and that files are PNGs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bcd.data.records import Dataset
from bcd.detections.disagreement import View
from bcd.eval.drawing import (
    LONG_SIDE,
    NARROWEST,
    SHORT_SIDE,
    STYLES,
    Mark,
    Panel,
    _place,
    draw_comparison,
    draw_panels,
    save_png,
    truth_panel,
    view_panel,
)  # fmt: skip
from bcd.eval.flatten import flatten
from tests.helpers.detections import NOTHING, detect, record

GAP = 8


class Pictures(Dataset):
    """A data set whose images are plain grey."""

    def load_image(self, i: int) -> np.ndarray:
        return grey(self.records[i].height, self.records[i].width)


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def drawn(marks: list[Mark], height: int = 360, width: int = 360) -> np.ndarray:
    """The picture of one panel without its margins, at the image's own size."""
    plain, sheet = (np.asarray(draw_panels(grey(height, width), [Panel("t", m)])) for m in ((), tuple(marks)))
    top = int((plain[:, GAP + width // 2] == 128).all(-1).argmax())
    return sheet[top : top + height, GAP : GAP + width]


def along_the_left_side(kind: str) -> np.ndarray:
    """Where the left side of a box is drawn in the kind's colour."""
    picture = drawn([Mark(kind, (100, 60, 300, 340), "x")])
    return (picture[150:330, 98:103] == STYLES[kind][1]).all(-1).any(1)


@pytest.mark.parametrize(("kind", "share"), [("TP", 1.0), ("GT", 1.0), ("FP", 0.7), ("FN", 0.55), ("ignored", 0.55)])
def test_each_line_style_covers_its_share_of_a_side(kind: str, share: float) -> None:
    assert along_the_left_side(kind).mean() == pytest.approx(share, abs=0.1)


def test_dashes_are_longer_than_dots() -> None:
    def longest(on: np.ndarray) -> int:
        return max(len(run) for run in "".join("x" if v else " " for v in on).split())

    assert longest(along_the_left_side("TP")) == 180
    assert 180 > longest(along_the_left_side("FP")) > 1.5 * longest(along_the_left_side("FN"))


def test_no_two_kinds_look_alike_without_colour() -> None:
    looks = {(style[0], kind) for kind, style in STYLES.items() if kind in ("TP", "FP", "FN")}
    assert {line for line, _ in looks} == {"solid", "dashed", "dotted"}
    assert len({colour for _, colour in STYLES.values()}) == len(STYLES)
    for _, colour in STYLES.values():  # white letters on it are readable: WCAG's contrast for normal text
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in colour)]
        assert 1.05 / (np.dot([0.2126, 0.7152, 0.0722], linear) + 0.05) >= 4.4


def test_a_panel_says_what_is_right_wrong_and_missed() -> None:
    a, b, far = [0, 0, 40, 40], [100, 100, 140, 140], [300, 300, 340, 340]
    data = Pictures(("cat", "dog"), [record([a, b, far], [0, 1, 0], [False, False, True])], content_hash="")
    found = detect([a, [200, 0, 240, 40], b, [300, 300, 330, 330]], [0.9, 0.8, 0.3, 0.9], [0, 1, 1, 0])
    panel = view_panel(data, View.of("student", flatten(data, [found]), score=0.5), 0)
    assert panel.title == "student (score 0.50 or more): 1 TP, 1 FP, 1 FN"
    assert [(mark.kind, mark.label) for mark in panel.marks] == [("FN", "dog"), ("FP", "dog 0.80"), ("TP", "cat 0.90")]
    assert panel.marks[2].box == (0, 0, 40, 40)
    truth = truth_panel(data, 0)
    assert truth.title == "ground truth: 2 objects"
    assert [(mark.kind, mark.label) for mark in truth.marks] == [("GT", "cat"), ("GT", "dog"), ("ignored", "cat")]


def test_panels_stand_side_by_side_at_one_size_and_the_image_file_is_a_png(tmp_path: Path) -> None:
    data = Pictures(("cat",), [record([[10, 10, 60, 60]], [0])], content_hash="")
    views = [View.of(name, flatten(data, [NOTHING]), score=0.5) for name in ("teacher", "student")]
    picture = draw_comparison(data, 0, views, notes=["why this one"])
    assert picture.width == 3 * (400 + GAP) + GAP
    path = save_png(picture, tmp_path / "new" / "p.png")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert [p.name for p in path.parent.iterdir()] == ["p.png"]
    with Image.open(path) as again:
        assert (again.size, again.mode) == (picture.size, "RGB")
    again = draw_comparison(data, 0, views, notes=["why this one"])
    assert np.array_equal(np.asarray(again), np.asarray(picture))


@pytest.mark.parametrize(
    ("size", "panel"),
    [
        ((48, 64), (SHORT_SIDE, 480)),
        ((800, 1800), (400, LONG_SIDE)),
        ((500, 500), (500, 500)),
        ((1, 4000), (1, LONG_SIDE)),
        ((4000, 1), (LONG_SIDE, 1)),
    ],
)
def test_small_images_are_enlarged_and_large_ones_shrunk(size: tuple[int, int], panel: tuple[int, int]) -> None:
    mark = Mark("FP", (0, 0, size[1], size[0]), "x")
    picture = draw_panels(grey(*size), [Panel("a title", (mark,))])
    assert picture.width == max(panel[1], NARROWEST) + 2 * GAP
    assert panel[0] < picture.height < panel[0] + 200


def test_boxes_at_and_beyond_the_edge_stay_in_the_picture() -> None:
    picture = drawn([Mark("TP", (-50, -50, 500, 500), "x")])
    for side in (picture[:, :3], picture[:, -3:], picture[:3], picture[-3:]):
        assert (side == STYLES["TP"][1]).all(-1).any()


def test_labels_never_cover_each_other_and_stay_in_the_picture_near_their_box() -> None:
    random = np.random.default_rng(0)
    taken: list[tuple[float, float, float, float]] = []
    left_out = 0
    for x, y in random.uniform(0, 300, (60, 2)):
        place = _place((x, y, x + 50, y + 50), (70, 14), (360, 360), taken)
        if place is None:
            left_out += 1
            continue
        assert place[0] >= 0 <= place[1]
        assert place[2] <= 360 >= place[3]
        assert -100 < place[1] - y < 150
        assert not any(
            place[0] < other[2] and other[0] < place[2] and place[1] < other[3] and other[1] < place[3]
            for other in taken
        )
        taken.append(place)
    assert len(taken) > 30
    assert left_out > 0


def test_each_label_has_its_own_place() -> None:
    marks = [Mark("TP", (20, 100, 220, 220), f"class {i}") for i in range(3)]
    plain, one, three = (
        int((drawn(chosen) == STYLES["TP"][1]).all(-1).sum())
        for chosen in ([Mark("TP", (20, 100, 220, 220), "")], marks[:1], marks)
    )
    assert plain < one < three
    assert three - one > 1.5 * (one - plain)


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one panel"):
        draw_panels(grey(10, 10), [])
