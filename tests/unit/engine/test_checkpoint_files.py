"""A checkpoint file is data: whatever it asks to be called is not called."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from bcd.engine.checkpoint import CheckpointError, load_checkpoint
from bcd.models.files import DetectorFileError, load_detector


class Call:
    """Asks, when unpickled, for a function to be called."""

    def __init__(self, function: object, *args: object):
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.function, self.args


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "ran"


@pytest.mark.parametrize("shape", ["torch", "torch-old", "pickle"])
@pytest.mark.parametrize("name", ["step-00000004.ckpt", "student.safetensors"])
def test_a_malicious_file_is_not_resumed_from_and_nothing_runs(
    tmp_path: Path, mark: Path, shape: str, name: str
) -> None:
    path = tmp_path / name
    state = {"digest": "d", "model": {}, "extra": Call(os.mkdir, str(mark))}
    if shape == "pickle":
        path.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=shape == "torch")
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path, digest="d")
    with pytest.raises(DetectorFileError):
        load_detector(path)
    assert not mark.exists()
    # the file is what it says it is: whoever unpickled it would run the call
    if shape == "pickle":
        pickle.loads(path.read_bytes())
        assert mark.is_dir()
