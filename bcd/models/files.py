"""Detectors as files: plain safetensors whose header says how to build the model, its classes and normalisation.

The file holds the detector alone. A distilled student is a student like any other: no wrapper, no teacher in it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from bcd.models.build import build_detector
from bcd.models.detector import Detector, DetectorInfo

FORMAT = "bcd-detector-1"


class DetectorFileError(ValueError):
    """A file that is not a detector written by bcd, or not one that this version can build."""


def save_detector(model: Detector, path: str | Path) -> Path:
    """Write the model's weights and description; the file appears whole or not at all."""
    path = Path(path)
    info = model.info
    header = {
        "arguments": info.arguments,
        "class_names": list(info.class_names),
        "mean": list(info.mean),
        "std": list(info.std),
        "extra": info.extra,
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # Not save_file(): it makes the file unreadable for others, whatever the umask says.
    content = save(tensors, metadata={"format": FORMAT, "detector": json.dumps(header, sort_keys=True)})
    with open(aside, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
    return path


def load_detector(path: str | Path) -> Detector:
    """Build the detector that a file describes, in evaluation mode, on the CPU.

    Args:
        path: a .safetensors file written by bcd, or a folder that holds `student.safetensors`.

    Raises:
        DetectorFileError: no such file, not written by bcd, damaged, or weights that do not fit the description.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "student.safetensors"
    if not path.is_file():
        raise DetectorFileError(f"no such detector file: {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise DetectorFileError(
                    f"{path} was not written by bcd (no {FORMAT!r} header); convert it first, "
                    "for MMDetection see bcd.models.adapters.mmdet.convert_state_dict"
                )
            header = json.loads(metadata["detector"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, json.JSONDecodeError, KeyError, OSError) as error:
        raise DetectorFileError(f"{path} is damaged or no safetensors file: {error}") from None
    try:
        # Building draws random weights; the caller's generator must not notice.
        with torch.random.fork_rng(devices=[]):
            model = build_detector(**header["arguments"], class_names=header["class_names"])
        model.load_state_dict(tensors, strict=True)
        info = model.info
        model.info = DetectorInfo(
            info.arguments, info.class_names, tuple(header["mean"]), tuple(header["std"]), header.get("extra", {})
        )
    except (ValueError, TypeError, RuntimeError, KeyError) as error:
        raise DetectorFileError(f"{path} does not fit this version of bcd: {error}") from None
    return model.eval()
