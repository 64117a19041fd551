"""ONNX files: translation of a detector's graph, its description inside the file, and a session that runs it."""

from __future__ import annotations

import importlib
import json
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

OPSET = 18
PREFIX = "bcd."


class MissingExtra(RuntimeError):
    """The packages of the extra `export` are not installed."""


def need(*modules: str) -> list[Any]:
    """The modules of the extra `export`, by name. Raises `MissingExtra` that says how to install them."""
    try:
        return [importlib.import_module(name) for name in modules]
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"ONNX needs the package {error.name}, which is not installed: pip install 'bcd[export]' "
            "(or --format torch, which needs nothing more)"
        ) from None


def write_onnx(
    program: torch.export.ExportedProgram,
    path: Path,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    axes: Mapping[str, Sequence[str]],
    metadata: Mapping[str, Any],
) -> None:
    """Write an exported program as ONNX.

    `axes` names the open dimensions of inputs and outputs ("" for a fixed one). `metadata` goes into the file's
    metadata_props as `bcd.KEY`; values that are no strings as JSON.
    """
    onnx, _ = need("onnx", "onnxscript")
    for noisy in ("onnxscript", "torch.onnx"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = torch.onnx.export(
            program,
            (),
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            custom_translation_table={torch.ops.bcd.nms_mask.default: _nms_translation()},
            verbose=False,
        )
    assert written is not None
    model = written.model_proto
    for value in [*model.graph.input, *model.graph.output]:
        for dim, name in zip(value.type.tensor_type.shape.dim, axes.get(value.name, ()), strict=False):
            if name:
                dim.dim_param = name
    # Shapes between input and output still use the exporter's own names for open dimensions, and every node tells
    # where in which file on this machine it came from.
    del model.graph.value_info[:]
    for part in [model.graph, *model.graph.node, *model.functions, *(n for f in model.functions for n in f.node)]:
        del part.metadata_props[:]
        part.doc_string = ""
    set_metadata(model, metadata)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def set_metadata(model: Any, metadata: Mapping[str, Any]) -> None:
    """Put `metadata` into a model's metadata_props, in place of what bcd wrote there before."""
    onnx = need("onnx")[0]
    kept = {p.key: p.value for p in model.metadata_props if not p.key.startswith(PREFIX)}
    kept |= {
        PREFIX + key: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for key, value in metadata.items()
    }
    onnx.helper.set_model_props(model, kept)


def read_metadata(path: Path) -> dict[str, Any]:
    """What bcd wrote into a file's metadata_props."""
    onnx = need("onnx")[0]
    found = {p.key.removeprefix(PREFIX): p.value for p in onnx.load(str(path), load_external_data=False).metadata_props}
    return {key: _plain(value) for key, value in found.items()}


def _plain(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


class OnnxSession:
    """Runs an ONNX file on the CPU with `threads` threads; tensors in and out by position."""

    def __init__(self, path: Path, threads: int | None = None):
        runtime = need("onnxruntime")[0]
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = [value.name for value in self._session.get_inputs()]
        self.outputs = [value.name for value in self._session.get_outputs()]

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        feed: dict[str, NDArray[Any]] = {
            name: np.ascontiguousarray(tensor.numpy()) for name, tensor in zip(self.inputs, tensors, strict=True)
        }
        return tuple(torch.from_numpy(np.asarray(value)) for value in self._session.run(None, feed))


def _nms_translation() -> Callable[..., Any]:
    """`bcd::nms_mask` in ONNX: NonMaxSuppression over one row of scores for each class, then a mask."""
    op: Any = importlib.import_module("onnxscript").opset18

    def translate(boxes: Any, scores: Any, labels: Any, classes: int, iou: float, most: int) -> Any:
        one = op.Constant(value_ints=[1])
        known = op.Reshape(op.Constant(value_ints=list(range(classes))), op.Constant(value_ints=[1, classes, 1]))
        mine = op.Equal(op.Unsqueeze(labels, one), known)
        # A score of 0 is never looked at: a box stands in the row of its own class alone.
        scores_by_class = op.Mul(op.Unsqueeze(scores, one), op.Cast(mine, to=1))
        chosen = op.NonMaxSuppression(
            boxes,
            scores_by_class,
            op.Constant(value_ints=[most]),
            op.Constant(value_floats=[iou]),
            op.Constant(value_floats=[0.0]),
        )
        where = op.Gather(chosen, op.Constant(value_ints=[0, 2]), axis=1)
        number = op.Slice(op.Shape(chosen), op.Constant(value_ints=[0]), one)
        ones = op.Expand(op.Constant(value_floats=[1.0]), number)
        nothing = op.Mul(scores, op.Constant(value_floats=[0.0]))
        return op.Cast(op.ScatterND(nothing, where, ones), to=9)

    return translate
