"""The modules that are exported: a detector with its normalisation, and the same with everything up to detections."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from bcd.models.detector import Detector
from bcd.models.postprocess import PostprocessOptions
from bcd.types import DenseOutputs

RAW_OUTPUTS = ("logits", "boxes", "centerness")
NMS_OUTPUTS = ("boxes", "scores", "labels", "count")


class RawGraph(nn.Module):
    """Images as they are, float RGB 0..255 (B, 3, H, W), to what a detector says at every site.

    Outputs: `logits` (B, A, C) raw class logits, `boxes` (B, A, 4) xyxy in pixels of the input, and `centerness`
    (B, A) raw logits where the head has them.
    """

    def __init__(self, model: Detector):
        super().__init__()
        self.model = model

    @property
    def outputs(self) -> tuple[str, ...]:
        return RAW_OUTPUTS if hasattr(self.model.head, "centerness") else RAW_OUTPUTS[:2]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        out: DenseOutputs = self.model(self.model.normalize(images))
        found = (out.logits_BAC, out.boxes_BA4)
        return found if out.centerness_BA is None else (*found, out.centerness_BA)


class NmsGraph(nn.Module):
    """Images and the size of their content to detections, padded to the most that an image may have.

    Inputs: `images` as in `RawGraph`; `sizes` float (B, 2), (height, width) of each image's content, to which boxes are
    clipped. Outputs: `boxes` (B, N, 4) xyxy in pixels of the input, `scores` (B, N) in descending order, `labels`
    (B, N) int64, `count` (B,) int64: how many of the N are detections; the rest is 0.
    """

    outputs = NMS_OUTPUTS

    def __init__(self, model: Detector, options: PostprocessOptions):
        super().__init__()
        self.model, self.options, self.score = model, options, model.options.variant.score

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        out: DenseOutputs = self.model(self.model.normalize(images))
        return detect(out, sizes, self.options, self.score)


def detect(
    outputs: DenseOutputs, sizes_B2: Tensor, options: PostprocessOptions, score: str = "product"
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `bcd.models.postprocess.postprocess` does, for a whole batch and with outputs of fixed length."""
    classes = outputs.logits_BAC.shape[2]
    scores_BAC = outputs.logits_BAC.float().sigmoid()
    factor_BA = None if outputs.centerness_BA is None else outputs.centerness_BA.float().sigmoid()
    if factor_BA is not None and score == "sqrt":
        scores_BAC, factor_BA = (scores_BAC * factor_BA[..., None]).sqrt(), None
    chosen, label, site = [], [], []
    for level in outputs.grid.levels:
        flat_BX = scores_BAC[:, level].flatten(1)
        best_BK, index_BK = flat_BX.topk(_at_most(options.candidates_per_level, flat_BX.shape[1]), dim=1)
        chosen.append(best_BK)
        label.append(index_BK % classes)
        site.append(index_BK.div(classes, rounding_mode="floor") + level.start)
    scores_BK, labels_BK, sites_BK = (torch.cat(parts, 1) for parts in (chosen, label, site))
    # What is below the threshold gets score 0, so that the suppression never sees it.
    above_BK = scores_BK > options.score_threshold
    if factor_BA is not None:
        scores_BK = scores_BK * factor_BA.gather(1, sites_BK)
    scores_BK = scores_BK * above_BK
    boxes_BK4 = outputs.boxes_BA4.float().gather(1, sites_BK[..., None].expand(-1, -1, 4))
    limit_B14 = sizes_B2.flip(1).repeat(1, 2)[:, None]
    boxes_BK4 = torch.minimum(boxes_BK4.clamp(min=0), limit_B14)

    kept_BK = torch.ops.bcd.nms_mask(boxes_BK4, scores_BK, labels_BK, classes, options.nms_iou, options.max_detections)
    most = _at_most(options.max_detections, kept_BK.shape[1])
    ranked_BN, order_BN = torch.where(kept_BK, scores_BK, -1.0).topk(most, dim=1)
    there_BN = ranked_BN >= 0
    boxes_BN4 = boxes_BK4.gather(1, order_BN[..., None].expand(-1, -1, 4)) * there_BN[..., None]
    labels_BN = labels_BK.gather(1, order_BN) * there_BN
    return boxes_BN4, ranked_BN.clamp(min=0), labels_BN, there_BN.sum(1)


@torch.library.custom_op("bcd::nms_mask", mutates_args=())
def nms_mask(boxes: Tensor, scores: Tensor, labels: Tensor, classes: int, iou: float, most: int) -> Tensor:
    """(B, K) bool: which boxes (B, K, 4) of a score above 0 survive class-wise non-maximum suppression.

    An operator of its own, so that ONNX gets its NonMaxSuppression. That one limits the survivors of each class to
    `most`; here nothing is limited: whoever takes the best `most` of all sees the same.
    """
    kept = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    for i in range(len(scores)):
        candidates = (scores[i] > 0).nonzero()[:, 0]
        chosen = batched_nms(boxes[i][candidates], scores[i][candidates], labels[i][candidates], iou)
        kept[i, candidates[chosen]] = True
    return kept


@nms_mask.register_fake
def _(boxes: Tensor, scores: Tensor, labels: Tensor, classes: int, iou: float, most: int) -> Tensor:
    return scores.new_empty(scores.shape, dtype=torch.bool)


def _at_most(limit: int, count: int) -> int:
    """min() that stays a formula where the number of sites is open."""
    return cast(int, torch.sym_min(limit, count))
