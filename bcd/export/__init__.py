"""Detectors for other runtimes: `torch.export` programs and ONNX files, each checked against the detector itself."""

from bcd.export.onnx_file import MissingExtra, read_metadata
from bcd.export.run import ExportError, ExportReport, export_detector

__all__ = ["ExportError", "ExportReport", "MissingExtra", "export_detector", "read_metadata"]
