"""Weights and inputs of the golden values: made by rule from each parameter's name, so no weights are stored."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch

import bcd
from bcd.models.adapters.mmdet import convert_state_dict
from bcd.models.detector import Detector

FOLDER = Path(__file__).parent.parent / "golden"
STEP = json.loads((FOLDER / "gfl_r18.json").read_text())


def golden_arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / name) as file:
        return {key: file[key] for key in file.files}


def golden_state_dict(prefix: str = "") -> dict[str, torch.Tensor]:
    """The official model's parameters under MMDetection's names."""
    return {key: _value(key, tuple(shape), prefix) for key, shape in STEP["keys"].items()}


def golden_model(prefix: str = "") -> Detector:
    model = bcd.build_detector("gfl", backbone="resnet18", num_classes=80)
    model.load_state_dict(convert_state_dict(golden_state_dict(prefix), num_classes=80), strict=True)
    return model.eval()


def golden_images() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 256, 320)).astype(np.float32))


def _value(key: str, shape: tuple[int, ...], prefix: str) -> torch.Tensor:
    z = np.random.default_rng(zlib.crc32((prefix + key).encode())).standard_normal(shape)
    if key.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.long)
    if key.endswith("integral.project"):
        value = np.arange(17.0)
    elif key.endswith("running_mean"):
        value = 0.1 * z
    elif key.endswith("running_var"):
        value = 1 + 0.1 * np.abs(z)
    elif key.endswith(".scale"):
        value = 1 + 0.1 * z
    elif len(shape) == 4:
        value = z * math.sqrt(2 / math.prod(shape[1:]))
    elif key == "bbox_head.gfl_cls.bias":
        value = np.full(shape, -math.log(0.99 / 0.01))
    elif key.endswith(".weight"):
        value = 1 + 0.1 * z
    else:
        value = 0.1 * z
    return torch.from_numpy(np.asarray(value, dtype=np.float32))
