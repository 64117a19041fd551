"""The validation part alone is the same data set as beside the training part, and asks nothing of the training part."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from bcd.data import DataError, open_data, open_val
from bcd.spec import DataSpec
from tests.helpers.tiny_sets import write_tiny_coco, write_tiny_voc

WRITERS = {"coco": write_tiny_coco, "voc": write_tiny_voc}


@pytest.mark.parametrize("kind", sorted(WRITERS))
def test_validation_alone_is_the_same_and_needs_no_training_images(kind: str, tmp_path: Path):
    spec = TypeAdapter(DataSpec).validate_python(WRITERS[kind](tmp_path))
    both = open_data(spec)
    if kind == "coco":
        shutil.rmtree(tmp_path / "train")
    else:
        for path in both.train.paths:
            path.unlink()
    alone = open_val(spec)
    assert (alone.content_hash, alone.class_names) == (both.val.content_hash, both.val.class_names)
    with pytest.raises(DataError):
        open_data(spec)
