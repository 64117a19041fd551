"""Distillation methods of a spec, one class each. Defaults are the published ones; docs/methods.md has the formulas."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bcd.spec.base import Fraction, NonNegative, Positive, Strict

Scores = Literal["ranked", "class"]


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
    iou: Literal["giou", "iou", "diou", "ciou"] = Field(
        "giou",
        description="Localisation measure: giou as in the official code, iou as in the paper's formula, diou or ciou.",
    )
    scores: Scores = Field(
        "ranked",
        description="ranked: compare the scores by which detections are ranked (class probability times centerness, "
        "where a head has one). class: the class probability alone, the paper's form. The same for GFL.",
    )
    level_gate: bool = Field(
        False,
        description="Skip pyramid levels without any positive site in the batch, as the official code does. "
        "Off by default: it makes the loss depend on the batch's composition.",
    )


class SoftmaxKdMethod(_MethodSpec):
    """Softmax distillation of the class scores at positive sites (Hinton et al. 2015, as LD's "main KD" does it)."""

    type: Literal["softmax_kd"]
    cls_weight: NonNegative = Field(10.0, description="Weight of the term (published: 10).")
    temperature: Positive | None = Field(
        None, description="Softmax temperature. Default: as published, 8 for a RetinaNet student, else 2."
    )


class SigmoidKdMethod(_MethodSpec):
    """Plain distillation of each class's sigmoid at all sites: BCKD without its weighting, as a control."""

    type: Literal["sigmoid_kd"]
    cls_weight: NonNegative = Field(1.0, description="Weight of the term (BCKD's: 1).")
    loss: Literal["kl", "bce"] = Field(
        "kl", description="kl: 0 where both agree. bce: BCKD's factor; kl plus the teacher's entropy, same gradient."
    )
    temperature: Positive = Field(1.0, description="Divides both logits; the loss is multiplied by its square.")
    scores: Scores = Field("ranked", description="The scores that are compared; see bckd.")


class LdMethod(_MethodSpec):
    """Localization Distillation for Dense Object Detection (CVPR 2022): both heads predict box distributions."""

    type: Literal["ld"]
    main_weight: NonNegative = Field(0.25, description="Weight at positive sites (published: 0.25).")
    vlr_weight: NonNegative = Field(0.25, description="Weight in the valuable region beside them (published: 0.25).")
    temperature: Positive = Field(10.0, description="Softmax temperature over the bins of a side (published: 10).")
    vlr_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.25, description="The valuable region begins at this share of the assigner's threshold (published: 0.25)."
    )


class CrossKdMethod(_MethodSpec):
    """CrossKD: Cross-Head Knowledge Distillation for Object Detection (CVPR 2024).

    The student's maps inside its head go on through the teacher's head; what comes out is compared with the teacher.
    """

    type: Literal["crosskd"]
    cls_weight: NonNegative | None = Field(
        None, description="Weight of the classes. Default: the paper's for the teacher's head, 1 (FCOS 0.4)."
    )
    loc_weight: NonNegative | None = Field(
        None, description="Weight of the boxes. Default: the paper's, GFL 4, RetinaNet and ATSS 1, FCOS 0.75."
    )
    ctr_weight: NonNegative | None = Field(
        None, description="Weight of the centerness. Default: the paper's, ATSS 1, FCOS 0. Other heads have none."
    )
    loc: Literal["kl", "giou", "iou", "diou", "ciou"] | None = Field(
        None,
        description="Box loss. Default: the paper's, GFL kl (over the bins), RetinaNet and ATSS giou, FCOS iou.",
    )
    depth: Annotated[int, Field(ge=0, le=8)] | None = Field(
        None,
        description="Blocks of the teacher's towers that are left out. Default: the paper's, 3 of 4 (FCOS 2), or as "
        "many as there are.",
    )
    standardise: bool = Field(
        True, description="Give the student's maps the teacher's mean and deviation, channel by channel, before."
    )


class PkdMethod(_MethodSpec):
    """PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient (NeurIPS 2022)."""

    type: Literal["pkd"]
    feature_weight: NonNegative = Field(
        6.0, description="Weight of the term (published: 6 for GFL and two-stage, 2 to 10 for RetinaNet)."
    )
    levels: Annotated[int, Field(ge=1, le=8)] | None = Field(
        None, description="Use the first n pyramid levels only. Default: all that both have."
    )


class FgdMethod(_MethodSpec):
    """Focal and Global Knowledge Distillation for Detectors (CVPR 2022)."""

    type: Literal["fgd"]
    foreground_weight: NonNegative = Field(1e-3, description="alpha: features inside boxes (published: 0.001).")
    background_weight: NonNegative = Field(5e-4, description="beta: features outside boxes (published: 0.0005).")
    attention_weight: NonNegative = Field(5e-4, description="gamma: attention maps (published: 0.0005).")
    relation_weight: NonNegative = Field(5e-6, description="lambda: global relation of pixels (published: 0.000005).")
    temperature: Positive = Field(0.5, description="Softmax temperature of the attention maps (published: 0.5).")


class FitNetMethod(_MethodSpec):
    """Feature imitation at locations inside any box (FitNets, ICLR 2015, as LD's code does it for detectors)."""

    type: Literal["fitnet"]
    feature_weight: NonNegative = Field(2.0, description="Weight of the term (published: 2).")
    level_gate: bool = Field(
        True, description="Skip pyramid levels without any positive site in the batch, as published."
    )


class FineGrainedMethod(_MethodSpec):
    """Distilling Object Detectors with Fine-grained Feature Imitation (CVPR 2019): at locations near objects."""

    type: Literal["fine_grained"]
    feature_weight: NonNegative = Field(2.0, description="Weight of the term (published for GFL: 2).")
    threshold: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="Sites whose prior overlaps a box by this share of the box's best prior (published: 0.5)."
    )


class GiMethod(_MethodSpec):
    """General Instance Distillation (CVPR 2021), its feature part: where teacher and student disagree most."""

    type: Literal["gi"]
    feature_weight: NonNegative = Field(2.0, description="Weight of the term (published for GFL: 2).")
    instances: Annotated[int, Field(ge=1, le=100)] = Field(
        10, description="General instances kept for an image (published: 10)."
    )
    nms_iou: Fraction = Field(0.3, description="IoU at which one instance suppresses another (published: 0.3).")
    scores: Scores = Field("ranked", description="The scores whose difference is looked at; see bckd.")


MethodSpec = Annotated[
    BckdMethod
    | SoftmaxKdMethod
    | SigmoidKdMethod
    | LdMethod
    | CrossKdMethod
    | PkdMethod
    | FgdMethod
    | FitNetMethod
    | FineGrainedMethod
    | GiMethod,
    Field(discriminator="type"),
]
