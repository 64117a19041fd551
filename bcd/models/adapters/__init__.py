"""Readers of foreign checkpoints: they rename parameters, they never need the foreign framework, they run no code.

Adding a framework is a file with `recognise` and `read`, and a line in `FRAMEWORKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bcd.models.adapters import mmdet, torchvision
from bcd.models.adapters.checkpoint import AdapterError, UnsafeFileError, state_dict_of
from bcd.models.adapters.foreign import Foreign, Overrides

__all__ = ["FRAMEWORKS", "AdapterError", "Foreign", "Overrides", "UnsafeFileError", "framework_of", "mmdet",
           "read_foreign", "torchvision"]  # fmt: skip

FRAMEWORKS: dict[str, tuple[Callable[..., str | None], Callable[..., Foreign]]] = {
    "mmdetection": (mmdet.recognise, mmdet.read),
    "torchvision": (torchvision.recognise, torchvision.read),
}


def framework_of(content: Any) -> tuple[str, str] | None:
    """(framework, head family) of a checkpoint's content, or None where none of ours recognises it."""
    state, _ = state_dict_of(content)
    for name, (recognise, _) in FRAMEWORKS.items():
        detector = recognise(state)
        if detector is not None:
            return name, detector
    return None


def read_foreign(content: Mapping[str, Any], overrides: Overrides = Overrides()) -> Foreign:
    """A foreign checkpoint's content as a detector of ours. Raises AdapterError with what is wrong."""
    found = framework_of(content)
    if found is None:
        state, _ = state_dict_of(content)
        first = ", ".join(sorted({".".join(str(key).split(".")[:2]) for key in state})[:8])
        raise AdapterError(
            "it is no detector that we can read: MMDetection's GFL, ATSS, FCOS or RetinaNet, or torchvision's FCOS or "
            f"RetinaNet; its keys begin with {first}"
        )
    return FRAMEWORKS[found[0]][1](content, overrides)
