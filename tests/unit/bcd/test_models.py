"""Detectors: shapes, names, refusals, files, and the layout of MMDetection's parameters."""

from __future__ import annotations

import pytest
import torch

import bcd
from bcd.models.adapters.mmdet import convert_state_dict
from bcd.models.files import DetectorFileError, load_detector, save_detector
from bcd.models.postprocess import PostprocessOptions
from tests.helpers.golden import golden_state_dict
from tests.helpers.runs import TINY

SMALL = {**TINY["student"], "num_classes": 3}


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_every_resnet_gives_the_published_layout(backbone: str):
    with torch.device("meta"):
        model = bcd.build_detector("gfl", backbone=backbone, num_classes=80)
    assert model.head.cls.weight.shape == (80, 256, 3, 3)
    assert model.fpn.laterals[0].weight.shape[1] == (128 if backbone in ("resnet18", "resnet34") else 512)
    assert len(model.fpn.outputs) == 5


def test_outputs_have_one_flat_site_axis():
    model = bcd.build_detector("gfl", backbone="resnet18", num_classes=80).eval()
    with torch.no_grad():
        out = model(torch.zeros(2, 3, 64, 96))
    sites = sum(h * w for h, w in [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)])
    assert out.logits_BAC.shape == (2, sites, 80)
    assert out.boxes_BA4.shape == (2, sites, 4)
    assert out.dist_BA4R.shape == (2, sites, 4, 17)
    assert len(out.grid) == sites
    assert [f.shape[1] for f in out.features] == [256] * 5


def test_frozen_stages_and_norm_eval_stay_fixed_in_training():
    model = bcd.build_detector("gfl", backbone="resnet18", num_classes=2, frozen_stages=1, norm_eval=True).train()
    assert not any(p.requires_grad for p in model.backbone.conv1.parameters())
    assert not any(p.requires_grad for p in model.backbone.layer1.parameters())
    assert all(p.requires_grad for p in model.backbone.layer2.parameters())
    assert not model.backbone.layer4[0].bn1.training


def test_wrong_names_and_widths_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown detector 'yolo'; known: gfl"):
        bcd.build_detector("yolo", num_classes=1)
    with pytest.raises(ValueError, match="unknown backbone 'vgg'"):
        bcd.build_detector("gfl", backbone="vgg", num_classes=1)
    with pytest.raises(ValueError, match="exactly one"):
        bcd.build_detector("gfl", backbone="tiny")
    with pytest.raises(ValueError, match="do not fit"):
        bcd.build_detector("gfl", backbone="resnet18", num_classes=1, strides=(8, 16))


def test_conversion_from_mmdetection_lists_what_it_does_not_know():
    state = golden_state_dict()
    assert convert_state_dict({"state_dict": state, "meta": {}}, num_classes=80).keys()
    with pytest.raises(ValueError, match=r"1 parameters do not belong.*bbox_head\.extra"):
        convert_state_dict({**state, "bbox_head.extra": torch.zeros(1)})
    with pytest.raises(ValueError, match="80 classes, not 20"):
        convert_state_dict(state, num_classes=20)
    with pytest.raises(ValueError, match="no MMDetection gfl"):
        convert_state_dict({})


def test_a_saved_detector_comes_back_the_same(tmp_path):
    torch.manual_seed(0)
    model = bcd.build_detector(**SMALL).eval()
    before = torch.get_rng_state()
    again = load_detector(save_detector(model, tmp_path / "student.safetensors"))
    assert torch.equal(before, torch.get_rng_state())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images).logits_BAC, again(images).logits_BAC)
    assert load_detector(tmp_path).info == model.info
    with pytest.raises(DetectorFileError, match="no such"):
        load_detector(tmp_path / "other.safetensors")


def test_detections_are_sorted_clipped_and_capped():
    torch.manual_seed(0)
    model = bcd.build_detector(**SMALL).eval()
    options = PostprocessOptions(score_threshold=0.0, max_detections=7)
    found = model.predict(torch.randn(2, 3, 64, 64), torch.tensor([[40, 50], [64, 64]]), options)
    for one, (height, width) in zip(found, [(40, 50), (64, 64)], strict=True):
        assert len(one.scores_N) == 7
        assert torch.equal(one.scores_N, one.scores_N.sort(descending=True).values)
        assert one.boxes_N4.min() >= 0
        assert one.boxes_N4[:, 2].max() <= width
        assert one.boxes_N4[:, 3].max() <= height
