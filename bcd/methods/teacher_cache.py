"""Teacher outputs computed once for images that never change.

Without augmentation a training image is the same in every epoch, and so is what the teacher says of it. The outputs
are made before the first step, in the data set's order, so they are a function of teacher and data alone and a resumed
run sees the same bits.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from bcd.data import Dataset, eval_batches
from bcd.data.loader import padded_size
from bcd.data.transforms import is_identity
from bcd.methods.base import Method, no_head
from bcd.methods.match import ClassMap
from bcd.methods.teacher import Teacher
from bcd.models.detector import Detector
from bcd.spec import JobSpec
from bcd.types import DenseOutputs, HeadTrace, SiteGrid

MOST_BYTES = 1 << 30
KEPT = frozenset({"scores", "boxes"})
_BATCH = 16


class CachedTeacher:
    """Takes the place of a `Teacher`: looks outputs up by image id. It holds scores and boxes, fp32, nothing else."""

    def __init__(self, classes: ClassMap, logits_NAC: Tensor, boxes_NA4: Tensor, grid: SiteGrid, rows: dict[int, int]):
        self.classes = classes
        self._logits_NAC, self._boxes_NA4, self._grid, self._rows = logits_NAC, boxes_NA4, grid, rows

    @property
    def bytes(self) -> int:
        return 4 * (self._logits_NAC.numel() + self._boxes_NA4.numel())

    def __call__(
        self,
        images_B3HW: Tensor,
        autocast: AbstractContextManager[Any],
        image_ids: tuple[int, ...] = (),
        trace: tuple[int, ...] = (),
    ) -> DenseOutputs:
        rows = torch.tensor([self._rows[i] for i in image_ids], device=self._logits_NAC.device)
        return DenseOutputs(self._logits_NAC[rows], self._boxes_NA4[rows], None, None, (), self._grid)

    def head(self, trace: HeadTrace, outputs: DenseOutputs, autocast: AbstractContextManager[Any]) -> DenseOutputs:
        return no_head(trace)  # worth_caching() keeps methods that would need it away


def worth_caching(spec: JobSpec, dataset: Dataset, methods: list[Method], student: Detector) -> bool:
    """Whether the outputs can be kept and are used more than once.

    Never looks at where a run stands: an uninterrupted and a resumed run must decide alike.
    """
    shapes = {padded_size(record.height, record.width, spec.data) for record in dataset.records}
    if spec.teacher is None or spec.teacher.cache == "off" or not is_identity(spec.data.augment) or len(shapes) != 1:
        return False
    height, width = shapes.pop()
    sites = sum(-(-height // s) * -(-width // s) for s in spec.student.strides)
    size = 4 * len(dataset) * sites * (student.num_classes + 4)
    seen = spec.schedule.steps * spec.schedule.batch_size
    return size <= MOST_BYTES and seen > len(dataset) and all(method.needs <= KEPT for method in methods)


def cache_outputs(
    teacher: Teacher, dataset: Dataset, spec: JobSpec, device: torch.device, autocast: AbstractContextManager[Any]
) -> CachedTeacher:
    """Run the teacher once over all images of the data set."""
    logits: Tensor | None = None
    boxes: Tensor | None = None
    grid: SiteGrid | None = None
    rows: dict[int, int] = {}
    for batch in eval_batches(dataset, spec.data, batch_size=_BATCH):
        ids = tuple(dataset.records[i].id for i in batch.indices)
        out = teacher(batch.images_B3HW.to(device), autocast, ids)
        if logits is None or boxes is None:
            logits = torch.empty(len(dataset), *out.logits_BAC.shape[1:], device=device)
            boxes = torch.empty(len(dataset), *out.boxes_BA4.shape[1:], device=device)
        span = slice(len(rows), len(rows) + len(ids))
        logits[span], boxes[span], grid = out.logits_BAC.float(), out.boxes_BA4.float(), out.grid
        rows.update({image_id: len(rows) + n for n, image_id in enumerate(ids)})
    assert logits is not None
    assert boxes is not None
    assert grid is not None
    return CachedTeacher(teacher.classes, logits, boxes, grid, rows)
