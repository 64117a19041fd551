"""How detections are made and judged."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bcd.spec.base import Fraction, Strict


class EvaluationSpec(Strict):
    """How detections are made and judged (COCO AP over IoU .50:.05:.95)."""

    every: Annotated[int, Field(ge=0)] = Field(0, description="Steps between evaluations; 0: only at the end.")
    score_threshold: Fraction = Field(0.05, description="Detections below this score are dropped.")
    nms_iou: Fraction = Field(0.6, description="IoU of class-wise non-maximum suppression.")
    nms_candidates: Annotated[int, Field(ge=1, le=100_000)] = Field(
        1000, description="Best candidates of each pyramid level that enter the suppression."
    )
    max_detections: Annotated[int, Field(ge=1, le=1000)] = Field(100, description="Detections kept for an image.")
    batch_size: Annotated[int, Field(ge=1, le=1024)] = Field(16, description="Images in an evaluation batch.")
