"""Detectors of a spec."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from bcd.spec.base import Strict


class DetectorSpec(Strict):
    """A detector: head family, backbone and widths. Defaults are GFL as published for COCO."""

    detector: Literal["gfl"] = Field("gfl", description="Head family.")
    backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101", "tiny"] = Field(
        "resnet18", description="torchvision ResNet, or `tiny`: a small GroupNorm network for CPU work."
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
        16, description="Largest box distance in units of the stride; the distribution has reg_max + 1 bins."
    )
    prior_scale: Annotated[float, Field(ge=0.5, le=32)] = Field(
        8.0,
        description="Side of the square prior in units of the stride (published: 8). Label assignment compares it with "
        "the boxes: lower it where objects are small for their level, else they get few positive sites.",
    )
    frozen_stages: Annotated[int, Field(ge=-1, le=4)] = Field(
        -1, description="Freeze the stem and this many backbone stages (-1: nothing). Published GFL freezes 1."
    )
    norm_eval: bool = Field(False, description="Keep BatchNorm statistics fixed while training (published GFL: true).")
    pretrained: bool = Field(False, description="Start the backbone from torchvision's ImageNet weights.")

    @model_validator(mode="after")
    def _doubling(self) -> DetectorSpec:
        if any(b != 2 * a for a, b in zip(self.strides, self.strides[1:], strict=False)):
            raise ValueError(f"strides must double from level to level, not {list(self.strides)}")
        if self.backbone != "tiny" and self.strides[:3] != (8, 16, 32):
            raise ValueError(f"strides of a ResNet detector begin with 8, 16, 32, not {list(self.strides)}")
        if self.backbone == "tiny" and self.pretrained:
            raise ValueError("there are no pretrained weights for the tiny backbone; set pretrained: false")
        return self
