"""Detectors: shapes, names, refusals, files, and the layout of MMDetection's parameters."""

from __future__ import annotations

import pytest
import torch

import bcd
from bcd import boxes as B
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


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (33, 65), (100, 130)])
def test_images_of_any_size_are_taken(size: tuple[int, int]):
    out = bcd.build_detector("gfl", backbone="resnet18", num_classes=2).eval()(torch.zeros(1, 3, *size))
    assert len(out.grid) == sum(-(-size[0] // s) * -(-size[1] // s) for s in (8, 16, 32, 64, 128))


def test_sites_that_prediction_saw_first_can_be_trained_on():
    model = bcd.build_detector(**SMALL)
    images = torch.zeros(1, 3, 40, 72)  # a size that no other test uses: grids are cached
    model.predict(images, torch.tensor([[40, 72]]), PostprocessOptions())
    model(images).boxes_BA4.sum().backward()
    assert model.head.reg.weight.grad is not None


def test_an_export_leaves_no_fake_sites_behind():
    model, images = bcd.build_detector(**SMALL).eval(), torch.zeros(1, 3, 56, 104)

    class Boxes(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model(x).boxes_BA4

    exported = torch.export.export(Boxes(), (images,)).module()
    expected = model(images).boxes_BA4
    assert type(expected) is torch.Tensor
    torch.testing.assert_close(exported(images), expected)


def test_boxes_are_decoded_in_fp32_under_autocast():
    model = bcd.build_detector(**SMALL)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    distance = (out.dist_BA4R.softmax(-1) * torch.arange(9.0)).sum(-1) * out.grid.stride_A[:, None]
    torch.testing.assert_close(out.boxes_BA4, B.from_distances(out.grid.centre_A2, distance))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_model_of_another_dtype_gives_fp32_boxes(dtype: torch.dtype):
    out = bcd.build_detector(**SMALL).to(dtype)(torch.zeros(1, 3, 32, 32, dtype=dtype))
    assert out.boxes_BA4.dtype == torch.float32


def test_every_width_that_a_spec_may_ask_for_builds():
    with torch.device("meta"):
        for width in range(4, 257, 4):
            bcd.build_detector(backbone="tiny", width=width, fpn_channels=8 * width // 4, num_classes=1)
        wide = bcd.build_detector(backbone="resnet18", fpn_channels=256, num_classes=1)
    assert wide.head.cls_tower[0].gn.num_groups == 32


@pytest.mark.parametrize("strides", [(4,), (8,), (4, 8), (16, 32, 64), (64, 128), (128,)])
def test_a_tiny_backbone_takes_any_doubling_strides(strides: tuple[int, ...]):
    out = bcd.build_detector(**{**SMALL, "strides": strides})(torch.zeros(1, 3, 128, 128))
    assert len(out.grid) == sum((128 // s) ** 2 for s in strides)


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
