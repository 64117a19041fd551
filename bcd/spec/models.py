"""Detectors of a spec."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from bcd.spec.backbones import BackboneName, backbone_entry, check_backbone
from bcd.spec.base import Fraction, NonNegative, Strict
from bcd.spec.detectors import DetectorName, readers


class DetectorSpec(Strict):
    """A detector: head family, backbone and widths. Defaults are GFL as published for COCO.

    An option that is null takes the detector's published value.
    """

    detector: DetectorName = Field("gfl", description="Head family.")
    backbone: BackboneName = Field(
        "resnet18",
        description="torchvision's network of that name; `tiny`, a small GroupNorm network for CPU work; or "
        "`timm:NAME` for a network of the timm library (optional extra `timm`).",
    )
    width: Annotated[int, Field(ge=4, le=256, multiple_of=4)] = Field(
        16, description="Base width of the `tiny` backbone. Other backbones ignore it."
    )
    fpn_channels: Annotated[int, Field(ge=8, le=1024, multiple_of=8)] = Field(
        256, description="Channels of the feature pyramid and of the head."
    )
    stacked_convs: Annotated[int, Field(ge=0, le=8)] = Field(4, description="3x3 convolutions in each head branch.")
    strides: Annotated[tuple[Literal[4, 8, 16, 32, 64, 128], ...], Field(min_length=1, max_length=6)] = Field(
        (8, 16, 32, 64, 128), description="Strides of the pyramid levels in pixels; each twice the one before."
    )
    reg_max: Annotated[int, Field(ge=4, le=32)] = Field(
        16, description="GFL: largest box distance in units of the stride; the distribution has reg_max + 1 bins."
    )
    prior_scale: Annotated[float, Field(ge=0.5, le=32)] | None = Field(
        None,
        description="Side of the prior in units of the stride (published: GFL and ATSS 8, RetinaNet 4; FCOS 8: a level "
        "learns boxes that reach from half of that to all of it). Label assignment compares it with the boxes: lower "
        "it where objects are small for their level, else they get few positive sites.",
    )
    anchors_per_octave: Annotated[int, Field(ge=1, le=8)] | None = Field(
        None, description="RetinaNet: anchor sizes between two levels (published: 3)."
    )
    anchor_ratios: (
        Annotated[tuple[Annotated[float, Field(ge=0.01, le=100)], ...], Field(min_length=1, max_length=16)] | None
    ) = Field(None, description="RetinaNet: height over width of the anchors (published: 0.5, 1, 2).")
    positive_iou: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="RetinaNet: an anchor with at least this IoU learns the box (published: 0.5)."
    )
    negative_iou: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="RetinaNet: an anchor below this IoU with every box is background (published: 0.4)."
    )
    centre_sampling: Annotated[float, Field(ge=0, le=16)] | None = Field(
        None,
        description="FCOS: a point learns a box only within this many strides of the box's centre (1.5 by default); "
        "0: anywhere inside the box.",
    )
    focal_alpha: Fraction | None = Field(
        None, description="ATSS, FCOS, RetinaNet: weight of positives in the focal loss (published: 0.25)."
    )
    focal_gamma: Annotated[NonNegative, Field(le=10)] | None = Field(
        None, description="ATSS, FCOS, RetinaNet: exponent of the focal loss (published: 2)."
    )
    box_loss: Literal["l1", "iou", "log_iou", "giou", "diou", "ciou"] | None = Field(
        None,
        description="Box loss: 1 - (IoU, GIoU, DIoU, CIoU), -ln IoU, or RetinaNet's L1 on deltas (published: GFL and "
        "ATSS giou, FCOS log_iou, RetinaNet l1).",
    )
    frozen_stages: Annotated[int, Field(ge=-1, le=4)] = Field(
        -1, description="Freeze the stem and this many backbone stages (-1: nothing). Published GFL freezes 1."
    )
    norm_eval: bool = Field(False, description="Keep BatchNorm statistics fixed while training (published GFL: true).")
    pretrained: bool = Field(False, description="Start the backbone from torchvision's (or timm's) ImageNet weights.")

    @model_validator(mode="after")
    def _doubling(self) -> DetectorSpec:
        if any(b != 2 * a for a, b in zip(self.strides, self.strides[1:], strict=False)):
            raise ValueError(f"strides must double from level to level, not {list(self.strides)}")
        if backbone_entry(self.backbone).fixed_strides and self.strides[:3] != (8, 16, 32):
            raise ValueError(f"strides of a {self.backbone} detector begin with 8, 16, 32, not {list(self.strides)}")
        if self.box_loss == "l1" and self.detector != "retinanet":
            raise ValueError(
                "box_loss l1 is RetinaNet's; for " + self.detector + " take giou, diou, ciou, iou or log_iou"
            )
        for option in type(self).model_fields:
            detectors = readers(option)
            if detectors and self.detector not in detectors and getattr(self, option) is not None:
                raise ValueError(f"{option} is an option of {', '.join(detectors)}; {self.detector} has no use for it")
        low, high = self.negative_iou or 0.4, self.positive_iou or 0.5
        if low > high:
            raise ValueError(f"negative_iou {low} must not be above positive_iou {high}")
        check_backbone(
            self.backbone, frozen_stages=self.frozen_stages, norm_eval=self.norm_eval, pretrained=self.pretrained
        )
        return self
