"""Our GFL and BCKD reproduce the official code: forward, detections, assignment, losses and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bcd.methods import Step
from bcd.methods.bckd import Bckd
from bcd.models.detector import Detector
from bcd.models.gfl import GFLLoss
from bcd.models.postprocess import PostprocessOptions
from bcd.spec import BckdMethod
from bcd.types import Targets
from tests.helpers.golden import STEP, golden_arrays, golden_images, golden_model


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return golden_arrays("gfl_r18.npz")


@pytest.fixture(scope="module")
def targets(arrays: dict[str, np.ndarray]) -> Targets:
    boxes, labels = torch.zeros(2, 4, 4), torch.zeros(2, 4, dtype=torch.long)
    valid = torch.zeros(2, 4, dtype=torch.bool)
    for i in range(2):
        n = len(arrays[f"gt_boxes{i}"])
        boxes[i, :n] = torch.from_numpy(arrays[f"gt_boxes{i}"])
        labels[i, :n] = torch.from_numpy(arrays[f"gt_labels{i}"])
        valid[i, :n] = True
    return Targets(boxes, labels, valid, torch.tensor([[256, 320], [256, 320]]))


@pytest.fixture(scope="module")
def step(targets: Targets) -> dict:
    """One BCKD training step of the official configuration."""
    student: Detector = golden_model()
    student.loss = GFLLoss.bckd_release()
    teacher, images = golden_model("teacher."), golden_images()
    with torch.no_grad():
        teacher_out = teacher(images)
    out = student(images)
    out.logits_BAC.retain_grad()
    out.dist_BA4R.retain_grad()
    assigned = student.assign(out, targets)
    task = student.task_loss(out, targets, assigned)
    method = Bckd(BckdMethod(type="bckd", level_gate=True), student, teacher)
    distilled = method(Step.of(out, teacher_out, assigned, targets))
    total = sum(task.values()) + sum(distilled.values())
    total.backward()
    return {"student": student, "out": out, "assigned": assigned, "losses": {**task, **distilled}, "total": total}


def level_maps(values: torch.Tensor, out) -> list[np.ndarray]:
    """Flat sites back to one (B, width, H*W) map for each level, as the official code lays them out."""
    return [values[:, level].flatten(2).transpose(1, 2).numpy() for level in out.grid.levels]


def test_head_outputs_equal_the_official_ones(arrays, step):
    for kind, values in (("cls", step["out"].logits_BAC), ("reg", step["out"].dist_BA4R)):
        for level, found in enumerate(level_maps(values.detach(), step["out"])):
            np.testing.assert_allclose(found.ravel()[::23], arrays[f"out/{kind}{level}"], atol=5e-5, rtol=0)


def test_labels_and_box_targets_equal_the_official_ones(arrays, step):
    assigned = step["assigned"]
    np.testing.assert_array_equal(assigned.label_BA.numpy(), arrays["labels"])
    np.testing.assert_array_equal(assigned.site_weight_BA.numpy(), arrays["label_weights"])
    assert assigned.positives.item() == STEP["num_total_pos"]
    per_level = [int(assigned.positive_BA[:, level].sum()) for level in step["out"].grid.levels]
    assert per_level == STEP["pos_per_level"]
    found = assigned.box_BA4[assigned.positive_BA].numpy()
    np.testing.assert_array_equal(found, arrays["bbox_targets_pos"])


def test_losses_equal_the_official_ones(step):
    task = {"qfl": "loss_cls", "giou": "loss_bbox", "dfl": "loss_dfl"}
    names = {**task, "bckd_cls": "loss_kd", "bckd_loc": "loss_score_kd"}
    for ours, theirs in names.items():
        assert step["losses"][ours].item() == pytest.approx(STEP["log_vars"][theirs], rel=1e-5), ours
    assert step["total"].item() == pytest.approx(STEP["total"], rel=1e-5)


def test_gradients_of_the_head_maps_equal_the_official_ones(arrays, step):
    for kind, values in (("cls", step["out"].logits_BAC.grad), ("reg", step["out"].dist_BA4R.grad)):
        for level, found in enumerate(level_maps(values, step["out"])):
            expected = arrays[f"grad/{kind}{level}"]
            scale = np.abs(expected).max() or 1.0
            np.testing.assert_allclose(found.ravel()[::23], expected, rtol=1e-4, atol=1e-5 * scale)
            norm = np.linalg.norm(found.astype(np.float64))
            assert norm == pytest.approx(float(arrays[f"grad_norm/{kind}{level}"]), rel=1e-4)


def test_gradients_of_parameters_equal_the_official_ones(arrays, step):
    ours = dict(step["student"].named_parameters())
    names = {
        "bbox_head.gfl_cls.bias": "head.cls.bias",
        "bbox_head.gfl_reg.bias": "head.reg.bias",
        "bbox_head.reg_convs.3.gn.weight": "head.reg_tower.3.gn.weight",
        "bbox_head.scales.0.scale": "head.scales.0.scale",
        "backbone.layer4.1.bn2.weight": "backbone.layer4.1.bn2.weight",
    }
    for theirs, name in names.items():
        expected, found = arrays[f"param_grad/{theirs}"], ours[name].grad.numpy()
        assert np.linalg.norm(found - expected) <= 1e-3 * np.linalg.norm(expected), name
    assert ours["backbone.layer2.0.conv1.weight"].grad.norm().item() == pytest.approx(
        STEP["grad_norms"]["backbone.layer2.0.conv1.weight"], rel=1e-3
    )


def test_detections_equal_the_official_ones(arrays):
    detections = golden_model().predict(golden_images(), torch.tensor([[256, 320]] * 2), PostprocessOptions())
    for i, found in enumerate(detections):
        expected, labels = arrays[f"dets{i}"], arrays[f"det_labels{i}"]
        assert len(found.scores_N) == len(expected)
        rows = {(int(label), *np.round(row[:4], 1)) for label, row in zip(labels, expected, strict=True)}
        ours = zip(found.labels_N.tolist(), found.boxes_N4.numpy(), strict=True)
        matched = sum((label, *np.round(box, 1)) in rows for label, box in ours)
        assert matched >= len(rows) - 3  # rounding to 0.1 px can split a pair
        np.testing.assert_allclose(np.sort(found.scores_N.numpy()), np.sort(expected[:, 4]), rtol=1e-4)
