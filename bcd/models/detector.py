"""What every detector is: images in, `DenseOutputs` out, a task loss, and detections."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bcd import boxes as B
from bcd.assign.common import box_blocks
from bcd.distributed import mean_over_processes
from bcd.models.backbones import Backbone
from bcd.models.fpn import FPN
from bcd.models.heads import Head, HeadMaps, map_shapes
from bcd.models.options import DetectorOptions, Variant
from bcd.models.postprocess import PostprocessOptions, postprocess
from bcd.models.sites import Priors, site_grid
from bcd.types import DenseOutputs, Detections, HeadTrace, SiteGrid, Targets

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class DetectorInfo:
    """What a detector must carry to be used again: how to build it, its classes and its normalisation."""

    arguments: dict[str, Any]
    class_names: tuple[str, ...]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Assignment:
    """Which site learns which box. `label_BA` is C for background; `box_BA4` is only meaningful at positives.

    `site_weight_BA` is 0 at sites in the padding, else 1 (times the image's `distill_B`): the sites of distillation.
    `positives` is N+, the divisor of the task loss, a scalar tensor of at least 1. `task_weight_BA` is the weight of
    a site in the task loss: `site_weight_BA` without sites that the assigner ignores and without unlabelled images
    (None: the same as `site_weight_BA`). `divisor` is the divisor of distillation losses: N+ as if the unlabelled
    images held as many positives as the labelled ones, or one each where none is labelled (None: `positives`).
    """

    label_BA: Tensor
    box_BA4: Tensor
    positive_BA: Tensor
    site_weight_BA: Tensor
    positives: Tensor
    task_weight_BA: Tensor | None = None
    divisor: Tensor | None = None

    @property
    def task_weight(self) -> Tensor:
        return self.site_weight_BA if self.task_weight_BA is None else self.task_weight_BA

    @property
    def distill_divisor(self) -> Tensor:
        return self.positives if self.divisor is None else self.divisor


class Detector(nn.Module):
    """Base class: backbone, pyramid, head. `bcd.build_detector` makes them.

    Subclasses are made from a backbone and `DetectorOptions`, give this class their `Head` and `Priors`, and implement
    `decode`, `assign` and `task_loss`. `published` is the variant of the family's published model. `info` is what a
    file of the detector says about it; without names, classes are called "0", "1", ...
    """

    published: ClassVar[Variant] = Variant()
    head_type: ClassVar[type[Head]]

    def __init__(self, backbone: Backbone, options: DetectorOptions, priors: Priors = Priors()):
        super().__init__()
        variant = options.variant
        self.backbone = backbone
        self.fpn = FPN(
            backbone.channels,
            options.fpn_channels,
            len(options.strides),
            extra=variant.fpn_extra,
            relu=variant.fpn_relu,
        )
        self.head = self.head_type(options)
        self.strides, self.priors, self.options = options.strides, priors, options
        self.info = DetectorInfo({}, tuple(str(i) for i in range(options.num_classes)))

    @property
    def num_classes(self) -> int:
        return len(self.info.class_names)

    def normalize(self, images_B3HW: Tensor) -> Tensor:
        """uint8 RGB images to the normalised float images that `forward` takes."""
        make = _constants if torch.compiler.is_compiling() else _cached_constants
        mean, std = make(tuple(self.info.mean), tuple(self.info.std), images_B3HW.device)
        return (images_B3HW.float() - mean) / std

    def forward(self, images_B3HW: Tensor, trace: tuple[int, ...] = ()) -> DenseOutputs:
        """Normalised images (B, 3, H, W), of any height and width, to raw outputs.

        Boxes and distributions are fp32, also under autocast: bf16 would move a box by pixels. `trace` asks for the
        towers' maps at these depths (see `HeadTrace`).
        """
        features = self.fpn(self.backbone(images_B3HW))
        size = (images_B3HW.shape[-2], images_B3HW.shape[-1])
        grid = site_grid(map_shapes(features), self.strides, features[0].device, self.priors, size)
        return self.decode(self.head(features, trace), features, grid)

    def continue_from(self, trace: HeadTrace, outputs: DenseOutputs) -> DenseOutputs:
        """Raw outputs when this detector's head goes on from maps inside the towers (of another detector, say).

        `outputs` are outputs of this detector for the same images, for grid and features. Gradients flow into `trace`.
        """
        return self.decode(self.head.continue_from(trace), outputs.features, outputs.grid)

    def decode(self, maps: HeadMaps, features: tuple[Tensor, ...], grid: SiteGrid) -> DenseOutputs:
        """The maps of the head's prediction layers as raw outputs with absolute boxes."""
        raise NotImplementedError

    def assign(self, outputs: DenseOutputs, targets: Targets) -> Assignment:
        """Which site learns which box. No host synchronisation."""
        raise NotImplementedError

    def task_loss(self, outputs: DenseOutputs, targets: Targets, assigned: Assignment) -> dict[str, Tensor]:
        """Supervised loss terms by name, weighted and divided, as fp32 scalars. No host synchronisation."""
        raise NotImplementedError

    @torch.inference_mode()
    def predict(self, images_B3HW: Tensor, sizes_B2: Tensor, options: PostprocessOptions) -> list[Detections]:
        """Detections of normalised images, in pixels of the input; boxes are clipped to each image's content."""
        return self.detections(self(images_B3HW), sizes_B2, options)

    def detections(self, outputs: DenseOutputs, sizes_B2: Tensor, options: PostprocessOptions) -> list[Detections]:
        """Detections of each image from this detector's raw outputs, scored as its variant says."""
        return postprocess(replace(outputs, score=self.options.variant.score), sizes_B2, options)


def _constants(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    # `non_blocking`: the host need not wait for a copy to the device, not even the first time.
    first, second = (torch.tensor(v).to(device, non_blocking=True).view(1, 3, 1, 1) for v in (mean, std))
    return first, second


@lru_cache(maxsize=64)
def _cached_constants(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    # Kept on the device, in place of a copy from the host in every step.
    with torch.inference_mode(False):
        return _constants(mean, std, device)


def make_assignment(
    targets: Targets,
    box_BA: Tensor,
    positive_BA: Tensor,
    inside_BA: Tensor,
    num_classes: int,
    *,
    ignored_BA: Tensor | None = None,
    count_empty_images: bool = True,
) -> Assignment:
    """The `Assignment` of an assigner's decision: box index (B, A) and positive (B, A).

    Args:
        inside_BA: sites inside the image's content.
        ignored_BA: sites that take no part in the task loss (max-IoU's band between background and positive).
        count_empty_images: N+ counts an image without positives as 1 (ATSS, GFL, RetinaNet in MMDetection); FCOS
            counts the batch as a whole.
    """
    if targets.labelled_B is not None:  # what an image without labels shows is not known: it has no positives
        positive_BA = positive_BA & (targets.labelled_B > 0)[:, None]
    if targets.labels_BG.shape[1] == 0:
        label_BA = torch.full_like(box_BA, num_classes)
        box_BA4 = targets.boxes_BG4.new_zeros(*box_BA.shape, 4)
    else:
        label_BA = torch.where(positive_BA, targets.labels_BG.gather(1, box_BA), num_classes)
        box_BA4 = targets.boxes_BG4.gather(1, box_BA[..., None].expand(-1, -1, 4))
    site_weight_BA = inside_BA.float()
    if targets.distill_B is not None:
        site_weight_BA = site_weight_BA * targets.distill_B[:, None]
    task_weight_BA = divisor = None
    if ignored_BA is not None or targets.labelled_B is not None or targets.distill_B is not None:
        task_weight_BA = inside_BA.float()
        if ignored_BA is not None:
            task_weight_BA = task_weight_BA * ~ignored_BA
        if targets.labelled_B is not None:
            task_weight_BA = task_weight_BA * targets.labelled_B[:, None]
    count_B = positive_BA.sum(1).float()
    if count_empty_images:
        count_B = count_B.clamp(min=1)
    if targets.labelled_B is not None:
        count_B = count_B * targets.labelled_B
    positives = mean_over_processes(count_B.sum(), least=1.0)
    if targets.labelled_B is not None:
        both = torch.stack([targets.labelled_B.float(), torch.ones_like(count_B)]).sum(1)
        labelled, images = mean_over_processes(both).unbind()
        # Without any labelled image nobody knows: each counts as one, as an image without positives does.
        divisor = torch.where(labelled > 0, positives * images / labelled, images)
    return Assignment(label_BA, box_BA4, positive_BA, site_weight_BA, positives, task_weight_BA, divisor)


def without_ignored(assigned: Assignment, grid: SiteGrid, targets: Targets) -> Assignment:
    """The assignment without task loss at sites whose centre lies in an ignored object, unless they are positive."""
    if targets.ignored_BI4 is None:
        return assigned
    images, boxes = targets.ignored_BI4.shape[:2]
    ignored_BA = torch.zeros_like(assigned.positive_BA)
    for rows in box_blocks(images, boxes, len(grid), ignored_BA.device):
        inside_BgA4 = B.to_distances(grid.centre_A2, targets.ignored_BI4[:, rows, None])
        ignored_BA |= (inside_BgA4.amin(-1) > 0).any(1)
    return replace(assigned, task_weight_BA=assigned.task_weight * ~(ignored_BA & ~assigned.positive_BA))
