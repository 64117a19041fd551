"""A detector as a `torch.export` program with an open batch size and, where its graph allows, open height and width."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from bcd.export.graph import NmsGraph, RawGraph
from bcd.models.detector import Detector
from bcd.models.postprocess import PostprocessOptions

UNIT = 32  # heights and widths are multiples of this, as bcd's batches are
LARGEST = 8192

Size = tuple[int, int]


@dataclass(frozen=True)
class Program:
    """An exported graph. `size` is the fixed (height, width), None where both are open; `example` is a size that it
    takes; `remark` says why a size is fixed though nobody asked for it."""

    graph: RawGraph | NmsGraph
    exported: ExportedProgram
    size: Size | None
    example: Size
    smallest: int
    remark: str | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        return ("images", "sizes") if isinstance(self.graph, NmsGraph) else ("images",)

    @property
    def axes(self) -> dict[str, tuple[str, ...]]:
        """Names of open dimensions of inputs and outputs; "" for fixed ones."""
        sides = ("height", "width") if self.size is None else ("", "")
        sites = "sites" if self.size is None else ""
        return {
            "images": ("batch", "", *sides),
            "sizes": ("batch", ""),
            "logits": ("batch", sites, ""),
            "boxes": ("batch", "" if isinstance(self.graph, NmsGraph) else sites, ""),
            "centerness": ("batch", sites),
            "scores": ("batch", ""),
            "labels": ("batch", ""),
            "count": ("batch",),
        }

    def inputs_for(self, images_B3HW: Tensor, sizes_B2: Tensor) -> tuple[Tensor, ...]:
        """What the graph takes for uint8 or float images (B, 3, H, W) and their content sizes."""
        return (images_B3HW.float(), sizes_B2)[: len(self.inputs)]


def export_program(model: Detector, *, nms: PostprocessOptions | None, size: Size | None, example: Size) -> Program:
    """Trace a detector.

    Args:
        model: in evaluation mode, on the CPU.
        nms: settings of the detections, or None for raw outputs.
        size: fix (height, width), multiples of 32; None keeps both open where the graph allows it.
        example: the size at which the model will mostly run; the graph is traced near it.
    """
    model = model.cpu().eval().requires_grad_(False)
    graph = (RawGraph(model) if nms is None else NmsGraph(model, nms)).eval()
    smallest = (max(model.strides) // UNIT + 1) * UNIT
    if size is not None:
        return Program(graph, _trace(graph, size, False, smallest), size, size, smallest)
    # Tracing takes a height or width of one cell for a constant, and equal sides for the same number.
    near = max(example[0], smallest), max(example[1], smallest)
    traced = near if near[0] != near[1] else (near[0], near[1] + UNIT)
    try:
        return Program(graph, _trace(graph, traced, True, smallest), None, near, smallest)
    except Exception as error:  # the exporter raises anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        remark = f"height and width are fixed: this graph cannot keep them open ({reason})"
        return Program(graph, _trace(graph, example, False, smallest), example, example, smallest, remark)


def _trace(graph: RawGraph | NmsGraph, size: Size, open_size: bool, smallest: int) -> ExportedProgram:
    # Batch 2: a batch of 1 would be taken for a constant.
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)) * 255
    sizes = torch.tensor([size, size], dtype=torch.float32)
    batch = Dim("batch", min=1)
    axes: dict[int, Any] = {0: batch}
    if open_size:
        least, most = smallest // UNIT, LARGEST // UNIT
        axes |= {2: UNIT * Dim("rows", min=least, max=most), 3: UNIT * Dim("columns", min=least, max=most)}
    shapes: dict[str, Any] = {"images": axes}
    inputs: tuple[Tensor, ...] = (images,)
    if isinstance(graph, NmsGraph):
        shapes["sizes"], inputs = {0: batch}, (images, sizes)
    with torch.no_grad(), quiet():
        exported = torch.export.export(graph, inputs, dynamic_shapes=shapes)
    for node in exported.graph.nodes:  # places in files of this machine are nobody's business
        node.meta.pop("stack_trace", None)
    return exported


def write_program(program: Program, path: Path, metadata: dict[str, str]) -> None:
    """Write as a .pt2 file with `metadata` as extra files."""
    buffer = io.BytesIO()
    with quiet():
        torch.export.save(program.exported, buffer, extra_files=metadata)
    path.write_bytes(buffer.getvalue())


def read_program(path: Path) -> Any:
    """The module of a .pt2 file."""
    with quiet():
        return torch.export.load(io.BytesIO(path.read_bytes())).module()


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's warnings about itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
