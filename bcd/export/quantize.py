"""INT8 by onnxruntime's static quantisation: convolutions in 8 bits, calibrated on training images.

Static, not dynamic: the dynamic form measures every activation at every call, which makes convolutions slower than
fp32 on a CPU. The prediction layers stay in fp32: they are a few percent of the work, and an error there is an error
of the score or the box itself.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bcd.export.onnx_file import need
from bcd.export.program import quiet

_PREDICTION = re.compile(r"head\.(cls|reg|centerness)\.weight$")


def quantize(source: Path, target: Path, feeds: Iterable[dict[str, Any]], folder: Path) -> list[str]:
    """Write `target`, the 8-bit form of `source`; `feeds` are the inputs to calibrate on. Files between go to `folder`.

    Returns the names of the layers that were kept in fp32.
    """
    onnx, quantization = need("onnx", "onnxruntime.quantization")
    (pre_process,) = need("onnxruntime.quantization.shape_inference")
    prepared = folder / "prepared.onnx"
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # the tool logs its advice on the root logger
    try:
        with quiet():
            pre_process.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            graph = onnx.load(str(prepared)).graph
            convolutions = [node for node in graph.node if node.op_type == "Conv"]
            kept = [node for node in convolutions if _PREDICTION.search(node.input[1])]
            quantization.quantize_static(
                str(prepared),
                str(target),
                _Reader(feeds),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                nodes_to_exclude=[node.name for node in kept],
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                # Without VNNI the products of full 8-bit weights overflow their 16-bit sums.
                reduce_range=not _has_vnni(),
            )
    finally:
        root.setLevel(level)
    return [node.input[1] for node in kept]


class _Reader:
    """onnxruntime's CalibrationDataReader by duck type."""

    def __init__(self, feeds: Iterable[dict[str, Any]]):
        self._feeds: Iterator[dict[str, Any]] = iter(feeds)

    def get_next(self) -> dict[str, Any] | None:
        feed = next(self._feeds, None)
        return None if feed is None else {name: np.ascontiguousarray(value) for name, value in feed.items()}


def _has_vnni() -> bool:
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
