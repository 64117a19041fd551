"""Checkpoints of a run: written aside, synced and renamed, so that a file that exists is whole."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import torch


class CheckpointError(ValueError):
    """A checkpoint that cannot be resumed from, with the reason."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> Path:
    """Write tensors and plain values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(aside, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
    return path


def load_checkpoint(path: Path, *, digest: str) -> dict[str, Any]:
    """Read a checkpoint of the run whose spec has this digest. No code from the file is executed."""
    try:
        with zipfile.ZipFile(path) as parts:  # torch.load does not compare checksums
            if (bad := parts.testzip()) is not None:
                raise CheckpointError(f"{path.name} is damaged: the checksum of {bad} differs")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # damaged pickles raise anything
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(f"{path.name} is damaged: {reason[0]}") from None
    if not isinstance(state, dict) or state.get("digest") != digest:
        raise CheckpointError(f"{path.name} belongs to a run with another spec")
    return state
