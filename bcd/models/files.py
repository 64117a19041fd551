"""Detectors as files: plain safetensors whose header says how to build the model, its classes and normalisation.

The file holds the detector alone. A distilled student is a student like any other: no wrapper, no teacher in it. Its
header carries a content hash, which names the detector wherever it is copied to.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from bcd.models.adapters import AdapterError, read_foreign
from bcd.models.adapters.checkpoint import file_format, read_checkpoint
from bcd.models.build import build_detector
from bcd.models.detector import Detector, DetectorInfo

FORMAT = "bcd-detector-1"


class DetectorFileError(ValueError):
    """A file that is not a detector written by bcd, or not one that this version can build."""


def save_detector(model: Detector, path: str | Path) -> Path:
    """Write the model's weights, description and content hash; the file appears whole or not at all."""
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
    described = json.dumps(header, sort_keys=True)
    metadata = {"format": FORMAT, "detector": described, "sha256": content_hash(described, tensors)}
    content = save(tensors, metadata=metadata)
    with open(aside, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
    return path


def content_hash(described: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256, in hex, of a detector's description and of every parameter's name, type, shape and bytes."""
    digest = hashlib.sha256(described.encode())
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"\n{name} {value.dtype} {list(value.shape)}\n".encode())
        # A scalar cannot be seen as bytes; reshaping copies nothing.
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def detector_path(where: str | Path) -> Path:
    """The file that a path, a folder with `student.safetensors` or a `file://` URI names.

    Raises:
        DetectorFileError: no such file, or a URI that is not on this machine.
    """
    if isinstance(where, str) and "://" in where:
        parts = urlsplit(where)
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            raise DetectorFileError(f"{where} is not on this machine: download it and give the file")
        where = unquote(parts.path)
    path = Path(where)
    if path.is_dir():
        path = path / "student.safetensors"
    if not path.is_file():
        raise DetectorFileError(f"no such detector file: {path}")
    return path


def load_detector(path: str | Path) -> Detector:
    """The detector that a file describes, in evaluation mode, on the CPU.

    Args:
        path: a .safetensors file written by bcd, a folder that holds `student.safetensors`, a `file://` URI of either,
            or a checkpoint of MMDetection or torchvision that says everything about itself. No code in a file is run.

    Raises:
        DetectorFileError: no such file, no detector, damaged, or weights that do not fit the description.
    """
    path = detector_path(path)
    if path.suffix != ".safetensors" and not _is_safetensors(path):
        return _load_foreign(path)
    header, tensors, _ = read_detector_file(path)
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


def read_detector_file(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, str]]:
    """(description, parameters, the file's own metadata) of a file written by bcd. Raises DetectorFileError."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise DetectorFileError(
                    f"{path} was not written by bcd (no {FORMAT!r} header); `bcd teacher inspect` says what it is and "
                    "`bcd teacher import` converts MMDetection's and torchvision's detectors"
                )
            header = json.loads(metadata["detector"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, json.JSONDecodeError, KeyError, OSError) as error:
        raise DetectorFileError(f"{path} is damaged or no safetensors file: {error}") from None
    return header, tensors, metadata


def _is_safetensors(path: Path) -> bool:
    try:
        return file_format(path) == "safetensors"
    except AdapterError:
        return False


def _load_foreign(path: Path) -> Detector:
    try:
        checkpoint = read_checkpoint(path)
        return read_foreign(checkpoint.content).build()
    except AdapterError as error:
        text = str(error).removeprefix(f"{path} ")
        raise DetectorFileError(f"{path}: {text} (`bcd teacher inspect` says more)") from None
