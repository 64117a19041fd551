"""Losses as pure functions. The caller owns the divisor unless a function says otherwise."""

from bcd.losses.binary_distillation import binary_classification_distillation, binary_distillation_sum
from bcd.losses.box import giou_loss, iou_localization_distillation
from bcd.losses.distribution_focal import distribution_focal
from bcd.losses.quality_focal import quality_focal
from bcd.losses.sigmoid_distillation import sigmoid_kl_sum
from bcd.losses.softmax_distillation import softmax_kl

__all__ = [
    "binary_classification_distillation",
    "binary_distillation_sum",
    "distribution_focal",
    "giou_loss",
    "iou_localization_distillation",
    "quality_focal",
    "sigmoid_kl_sum",
    "softmax_kl",
]
