"""torchvision's detectors as ours: the same raw outputs and the same detections, from random weights."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn
from torchvision.models.detection import (
    RetinaNet_ResNet50_FPN_Weights,
    fcos_resnet50_fpn,
    retinanet_resnet50_fpn,
    retinanet_resnet50_fpn_v2,
)
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.misc import FrozenBatchNorm2d

from bcd.models.adapters import AdapterError, Overrides
from bcd.models.adapters.coco_names import COCO_80, UNUSED_IDS
from bcd.models.adapters.torchvision import read
from bcd.models.postprocess import PostprocessOptions

MAKERS = {
    "fcos": fcos_resnet50_fpn,
    "retinanet": retinanet_resnet50_fpn,
    "retinanet_v2": retinanet_resnet50_fpn_v2,
}
NAMES = ("a", "b", "c", "d", "e")
# Not a multiple of 64: torchvision then places the sites of the upper levels elsewhere than one stride apart.
SIZE = (96, 160)


@cache
def theirs(kind: str, classes: int = len(NAMES)) -> nn.Module:
    """A detector whose every parameter and statistic matters: nothing at 0 or 1 as when fresh."""
    torch.manual_seed(0)
    model = MAKERS[kind](weights=None, weights_backbone=None, num_classes=classes).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.8, 1.2)
            if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
                module.weight.uniform_(0.7, 1.1)
                module.bias.normal_(std=0.1)
        for name, value in model.head.named_parameters():
            if value.ndim == 4:
                # Deltas of a few tenths and scores all over (0, 1).
                value.normal_(std=(0.02 if "cls_logits" in name else 0.01))
            elif "cls_logits" in name or "conv" in name or "bbox" in name:
                value.add_(torch.randn(value.shape) * 0.1)
        model.head.classification_head.cls_logits.bias.normal_(mean=-1.5)
        if kind == "fcos":
            model.head.regression_head.bbox_reg.bias.fill_(2.0)
            model.head.regression_head.bbox_ctrness.weight.normal_(std=0.05)
    return model


def images() -> torch.Tensor:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def raw(model: nn.Module) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return model.head(list(model.backbone(images()).values()))


def ours(kind: str):
    return read(theirs(kind).state_dict(), Overrides(class_names=NAMES)).build()


@pytest.mark.parametrize("kind", list(MAKERS))
def test_raw_outputs_and_decoded_boxes_are_theirs(kind: str):
    model = ours(kind)
    with torch.no_grad():
        out = model(images())
    expected = raw(theirs(kind))
    assert expected["cls_logits"].std() > 0.1
    torch.testing.assert_close(out.logits_BAC, expected["cls_logits"], atol=1e-4, rtol=1e-4)
    reference = theirs(kind)
    features = list(reference.backbone(images()).values())
    anchors = reference.anchor_generator(ImageList(images(), [SIZE] * 2), features)[0]
    coder = reference.box_coder if kind == "fcos" else reference.head.regression_head.box_coder
    with torch.no_grad():
        boxes = torch.stack([_decode(coder, kind, one, anchors) for one in expected["bbox_regression"]])
    torch.testing.assert_close(out.boxes_BA4, boxes, atol=1e-3, rtol=1e-4)
    if kind == "fcos":
        torch.testing.assert_close(out.centerness_BA, expected["bbox_ctrness"][..., 0], atol=1e-4, rtol=1e-4)


def _decode(coder, kind: str, deltas: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    return coder.decode(deltas, anchors) if kind == "fcos" else coder.decode_single(deltas, anchors)


@pytest.mark.parametrize("kind", list(MAKERS))
def test_detections_are_theirs(kind: str):
    reference, model = theirs(kind), ours(kind)
    found = model.predict(
        images(),
        torch.tensor([SIZE] * 2),
        PostprocessOptions(
            score_threshold=reference.score_thresh,
            candidates_per_level=reference.topk_candidates,
            nms_iou=reference.nms_thresh,
            max_detections=reference.detections_per_img,
        ),
    )
    expected = _their_detections(reference)
    for one, other in zip(found, expected, strict=True):
        assert len(other["scores"]) >= 20
        torch.testing.assert_close(one.scores_N, other["scores"], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(one.boxes_N4, other["boxes"], atol=1e-2, rtol=1e-4)
        assert torch.equal(one.labels_N, other["labels"])


def _their_detections(reference: nn.Module) -> list[dict[str, torch.Tensor]]:
    """Their own forward, on images that need no further change."""

    class AsTheyAre(nn.Module):
        def forward(self, images, targets=None):
            return ImageList(torch.stack(images), [SIZE] * len(images)), targets

        def postprocess(self, result, image_shapes, original_image_sizes):
            return result

    kept, reference.transform = reference.transform, AsTheyAre()
    try:
        with torch.no_grad():
            return reference(list(images()))
    finally:
        reference.transform = kept


def test_coco_slots_become_the_80_classes_in_their_order():
    categories = RetinaNet_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    kept = [i for i, name in enumerate(categories) if name not in ("__background__", "N/A")]
    assert tuple(categories[i] for i in kept) == COCO_80
    assert [i for i, name in enumerate(categories) if name == "N/A"] == list(UNUSED_IDS)
    reference = theirs("fcos", 91)
    foreign = read(reference.state_dict())
    assert foreign.class_names == COCO_80
    assert any("COCO" in text for text in foreign.assumed)
    with torch.no_grad():
        found = foreign.build()(images()).logits_BAC
    torch.testing.assert_close(found, raw(reference)["cls_logits"][..., kept], atol=1e-4, rtol=1e-4)


def test_rows_are_taken_for_each_anchor():
    state = theirs("retinanet").state_dict()
    foreign = read(state, Overrides(class_names=NAMES[1:]))
    expected = state["head.classification_head.cls_logits.bias"].view(9, 5)[:, 1:].flatten()
    assert torch.equal(foreign.tensors["head.cls.bias"], expected)
    assert foreign.num_classes == 4


def test_the_published_v1_weights_have_frozen_norms_of_eps_0_and_the_first_names():
    state = {k: v for k, v in theirs("retinanet", 91).state_dict().items() if not k.endswith("num_batches_tracked")}
    foreign = read(_first_names(state))
    assert foreign.arguments["variant"]["norm_eps"] == 0.0
    model = foreign.build()
    frozen = FrozenBatchNorm2d(64, eps=0.0)
    frozen.load_state_dict({k.removeprefix("backbone.body.bn1."): v for k, v in state.items() if ".body.bn1." in k})
    x = torch.randn(1, 64, 8, 8)
    torch.testing.assert_close(model.backbone.bn1(x), frozen(x), atol=1e-5, rtol=1e-5)
    assert model.backbone.layer4[2].bn3.eps == 0.0
    own = read(theirs("retinanet").state_dict(), Overrides(class_names=NAMES))
    assert "norm_eps" not in own.arguments["variant"]


def _first_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    out = {}
    for key, value in state.items():
        if ".inner_blocks." in key or ".layer_blocks." in key:
            key = key.replace(".0.weight", ".weight").replace(".0.bias", ".bias")
        elif "_head.conv." in key:
            head, number, _, kind = key.rsplit(".", 3)
            key = f"{head}.{2 * int(number)}.{kind}"
        out[key] = value
    return out


def test_missing_and_unknown_keys_are_listed():
    state = theirs("retinanet_v2").state_dict()
    with pytest.raises(AdapterError, match=r"2 parameters do not belong.*head\.mask, other\.weight"):
        read({**state, "head.mask": torch.zeros(1), "other.weight": torch.zeros(1)})
    gone = [
        "backbone.body.layer3.1.conv2.weight",
        "head.regression_head.conv.2.1.bias",
        "backbone.fpn.extra_blocks.p7.bias",
    ]
    short = {key: value for key, value in state.items() if key not in gone}
    with pytest.raises(AdapterError, match="3 faults") as caught:
        read(short, Overrides(class_names=NAMES)).build()
    for name in ("backbone.layer3.1.conv2.weight", "head.reg_tower.2.gn.bias", "fpn.outputs.4.bias"):
        assert f"missing {name}" in str(caught.value)
    with pytest.raises(AdapterError, match="4 classes, and 2 names"):
        read(state, Overrides(class_names=("a", "b"))).build()
    with pytest.raises(AdapterError, match="is a torchvision retinanet, not fcos"):
        read(state, Overrides(detector="fcos"))
    with pytest.raises(AdapterError, match="no torchvision FCOS or RetinaNet"):
        read({"fc.weight": torch.zeros(1)})
