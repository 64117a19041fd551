"""TIDE's error types: one scene for each, gains by hand, and agreement with an independent count."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hotcoco
import numpy as np
import pytest

from bcd.data.records import Dataset
from bcd.detections.errors import TYPES, Errors, find_errors
from bcd.detections.flat import match
from bcd.eval.coco import _rows, _truth
from bcd.eval.flatten import flatten
from bcd.types import Detections
from tests.helpers.detections import NOTHING, dataset, detect, random_case, record

A, B, FAR = [0, 0, 40, 40], [100, 100, 140, 140], [300, 300, 340, 340]
THIRD = [20, 0, 60, 40]  # IoU 1/3 with A
TOUCH = [38, 0, 78, 40]  # IoU 1/39 with A


def errors_of(objects: list[tuple[Any, int]], detections: list[tuple[Any, float, int]]) -> Errors:
    data = dataset([record([box for box, _ in objects], [label for _, label in objects])])
    boxes, scores, labels = zip(*detections, strict=True) if detections else ([], [], [])
    return find_errors(flatten(data, [detect(list(boxes), list(scores), list(labels))]))


def counts(found: Errors) -> dict[str, int]:
    return {name: int(n) for name, n in zip(TYPES, found.counts_CT.sum(0), strict=True) if n}


def gains(found: Errors) -> dict[str, float | None]:
    return dict(zip(TYPES, found.gain_T, strict=True))


def test_a_right_place_with_the_wrong_class() -> None:
    found = errors_of([(A, 0)], [(A, 0.9, 1)])
    assert counts(found) == {"classification": 1}  # the object is not missed: the same correction would find it
    assert found.target_D.tolist() == [0]
    assert gains(found)["classification"] == pytest.approx(100)


def test_a_right_class_in_a_place_that_is_too_far_off() -> None:
    found = errors_of([(A, 0)], [(THIRD, 0.9, 0)])
    assert counts(found) == {"localisation": 1}
    assert gains(found)["localisation"] == pytest.approx(100)


def test_neither_class_nor_place() -> None:
    found = errors_of([(A, 0), (B, 1)], [(THIRD, 0.9, 1), (B, 0.8, 1)])
    assert counts(found) == {"both": 1, "missed": 1}
    # Class b: wrong, right: 1/2 at every recall; without the error 1. Class a stays at 0.
    assert found.ap50 == pytest.approx(25)
    assert gains(found)["both"] == pytest.approx(25)


def test_a_second_detection_of_a_found_object() -> None:
    found = errors_of([(A, 0), (B, 0)], [(A, 0.9, 0), (A, 0.8, 0), (B, 0.7, 0)])
    assert counts(found) == {"duplicate": 1}
    expected = 100 - 100 * (51 + 50 * 2 / 3) / 101
    assert gains(found)["duplicate"] == pytest.approx(expected)
    assert found.false_positives == pytest.approx(expected)


@pytest.mark.parametrize("place", [FAR, TOUCH])
def test_a_detection_where_nothing_is(place: list[int]) -> None:
    found = errors_of([(A, 0)], [(place, 0.9, 0), (A, 0.8, 0)])
    assert counts(found) == {"background": 1}
    assert gains(found)["background"] == pytest.approx(50)


def test_an_object_that_nothing_comes_near() -> None:
    found = errors_of([(A, 0), (B, 0)], [(A, 0.9, 0)])
    assert counts(found) == {"missed": 1}
    assert found.missed_G.tolist() == [False, True]
    expected = 100 - 100 * 51 / 101
    assert gains(found)["missed"] == pytest.approx(expected)
    assert found.false_negatives == pytest.approx(expected)


def test_a_class_that_is_missed_altogether_stays_in_the_mean() -> None:
    found = errors_of([(A, 0), (B, 1)], [(A, 0.9, 0)])
    assert (found.ap50, gains(found)["missed"], found.false_negatives) == (pytest.approx(50), 0, 0)


def test_the_own_class_goes_before_another_one() -> None:
    # IoU 1/3 with an object of its class, 1 with one of another: a wrong place, as the paper's toolbox has it.
    assert counts(errors_of([(A, 0), (THIRD, 1)], [(THIRD, 0.9, 0)])) == {"localisation": 1, "missed": 1}


def test_a_second_detection_that_also_lies_on_an_object_of_another_class_has_the_wrong_class() -> None:
    nearly_a = [0, 0, 40, 36]
    objects, detections = [(A, 0), (nearly_a, 1)], [(A, 0.9, 0), (A, 0.8, 0)]
    assert counts(errors_of(objects, detections)) == {"classification": 1}
    data = dataset([record([A, nearly_a], [0, 1])])
    theirs = other_tide(data, [detect([A, A], [0.9, 0.8], [0, 0])])["counts"]
    assert {key: n for key, n in theirs.items() if n} == {"Cls": 1}


def test_of_several_corrections_of_one_object_only_the_best_counts() -> None:
    found = errors_of([(A, 0), (B, 0)], [(THIRD, 0.9, 0), (THIRD, 0.8, 0), (B, 0.7, 0)])
    assert counts(found) == {"localisation": 2}
    assert gains(found)["localisation"] == pytest.approx(100 - found.ap50)


def test_an_error_at_an_object_that_is_found_anyway_only_vanishes() -> None:
    found = errors_of([(A, 0), (B, 1)], [(A, 0.9, 1), (A, 0.8, 0), (B, 0.7, 1)])
    assert counts(found) == {"classification": 1}
    # Class b rises from 1/2 to 1, class a has its object already.
    assert gains(found)["classification"] == pytest.approx(25)


def test_detections_on_ignored_objects_are_no_errors() -> None:
    data = dataset([record([A, B], [0, 0], [True, False])])
    found = find_errors(flatten(data, [detect([A, B], [0.9, 0.8], [0, 0])]))
    assert counts(found) == {}
    assert found.ap50 == pytest.approx(100)
    assert set(found.gain_T) == {0.0}


def test_every_wrong_detection_has_one_type_and_every_lost_object_one_reason() -> None:
    data, detections = random_case(2, 30, 30)
    flat = flatten(data, detections)
    matches = match(flat)
    found = find_errors(flat, matches)
    assert np.array_equal(found.type_D >= 0, matches.wrong_D)
    assert found.counts_CT[:, :-1].sum() == matches.wrong_D.sum()
    lost = ~flat.ignore_G & (matches.det_G < 0)
    assert not (found.missed_G & ~lost).any()
    assert set(np.flatnonzero(lost & ~found.missed_G)) <= set(found.target_D)


def test_nothing_at_all() -> None:
    empty = find_errors(flatten(dataset([record([], [])]), [NOTHING]))
    assert counts(empty) == {}
    assert empty.ap50 is None
    assert set(empty.gain_T) == {None}
    silent = errors_of([(A, 0)], [])
    assert counts(silent) == {"missed": 1}
    assert silent.ap50 == 0


def test_another_iou_is_refused() -> None:
    flat = flatten(dataset([record([A], [0])]), [NOTHING])
    with pytest.raises(ValueError, match=r"defined at IoU 0\.5, not 0\.75"):
        find_errors(flat, match(flat, 0.75))


@pytest.mark.parametrize("seed", range(5))
def test_counts_and_gains_are_those_of_another_implementation(seed: int) -> None:
    data, detections = random_case(seed, 30, 30)
    data = dataset([replace(r, ignore=np.zeros_like(r.ignore)) for r in data.records])  # it counts crowds otherwise
    theirs, ours = other_tide(data, detections), find_errors(flatten(data, detections))
    short = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")
    assert ours.counts_CT.sum(0).tolist() == [theirs["counts"][key] for key in short]
    assert ours.ap50 == pytest.approx(100 * theirs["ap_base"])
    assert ours.gain_T == pytest.approx([100 * theirs["delta_ap"][key] for key in short], abs=1e-9)
    special = [100 * theirs["delta_ap"][key] for key in ("FP", "FN")]
    assert [ours.false_positives, ours.false_negatives] == pytest.approx(special)
    assert min(ours.counts_CT.sum(0)) > 5


def other_tide(data: Dataset, detections: list[Detections]) -> dict[str, Any]:
    truth = _truth(data)
    run = hotcoco.COCOeval(truth, truth.load_res(_rows(data, detections)), "bbox")
    run.params.max_dets = [100]
    run.evaluate()
    found: dict[str, Any] = run.tide_errors()
    return found
