"""Curves, thresholds, confusion and calibration against numbers worked out by hand, and what must not change them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bcd.detections.flat import match
from bcd.detections.precision import average_precision, best_threshold, mean_defined
from bcd.eval.calibration import calibrate
from bcd.eval.coco import coco_table, evaluate
from bcd.eval.confusion import confusion
from bcd.eval.flatten import flatten
from bcd.types import Detections
from tests.helpers.detections import NOTHING, dataset, detect, random_case, record

A, B, FAR = [0, 0, 40, 40], [100, 100, 140, 140], [300, 300, 340, 340]
HALF_A = [0, 0, 20, 40]  # IoU .5 with A
MOST_OF_A = [0, 0, 40, 32]  # IoU .8 with A


def shuffled(found: list[Detections], seed: int = 0) -> list[Detections]:
    random = np.random.default_rng(seed)
    orders = [random.permutation(len(one.scores_N)) for one in found]
    return [
        Detections(one.boxes_N4[order], one.scores_N[order], one.labels_N[order])
        for one, order in zip(found, orders, strict=True)
    ]


# -------------------------------------------------------------------------------------------------- matching


def test_the_surer_detection_takes_the_object_and_the_other_one_the_rest() -> None:
    data = dataset([record([A, B], [0, 0])])
    flat = flatten(data, [detect([MOST_OF_A, A, B, FAR], [0.9, 0.8, 0.7, 0.6], [0, 0, 0, 0])])
    found = match(flat)
    assert found.truth_D.tolist() == [0, -1, 1, -1]
    assert found.det_G.tolist() == [0, 2]
    assert found.wrong_D.tolist() == [False, True, False, True]


def test_a_detection_takes_the_nearest_object_of_its_class() -> None:
    near, other = [0, 0, 40, 36], [0, 0, 40, 40]
    data = dataset([record([other, near, near], [0, 0, 1])])
    found = match(flatten(data, [detect([near], [0.9], [0])]))
    assert found.truth_D.tolist() == [1]


@pytest.mark.parametrize(("iou", "right"), [(0.5, True), (0.500001, False)])
def test_an_iou_that_equals_the_threshold_is_enough(iou: float, right: bool) -> None:
    flat = flatten(dataset([record([A], [0])]), [detect([HALF_A], [0.9], [0])])
    assert match(flat, iou).right_D.tolist() == [right]


def test_detections_on_ignored_objects_are_neither_right_nor_wrong() -> None:
    data = dataset([record([A, FAR], [0, 0], [True, False])])
    found = match(flatten(data, [detect([HALF_A, HALF_A, FAR], [0.9, 0.8, 0.7], [0, 1, 0])]))
    assert found.ignored_D.tolist() == [True, False, False]  # the share of the detection counts; another class does not
    assert found.right_D.tolist() == [False, False, True]


def test_only_the_best_detections_of_each_class_and_image_count() -> None:
    found = detect([A, B, FAR, A, B], [0.9, 0.8, 0.7, 0.6, 0.5], [0, 0, 0, 1, 1])
    flat = flatten(dataset([record([A], [0]), record([A], [0])]), [found, found], max_detections=2)
    assert flat.score_D.round(1).tolist() == [0.9, 0.9, 0.8, 0.8, 0.6, 0.6, 0.5, 0.5]
    assert flat.slot_D.tolist() == [0, 0, 1, 1, 3, 3, 4, 4]


def test_pairs_made_in_parts_are_the_pairs_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data, found = random_case(3, 12, 40)
    whole = flatten(data, found).pairs
    monkeypatch.setattr("bcd.detections.flat._PAIRS_AT_ONCE", 7)
    parts = flatten(data, found).pairs
    assert len(whole.det_P) > 100
    for name in ("det_P", "truth_P", "iou_P"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))


@pytest.mark.parametrize("seed", range(3))
def test_the_order_in_which_detections_are_given_does_not_matter_even_with_equal_scores(seed: int) -> None:
    data, found = random_case(seed, 10, 30, levels=4)
    straight, turned = flatten(data, found), flatten(data, shuffled(found))
    for name in ("image_D", "box_D4", "score_D", "label_D"):
        assert np.array_equal(getattr(straight, name), getattr(turned, name))


def test_equal_boxes_with_equal_scores_are_ordered_by_class() -> None:
    data = dataset([record([A], [0])])
    for labels in ([2, 0, 1], [0, 1, 2], [1, 2, 0]):
        assert flatten(data, [detect([A, A, A], [0.5, 0.5, 0.5], labels)]).label_D.tolist() == [0, 1, 2]


# ------------------------------------------------------------------------------------------------------- AP


def test_a_curve_and_its_ap_by_hand() -> None:
    # Right, wrong, right on two objects: precision 1 up to recall 1/2, then 2/3: 51 and 50 of the 101 recalls.
    data = dataset([record([A, B], [1, 1])])
    found = [detect([A, FAR, B], [0.9, 0.8, 0.7], [1, 1, 1])]
    table = coco_table(data, found)
    curve = table.curves()["0.50"]
    assert curve == pytest.approx([1.0] * 51 + [0.6667] * 50, abs=1e-9)
    expected = 100 * (51 + 50 * 2 / 3) / 101
    assert table.average(1)["AP50"] == pytest.approx(expected)
    flat = flatten(data, found)
    assert average_precision(match(flat).right_D, flat.label_D, flat.objects_C)[1] == pytest.approx(expected)
    assert table.curves(0) == {"0.50": None, "0.75": None, "0.50:0.95": None}
    assert table.average(0)["AP"] is None


def test_the_curve_over_all_ious_is_the_mean_of_ten() -> None:
    # IoU .8: right at .50 to .80, seven of ten thresholds.
    table = coco_table(dataset([record([A], [0])]), [detect([MOST_OF_A], [0.9], [0])])
    assert table.curves()["0.50:0.95"] == pytest.approx([0.7] * 101)
    assert table.curves()["0.75"] == pytest.approx([1.0] * 101)
    assert table.average()["AP"] == pytest.approx(70)


def test_each_class_has_its_ap_by_size() -> None:
    small, large = [0, 0, 20, 20], [100, 100, 300, 300]
    data = dataset([record([small, large, large], [0, 0, 1])])
    table = coco_table(data, [detect([large, large], [0.9, 0.8], [0, 1])])
    one = table.average(0)
    assert (one["APs"], one["APm"]) == (0, None)
    assert one["APl"] == pytest.approx(100)
    assert table.average(1)["APs"] is None
    assert table.average()["APl"] == pytest.approx(100)


@pytest.mark.parametrize("seed", range(4))
def test_the_mean_of_every_curve_is_its_ap(seed: int) -> None:
    data, found = random_case(seed, 20, 30)
    table = coco_table(data, found)
    for classes in (slice(None), 0, 1, 2):
        curves, ap = table.curves(classes), table.average(classes)
        for name, key in (("0.50", "AP50"), ("0.75", "AP75"), ("0.50:0.95", "AP")):
            assert np.mean(curves[name]) * 100 == pytest.approx(ap[key], abs=6e-3)  # curves are rounded


@pytest.mark.parametrize("seed", range(4))
def test_our_own_ap_at_one_iou_is_cocos(seed: int) -> None:
    data, found = random_case(seed, 25, 40)
    flat = flatten(data, found)
    for iou, key in ((0.5, "AP50"), (0.75, "AP75")):
        matches = match(flat, iou)
        used = ~matches.ignored_D
        ap_C = average_precision(matches.right_D[used], flat.label_D[used], flat.objects_C)
        assert mean_defined(ap_C) == pytest.approx(evaluate(data, found)[key], abs=1e-9)


# ------------------------------------------------------------------------------------------------ thresholds


def test_the_best_threshold_by_hand() -> None:
    # F1 by threshold with 3 objects: .9: 2/4, .8: 2/5, .7: 4/6, .6: 4/7.
    data = dataset([record([A, B, FAR], [0, 0, 0])])
    miss = [200, 0, 240, 40]
    flat = flatten(data, [detect([A, miss, B, miss], [0.9, 0.8, 0.7, 0.6], [0, 0, 0, 0])])
    best = best_threshold(flat, match(flat))
    assert best is not None
    assert best.score == pytest.approx(0.7)
    assert (best.f1, best.precision, best.recall) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert (best.right, best.wrong, best.missed) == (2, 1, 1)
    assert best_threshold(flat, match(flat), label=1) is None


def test_a_threshold_keeps_all_detections_of_equal_score() -> None:
    # Cutting between the two at .8 would give a perfect F1, but no threshold can.
    flat = flatten(dataset([record([A], [0])]), [detect([A, FAR], [0.8, 0.8], [0, 0])])
    best = best_threshold(flat, match(flat))
    assert best is not None
    assert (best.right, best.wrong) == (1, 1)


@pytest.mark.parametrize("seed", range(3))
def test_no_other_threshold_has_a_better_f1(seed: int) -> None:
    data, found = random_case(seed, 15, 20, levels=12)
    flat = flatten(data, found)
    best = best_threshold(flat, match(flat))
    assert best is not None
    objects = flat.objects_C.sum()
    for score in np.unique(flat.score_D):
        again = match(flat, usable_D=flat.score_D >= score)
        right, wrong = again.right_D.sum(), (again.wrong_D & (flat.score_D >= score)).sum()
        assert 2 * right / (right + wrong + objects) <= best.f1 + 1e-12
        if score == best.score:
            assert (right, wrong, objects - right) == (best.right, best.wrong, best.missed)


# ------------------------------------------------------------------------------------------------- confusion


def test_the_confusion_matrix_by_hand() -> None:
    data = dataset([record([A, B, FAR], [0, 1, 2]), record([A], [1])])
    alone = [200, 0, 240, 40]
    first = detect([A, B, alone, FAR], [0.9, 0.8, 0.7, 0.2], [0, 2, 1, 2])  # the last is below the threshold
    found = confusion(flatten(data, [first, NOTHING]), score=0.5)
    expected = np.zeros((4, 4), int)
    expected[0, 0] = 1  # A found
    expected[1, 2] = 1  # B taken for c
    expected[3, 1] = 1  # nothing taken for b
    expected[2, 3] = 1  # FAR missed: its detection was not sure enough
    expected[1, 3] = 1  # A of the second image missed
    assert found.counts_KK.tolist() == expected.tolist()


def test_a_surer_detection_of_another_class_does_not_take_the_object_from_the_right_one() -> None:
    flat = flatten(dataset([record([A], [0])]), [detect([A, A], [0.9, 0.6], [1, 0])])
    counts = confusion(flat, score=0.5).counts_KK
    assert counts[0, 0] == 1
    assert counts[3, 1] == 1
    assert counts.sum() == 2


@pytest.mark.parametrize("score", [0.0, 0.4, 0.9, 2.0])
def test_rows_sum_to_objects_and_columns_to_detections(score: float) -> None:
    data, found = random_case(1, 20, 30)
    flat = flatten(data, found)
    usable = flat.score_D >= score
    matches = match(flat, usable_D=usable)
    counts = confusion(flat, score=score).counts_KK
    assert counts[:-1].sum(1).tolist() == flat.objects_C.tolist()
    counted = usable & ~matches.ignored_D
    assert counts[:, :-1].sum(0).tolist() == np.bincount(flat.label_D[counted], minlength=3).tolist()
    assert np.trace(counts) == matches.right_D.sum()


# ----------------------------------------------------------------------------------------------- calibration


def test_the_calibration_error_by_hand() -> None:
    score = np.array([0.95, 0.91, 0.55, 0.15, 1.0])
    right = np.array([True, False, True, False, True])
    label = np.array([0, 0, 1, 1, 0])
    found = calibrate(score, right, label, 3)
    # [.9, 1]: mean (.95 + .91 + 1) / 3, precision 2/3, 3 of 5; [.5, .6): .55 and 1; [.1, .2): .15 and 0.
    gap = 2.86 / 3 - 2 / 3
    assert found.ece == pytest.approx(0.6 * gap + 0.2 * 0.45 + 0.2 * 0.15)
    assert found.worst == pytest.approx(0.45)
    assert found.bias == pytest.approx((3.56 - 3) / 5)
    assert [one.count for one in found.bins] == [0, 1, 0, 0, 0, 1, 0, 0, 0, 3]
    assert (found.bins[9].score, found.bins[9].precision) == pytest.approx((2.86 / 3, 2 / 3))
    assert (found.bins[0].score, found.bins[0].precision) == (None, None)
    assert found.ece_per_class == pytest.approx((gap, (0.45 + 0.15) / 2, None))


def test_scores_that_say_how_often_they_are_right_have_no_error() -> None:
    score = np.repeat([0.25, 0.75], 4)
    right = np.array([1, 0, 0, 0, 1, 1, 1, 0], bool)
    found = calibrate(score, right, np.zeros(8, int), 1)
    assert found.ece == pytest.approx(0)
    assert found.bias == pytest.approx(0)


def test_without_detections_nothing_is_defined() -> None:
    none = np.zeros(0)
    found = calibrate(none, none.astype(bool), none.astype(int), 2)
    assert (found.ece, found.worst, found.bias, found.ece_per_class) == (None, None, None, (None, None))


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_images_changes_no_figure(seed: int) -> None:
    data, found = random_case(seed, 14, 25)
    order = np.random.default_rng(9).permutation(14)
    turned = replace_order(data, order), [found[i] for i in order]
    one, other = flatten(data, found), flatten(*turned)
    assert np.array_equal(confusion(one, score=0.3).counts_KK, confusion(other, score=0.3).counts_KK)
    assert best_threshold(one, match(one)) == best_threshold(other, match(other))
    assert np.array_equal(match(one).right_D, match(other).right_D)


def replace_order(data, order):
    return dataset([replace(data.records[i]) for i in order])
