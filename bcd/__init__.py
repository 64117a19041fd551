"""bcd: distil dense object detectors. Importing this package imports no torch; names load on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bcd.models.build import build_detector as build_detector
    from bcd.models.files import load_detector as load_detector

_WHERE = {
    "build_detector": "bcd.models.build",
    "load_detector": "bcd.models.files",
    "losses": "bcd.losses",
    "models": "bcd.models",
    "spec": "bcd.spec",
}
__all__ = ["__version__", "build_detector", "load_detector"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'bcd' has no attribute {name!r}")
    module = import_module(_WHERE[name])
    return module if name in ("losses", "models", "spec") else getattr(module, name)
