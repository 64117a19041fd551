"""RetinaNet and FCOS in torchvision's variant equal torchvision's own, with its weights: outputs, boxes, losses,
detections."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead, _default_anchorgen
from torchvision.ops import FeaturePyramidNetwork, box_iou
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

import bcd
from bcd.assign.max_iou import assign_max_iou
from bcd.losses.detection import box_loss
from bcd.models.detector import Detector, make_assignment
from bcd.models.postprocess import PostprocessOptions
from bcd.types import Targets

CLASSES, CHANNELS = 5, 256  # torchvision's FCOS head has 32 groups whatever its width
FCOS_VARIANT = {
    "box_code": "relu", "centerness_on": "reg", "head_bias": True, "centre_offset": 0.0, "dynamic_strides": True,
    "score": "sqrt",
}  # fmt: skip
RETINA_V1 = {"fpn_extra": "output", "fpn_relu": True, "round_anchors": True, "dynamic_strides": True}
RETINA_V2 = {**RETINA_V1, "fpn_extra": "input", "head_norm": "gn"}
# Not divisible by 128, so that the two deepest maps do not lie a whole stride apart.
IMAGES = torch.randn(2, 3, 160, 224, generator=torch.Generator().manual_seed(3))


class TheirBackbone(nn.Module):
    """Our tiny backbone below torchvision's pyramid."""

    out_channels = CHANNELS

    def __init__(self, extra: str):
        super().__init__()
        self.body = bcd.build_detector(backbone="tiny", width=8, num_classes=1).backbone
        last = self.body.channels[-1] if extra == "input" else CHANNELS
        # It picks the last backbone map when the widths differ, the last pyramid map when they are equal.
        self.fpn = FeaturePyramidNetwork(list(self.body.channels), CHANNELS, LastLevelP6P7(last, CHANNELS))

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        found: OrderedDict[str, Tensor] = self.fpn(OrderedDict((str(i), m) for i, m in enumerate(self.body(x))))
        return found


def fill(module: nn.Module, seed: int) -> None:
    """Weights that give lively outputs."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.named_parameters():
        if "backbone.body" in name:
            continue
        scale = (1 / value[0].numel()) ** 0.5 if value.ndim == 4 else 0.1
        center = 1.0 if value.ndim == 1 and name.endswith("weight") else 0.0
        with torch.no_grad():
            value.copy_(center + scale * torch.randn(value.shape, generator=generator))


def rename(theirs: nn.Module) -> dict[str, Tensor]:
    """torchvision's weights under our names."""
    found = {}
    for name, value in theirs.state_dict().items():
        part = name.split(".")
        if name.startswith("backbone.body."):
            ours = "backbone." + ".".join(part[2:])
        elif name.startswith("backbone.fpn."):
            extra = {"p6": 3, "p7": 4}
            if part[2] == "extra_blocks":
                ours = f"fpn.outputs.{extra[part[3]]}.{part[4]}"
            else:
                ours = f"fpn.{'laterals' if part[2] == 'inner_blocks' else 'outputs'}.{part[3]}.{part[5]}"
        else:
            tower = "cls_tower" if part[1] == "classification_head" else "reg_tower"
            layer = {"cls_logits": "cls", "bbox_reg": "reg", "bbox_ctrness": "centerness"}
            if part[2] != "conv":
                ours = f"head.{layer[part[2]]}.{part[3]}"
            elif len(part) == 6:  # RetinaNet: conv.N.0 and, with a norm, conv.N.1
                ours = f"head.{tower}.{part[3]}.{'conv' if part[4] == '0' else 'gn'}.{part[5]}"
            else:  # FCOS: convolution, norm and ReLU in one row
                number = int(part[3])
                ours = f"head.{tower}.{number // 3}.{'conv' if number % 3 == 0 else 'gn'}.{part[4]}"
        found[ours] = value
    return found


def pair(kind: str) -> tuple[Detector, nn.Module]:
    torch.manual_seed(0)
    variant = {"fcos": FCOS_VARIANT, "v1": RETINA_V1, "v2": RETINA_V2}[kind]
    body = TheirBackbone("input" if kind == "v2" else "output")
    theirs: nn.Module
    if kind == "fcos":
        theirs = FCOS(body, CLASSES, score_thresh=0.2)
    else:
        anchors = _default_anchorgen()
        norm = (lambda channels: nn.GroupNorm(32, channels)) if kind == "v2" else None
        head = RetinaNetHead(CHANNELS, anchors.num_anchors_per_location()[0], CLASSES, norm_layer=norm)
        if kind == "v2":
            head.regression_head._loss_type = "giou"
        theirs = RetinaNet(body, CLASSES, anchor_generator=anchors, head=head)
    fill(theirs, 1)
    state = rename(theirs)
    if kind == "fcos":
        state |= {f"head.scales.{i}.scale": torch.tensor(1.0) for i in range(5)}
    ours = bcd.build_detector(
        "fcos" if kind == "fcos" else "retinanet", backbone="tiny", width=8, num_classes=CLASSES, variant=variant,
        box_loss="giou",
    )  # fmt: skip
    ours.load_state_dict(state, strict=True)
    return ours.eval(), theirs.eval()


def raw(theirs: nn.Module, images: Tensor) -> tuple[dict[str, Tensor], list[Tensor], list[Tensor]]:
    features = list(theirs.backbone(images).values())
    anchors = theirs.anchor_generator(ImageList(images, [tuple(images.shape[-2:])] * len(images)), features)
    return theirs.head(features), anchors, features


def boxes_of(kind: str, theirs: nn.Module, outputs: dict[str, Tensor], anchors: list[Tensor]) -> Tensor:
    code = outputs["bbox_regression"]
    decode = theirs.box_coder.decode if kind == "fcos" else theirs.box_coder.decode_single
    return torch.stack([decode(code[i], anchors[i]) for i in range(len(code))])


@pytest.fixture(scope="module", params=["fcos", "v1", "v2"])
def both(request: pytest.FixtureRequest):
    ours, theirs = pair(request.param)
    with torch.no_grad():
        return request.param, ours, theirs, ours(IMAGES), raw(theirs, IMAGES)


def some_targets() -> tuple[Targets, list[dict[str, Tensor]]]:
    """Boxes of many sizes whose areas differ by more than the 8 square pixels that torchvision's FCOS can tell."""
    generator = torch.Generator().manual_seed(11)
    boxes, labels = [], []
    for count in (9, 4):
        corner = torch.rand(count, 2, generator=generator) * torch.tensor([150.0, 100.0])
        side = 5 + torch.rand(count, 2, generator=generator) ** 2 * 110
        low, high = corner, torch.minimum(corner + side, torch.tensor([224.0, 160.0]))
        boxes.append(torch.cat([low, high], dim=1))
        labels.append(torch.randint(0, CLASSES, (count,), generator=generator))
    padded = torch.zeros(2, 9, 4)
    padded_labels, valid = torch.zeros(2, 9, dtype=torch.long), torch.zeros(2, 9, dtype=torch.bool)
    for i, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        padded[i, : len(box)], padded_labels[i, : len(box)], valid[i, : len(box)] = box, label, True
    theirs = [{"boxes": b, "labels": n} for b, n in zip(boxes, labels, strict=True)]
    return Targets(padded, padded_labels, valid, torch.tensor([[160, 224]] * 2)), theirs


def test_raw_outputs_and_boxes_equal_torchvisions(both):
    kind, _, theirs, out, (their_out, anchors, features) = both
    for mine, yours in zip(out.features, features, strict=True):
        torch.testing.assert_close(mine, yours, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(out.logits_BAC, their_out["cls_logits"], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(out.boxes_BA4, boxes_of(kind, theirs, their_out, anchors), rtol=1e-3, atol=1e-2)
    if kind == "fcos":
        torch.testing.assert_close(out.centerness_BA, their_out["bbox_ctrness"][..., 0], rtol=1e-3, atol=1e-3)
    else:
        assert torch.equal(out.grid.prior_A4, anchors[0])
    assert out.logits_BAC.std() > 0.1  # lively enough to compare


def test_losses_equal_torchvisions(both):
    kind, ours, theirs, out, (their_out, anchors, features) = both
    targets, given = some_targets()
    per_level = [f.shape[-2] * f.shape[-1] for f in features]
    if kind == "fcos":
        expected = theirs.compute_loss(given, their_out, anchors, per_level)
        assigned = ours.assign(out, targets)
        found = ours.task_loss(out, targets, assigned)
        assert assigned.positive_BA.sum() > 20
        assert found["focal"].item() == pytest.approx(expected["classification"].item(), rel=1e-4)
        assert found["centerness"].item() == pytest.approx(expected["bbox_ctrness"].item(), rel=1e-4)
        # torchvision does not weight the boxes by centerness.
        boxes = (box_loss("giou", out.boxes_BA4, assigned.box_BA4) * assigned.positive_BA).sum() / assigned.positives
        assert boxes.item() == pytest.approx(expected["bbox_regression"].item(), rel=1e-4)
        return
    # torchvision divides by each image's positives and takes the mean of the images: one image at a time.
    matched = [theirs.proposal_matcher(box_iou(g["boxes"], a)) for g, a in zip(given, anchors, strict=True)]
    expected = theirs.head.compute_loss(given, their_out, anchors, matched)
    box_BA, positive_BA, ignored_BA = assign_max_iou(out.grid, targets, rescued_keep_best=True)
    assert ignored_BA.sum() > 20
    assert torch.equal(torch.where(positive_BA, box_BA, torch.where(ignored_BA, -2, -1)), torch.stack(matched))
    totals = {"focal": 0.0, "boxes": 0.0}
    ours.options = replace(ours.options, box_loss="giou" if kind == "v2" else "l1")
    for i in range(2):
        one = Targets(
            *(t[i : i + 1] for t in (targets.boxes_BG4, targets.labels_BG, targets.valid_BG, targets.sizes_B2))
        )
        part = type(out)(
            out.logits_BAC[i : i + 1], out.boxes_BA4[i : i + 1], None, None, (), out.grid,
            deltas_BA4=out.deltas_BA4[i : i + 1],
        )  # fmt: skip
        rows = slice(i, i + 1)
        assigned = make_assignment(
            one, box_BA[rows], positive_BA[rows], torch.ones_like(positive_BA[rows]), CLASSES,
            ignored_BA=ignored_BA[rows],
        )  # fmt: skip
        found = ours.task_loss(part, one, assigned)
        totals["focal"] += found["focal"].item() / 2
        # Our GIoU loss of RetinaNet weighs 2, as in MMDetection.
        totals["boxes"] += (found["giou"].item() / 2 if kind == "v2" else found["l1"].item()) / 2
    assert totals["focal"] == pytest.approx(expected["classification"].item(), rel=1e-4)
    assert totals["boxes"] == pytest.approx(expected["bbox_regression"].item(), rel=1e-4)


def test_detections_equal_torchvisions(both):
    _, ours, theirs, out, (their_out, anchors, features) = both
    anchors_of_levels = [f.shape[-2] * f.shape[-1] * out.grid.anchors for f in features]
    split = {k: list(v.split(anchors_of_levels, dim=1)) for k, v in their_out.items()}
    split_anchors = [list(a.split(anchors_of_levels)) for a in anchors]
    with torch.no_grad():
        expected = theirs.postprocess_detections(split, split_anchors, [(160, 224)] * 2)
    options = PostprocessOptions(
        score_threshold=theirs.score_thresh, candidates_per_level=theirs.topk_candidates,
        nms_iou=theirs.nms_thresh, max_detections=theirs.detections_per_img,
    )  # fmt: skip
    found = ours.detections(out, torch.tensor([[160, 224]] * 2), options)
    for mine, yours in zip(found, expected, strict=True):
        assert len(mine.scores_N) == len(yours["scores"]) > 10
        torch.testing.assert_close(mine.scores_N, yours["scores"], rtol=1e-3, atol=1e-4)
        close = (mine.boxes_N4[:, None] - yours["boxes"]).abs().amax(-1) < 0.05
        same = close & (mine.labels_N[:, None] == yours["labels"])
        assert same.any(1).float().mean() > 0.97  # two scores apart by one rounding may change places


def test_anchors_of_unrounded_retinanet_follow_the_plain_generator():
    """MMDetection's anchors are torchvision's without the rounding: every scale of every ratio, ratio by ratio."""
    model = bcd.build_detector("retinanet", backbone="tiny", width=8, fpn_channels=16, num_classes=1, strides=(8, 16))
    out = model(torch.zeros(1, 3, 64, 96))
    generator = AnchorGenerator(((32.0,),), ((0.5, 1.0, 2.0),))
    square = (32 * torch.tensor([0.5, 1.0, 2.0]).rsqrt())[:, None] * 2 ** (torch.arange(3.0) / 3)
    sides = out.grid.prior_A4[:9, 2:] - out.grid.prior_A4[:9, :2]
    torch.testing.assert_close(sides[:, 0], square.flatten())
    torch.testing.assert_close(sides.prod(-1), ((32 * 2 ** (torch.arange(9.0) % 3 / 3)) ** 2))
    rounded = generator.cell_anchors[0]
    torch.testing.assert_close(out.grid.prior_A4[[0, 3, 6]], rounded, atol=0.5, rtol=0)
