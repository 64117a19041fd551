"""Data sets in one internal form, and the batches made of them. `open_data` is the door for every kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bcd.data.coco import open_coco, open_coco_val
from bcd.data.digits import open_digits
from bcd.data.images import FileDataset, check_root
from bcd.data.loader import Batch, EvalBatch, eval_batches, prefetch, train_batch
from bcd.data.records import DataError, Dataset, Faults, ImageRecord, Progress, Splits
from bcd.data.unlabeled import open_unlabeled
from bcd.data.voc import open_voc, open_voc_val
from bcd.data.yolo import open_yolo, open_yolo_val
from bcd.spec import DigitsData

if TYPE_CHECKING:
    from bcd.spec import DataSpec

__all__ = [
    "Batch",
    "DataError",
    "Dataset",
    "EvalBatch",
    "ImageRecord",
    "Splits",
    "eval_batches",
    "open_data",
    "open_val",
    "prefetch",
    "train_batch",
]


def open_data(spec: DataSpec, *, cache_dir: Path | None = None, progress: Progress | None = None) -> Splits:
    """All parts of the data set that a spec names.

    `cache_dir` keeps generated scenes between runs; `progress` gets a line of text now and then while something
    takes long. Raises `DataError`.
    """
    if isinstance(spec, DigitsData):
        return open_digits(spec, cache_dir, progress)
    reader: Any = {"coco": open_coco, "voc": open_voc, "yolo": open_yolo}[spec.type]
    splits: Splits = reader(spec, progress)
    train = splits.train
    assert isinstance(train, FileDataset)
    if spec.skip_empty:
        train = train.without_empty()
    more = None
    if spec.unlabeled is not None:
        faults = Faults(spec.on_invalid)
        more = open_unlabeled(spec.unlabeled, check_root(spec.root), train, faults, train.cache, progress)
    splits = Splits(train, splits.val, more)
    if progress:
        for line in _remarks(splits):
            progress(line)
    return splits


def open_val(spec: DataSpec, *, cache_dir: Path | None = None, progress: Progress | None = None) -> Dataset:
    """The validation part alone, without a look at the training images. Raises `DataError`."""
    if isinstance(spec, DigitsData):
        return open_digits(spec, cache_dir, progress).val
    reader: Any = {"coco": open_coco_val, "voc": open_voc_val, "yolo": open_yolo_val}[spec.type]
    found: Dataset = reader(spec, progress)
    return found


def _remarks(splits: Splits) -> Iterator[str]:
    """What someone should know about a data set that was read without an error."""
    for role, dataset in (("train", splits.train), ("val", splits.val), ("unlabelled", splits.unlabeled)):
        if dataset is None:
            continue
        for reason, count in sorted(dataset.skipped.items()):
            yield f"{role}: left out {count:,} x {reason}"
        for note, count in sorted(dataset.notes.items()):
            yield f"{role}: {count:,} x {note}"
        if dataset.clipped:
            yield f"{role}: cut {dataset.clipped:,} boxes at the image's edge"
    if isinstance(splits.train, FileDataset) and isinstance(splits.val, FileDataset):
        shared = set(splits.train.paths) & set(splits.val.paths)
        if shared:
            example = min(shared).name
            yield f"warning: {len(shared):,} images are in both train and val (such as {example}); AP flatters"
        seen = set(splits.unlabeled.paths) & set(splits.val.paths) if isinstance(splits.unlabeled, FileDataset) else ()
        if seen:
            yield f"warning: {len(seen):,} unlabelled images are in val too (such as {min(seen).name}); AP flatters"
