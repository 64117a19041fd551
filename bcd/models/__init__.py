"""Detectors: backbones, pyramid, heads, and how their raw outputs become detections."""
