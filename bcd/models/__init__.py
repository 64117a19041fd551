"""Detectors: backbones, pyramid, heads, and how their raw outputs become detections."""

from bcd.models import adapters

__all__ = ["adapters"]
