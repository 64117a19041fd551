"""Distillation methods of a spec, one class each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bcd.spec.base import Fraction, NonNegative, Strict


class _MethodSpec(Strict):
    weight: NonNegative = Field(1.0, description="Factor on all terms of this method.")
    warmup: Fraction = Field(
        0.0, description="Fraction of all steps over which the method's weight rises linearly from 0."
    )


class BckdMethod(_MethodSpec):
    """Bridging Cross-task Protocol Inconsistency for Distillation in Dense Object Detection (ICCV 2023)."""

    type: Literal["bckd"]
    cls_weight: NonNegative = Field(1.0, description="Weight of the binary classification distillation (paper: 1).")
    loc_weight: NonNegative = Field(4.0, description="Weight of the IoU localisation distillation (paper: 4).")
    beta: Annotated[float, Field(ge=1, le=4)] = Field(
        1.0, description="Exponent of the weight |p_teacher - p_student| (official code: 1)."
    )
    iou: Literal["giou", "iou"] = Field(
        "giou", description="Localisation measure: giou as in the official code, iou as in the paper's formula."
    )
    scores: Literal["ranked", "class"] = Field(
        "ranked",
        description="ranked: compare the scores by which detections are ranked (class probability times centerness, "
        "where a head has one). class: the class probability alone, the paper's form. The same for GFL.",
    )
    level_gate: bool = Field(
        False,
        description="Skip pyramid levels without any positive site in the batch, as the official code does. "
        "Off by default: it makes the loss depend on the batch's composition.",
    )


MethodSpec = Annotated[BckdMethod, Field(discriminator="type")]
