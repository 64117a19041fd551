"""From dense outputs to detections: best candidates of each level, class-wise NMS, best detections of the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from bcd import boxes as B
from bcd.types import DenseOutputs, Detections


@dataclass(frozen=True)
class PostprocessOptions:
    """Published test settings of GFL (COCO)."""

    score_threshold: float = 0.05
    candidates_per_level: int = 1000
    nms_iou: float = 0.6
    max_detections: int = 100


def postprocess(outputs: DenseOutputs, sizes_B2: Tensor, options: PostprocessOptions) -> list[Detections]:
    """Detections of each image. `sizes_B2`: (height, width) to which boxes are clipped.

    Scores are the class probabilities, times centerness where a head has one. With `outputs.score` "product"
    (MMDetection) candidates are chosen by class probability alone and centerness joins before suppression; with
    "sqrt" (torchvision) the score is the root of the product from the start.
    """
    scores_BAC = outputs.logits_BAC.float().sigmoid()
    factor_BA = None if outputs.centerness_BA is None else outputs.centerness_BA.float().sigmoid()
    if factor_BA is not None and outputs.score == "sqrt":
        scores_BAC, factor_BA = (scores_BAC * factor_BA[..., None]).sqrt(), None
    return [
        _one_image(
            scores_BAC[i],
            None if factor_BA is None else factor_BA[i],
            outputs.boxes_BA4[i].float(),
            sizes_B2[i],
            outputs.grid.levels,
            options,
        )
        for i in range(len(sizes_B2))
    ]


def _one_image(
    scores_AC: Tensor,
    factor_A: Tensor | None,
    boxes_A4: Tensor,
    size_2: Tensor,
    levels: tuple[slice, ...],
    options: PostprocessOptions,
) -> Detections:
    classes = scores_AC.shape[1]
    score, label, box = [], [], []
    for level in levels:
        flat = scores_AC[level].flatten()
        best, index = flat.topk(min(options.candidates_per_level, flat.numel()))
        keep = best > options.score_threshold
        best, index = best[keep], index[keep]
        site = index.div(classes, rounding_mode="floor")
        score.append(best if factor_A is None else best * factor_A[level][site])
        label.append(index % classes)
        box.append(boxes_A4[level][site])
    scores_K, labels_K = torch.cat(score), torch.cat(label)
    boxes_K4 = B.clip(torch.cat(box), size_2[0], size_2[1])
    kept = batched_nms(boxes_K4, scores_K, labels_K, options.nms_iou)[: options.max_detections]
    return Detections(boxes_K4[kept], scores_K[kept], labels_K[kept])
