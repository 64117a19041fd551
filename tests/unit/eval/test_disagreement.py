"""Which images show a difference between two detectors, in which order, and for what reasons."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bcd.detections.disagreement import KINDS, View, rank_disagreements
from bcd.eval.flatten import flatten, truth_of
from bcd.types import Detections
from tests.helpers.detections import NOTHING, dataset, detect, random_case, record

A, B, FAR, FURTHER = [0, 0, 40, 40], [100, 100, 140, 140], [300, 300, 340, 340], [300, 0, 340, 40]


def scene():
    """Image 0: only the teacher finds B. 1: only the student finds A. 2: both miss A and see the same ghost. 3: both
    right. 4: the student alone sees a ghost. 5: empty."""
    records = [
        record([A, B], [0, 1]), record([A], [0]), record([A], [2]), record([B], [1]), record([B], [1]), record([], []),
    ]  # fmt: skip
    data = dataset([replace(one, id=100 + i, file_name=f"{i}.jpg") for i, one in enumerate(records)])
    teacher = [
        detect([A, B], [0.9, 0.8], [0, 1]), NOTHING, detect([FAR], [0.7], [1]), detect([B], [0.9], [1]),
        detect([B, FAR], [0.9, 0.2], [1, 1]), NOTHING,
    ]  # fmt: skip
    student = [
        detect([A], [0.6], [0]), detect([A], [0.55], [0]), detect([FAR], [0.5], [1]), detect([B], [0.6], [1]),
        detect([B, FURTHER], [0.9, 0.6], [1, 2]), NOTHING,
    ]  # fmt: skip
    return data, teacher, student


def ranked(data, teacher: list[Detections], student: list[Detections], **options):
    views = [
        View.of(name, flatten(data, found), score=0.4) for name, found in (("teacher", teacher), ("student", student))
    ]
    return rank_disagreements(truth_of(data), *views, **options)


def test_each_kind_holds_its_images_with_score_and_reasons() -> None:
    found = ranked(*scene())
    assert tuple(found) == KINDS
    told = {kind: [(one.image, one.score, one.reasons) for one in ones] for kind, ones in found.items()}
    assert told["first right"] == [
        (0, pytest.approx(0.8), ("teacher finds 1 object that student misses: b (0.80)",)),
        (4, pytest.approx(0.6), ("student has 1 false positive of its own: c (0.60)",)),
    ]
    assert told["second right"] == [
        (1, pytest.approx(0.55), ("student finds 1 object that teacher misses: a (0.55)",)),
    ]
    assert told["both wrong"] == [
        (
            2,
            pytest.approx(1 + 0.6),
            ("neither finds 1 object: c", "both have 1 false positive in common: b (0.70)"),
        ),
    ]
    # F1 of the images: teacher 1, 0, 0, 1, 1, 1; student 2/3, 1, 0, 1, 2/3, 1.
    assert [(image, score) for image, score, _ in told["largest gap"]] == [
        (1, pytest.approx(1)), (0, pytest.approx(1 / 3, abs=1e-6)), (4, pytest.approx(1 / 3, abs=1e-6)),
    ]  # fmt: skip
    assert told["largest gap"][0][2] == ("F1 0.00 for teacher, 1.00 for student",)
    assert found["first right"][0].file_name == "0.jpg"
    assert found["first right"][0].image_id == 100


def test_ghosts_of_other_classes_or_places_are_not_shared() -> None:
    data = dataset([record([A], [0])])
    ghost = detect([A, FAR], [0.9, 0.8], [0, 1])
    elsewhere = detect([A, FURTHER], [0.9, 0.8], [0, 1])
    another = detect([A, FAR], [0.9, 0.8], [0, 2])
    for student in (elsewhere, another):
        found = ranked(data, [ghost], [student])
        assert [len(found[kind]) for kind in KINDS] == [1, 1, 0, 0]
    same = ranked(data, [ghost], [ghost])
    assert [len(same[kind]) for kind in KINDS] == [0, 0, 1, 0]


def test_swapping_the_two_swaps_the_kinds() -> None:
    data, one = random_case(1, 15, 12)
    other = random_case(1, 15, 12)[1][::-1]
    there, back = ranked(data, one, other), ranked(data, other, one)
    key = lambda found: [(d.image_id, d.score) for d in found]  # noqa: E731
    assert key(there["first right"]) == key(back["second right"])
    assert key(there["largest gap"]) == key(back["largest gap"])
    assert len(there["first right"]) > 3


def test_identical_detectors_only_share_mistakes() -> None:
    data, found = random_case(2, 15, 12)
    same = ranked(data, found, found)
    assert [kind for kind in KINDS if same[kind]] == ["both wrong"]


def test_the_order_of_images_and_detections_does_not_matter() -> None:
    data, one = random_case(3, 16, 14)
    other = random_case(8, 16, 14)[1]
    order = np.random.default_rng(0).permutation(16)
    turn = lambda found: [  # noqa: E731
        Detections(d.boxes_N4.flip(0), d.scores_N.flip(0), d.labels_N.flip(0)) for d in (found[i] for i in order)
    ]
    straight = ranked(data, one, other)
    turned = ranked(dataset([data.records[i] for i in order]), turn(one), turn(other))
    for kind in KINDS:
        assert [(d.image_id, d.score, d.reasons) for d in straight[kind]] == [
            (d.image_id, d.score, d.reasons) for d in turned[kind]
        ]


def test_only_as_many_as_asked_for_and_many_names_are_cut_short() -> None:
    data, one = random_case(3, 16, 14)
    found = ranked(data, one, [NOTHING] * 16, top=2)
    assert [len(found[kind]) for kind in KINDS] == [2, 0 if not found["second right"] else 2, 2, 2]
    boxes = [[60 * i, 0, 60 * i + 40, 40] for i in range(6)]
    data = dataset([record(boxes, [0] * 6)])
    reason = ranked(data, [NOTHING], [NOTHING])["both wrong"][0].reasons[0]
    assert reason == "neither finds 6 objects: a, a, a, a and 2 more"


def test_other_data_is_refused() -> None:
    data, teacher, _ = scene()
    view = View.of("teacher", flatten(data, teacher), score=0.4)
    less = dataset(data.records[:2])
    with pytest.raises(ValueError, match="different data"):
        rank_disagreements(truth_of(data), view, View.of("student", flatten(less, teacher[:2]), score=0.4))
