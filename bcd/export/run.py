"""`bcd export` as a function: write the file, prove that it says the same, measure it, and report."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from bcd import __version__
from bcd.cost import device_name, interleaved_latency
from bcd.data import Dataset, eval_batches, open_data
from bcd.data.loader import PADDING
from bcd.export.onnx_file import OnnxSession, need, write_onnx
from bcd.export.parity import Parity, Run, as_detections, compare
from bcd.export.program import UNIT, Program, Size, export_program, read_program, write_program
from bcd.export.quantize import quantize
from bcd.methods.match import ClassMap, MatchError
from bcd.models.detector import Detector
from bcd.models.files import load_detector
from bcd.models.postprocess import PostprocessOptions
from bcd.sample import Known, average_precision, detections, pick
from bcd.spec import DataSpec, EvaluationSpec
from bcd.types import DenseOutputs, Detections

Format = Literal["torch", "onnx"]
ENDINGS = {"torch": ".pt2", "onnx": ".onnx"}
CALIBRATION_IMAGES = 64
REPEATS = 20


class ExportError(RuntimeError):
    """An export that cannot be done or did not pass its check, with what to change."""


@dataclass(frozen=True)
class ExportReport:
    """What was written and what was measured; `as_dict()` is what stands in the JSON file beside it."""

    path: Path
    values: dict[str, Any] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        return {"file": self.path.name, **self.values}


def export_detector(
    source: Path | str,
    *,
    format: Format = "onnx",
    nms: bool = False,
    int8: bool = False,
    size: Size | None = None,
    out: Path | None = None,
    data: DataSpec | None = None,
    evaluation: EvaluationSpec | None = None,
    images: int = 200,
    data_cache: Path | None = None,
    repeats: int = REPEATS,
    progress: Callable[[str], None] = lambda text: None,
) -> ExportReport:
    """Export a detector file and check the result against the detector itself.

    The graph takes `images`, float RGB 0..255 (B, 3, H, W): normalisation is part of it. Raw outputs are `logits`,
    `boxes` and, where there is one, `centerness`; with `nms` also an input `sizes`, and `boxes`, `scores`, `labels`,
    `count` come out (see `bcd.export.graph`). The file appears only when its check has passed.

    Args:
        source: a detector written by bcd.
        format: "torch" (.pt2, `torch.export.load`) or "onnx".
        nms: everything up to detections in the graph, with the thresholds of `evaluation`.
        int8: 8-bit convolutions (ONNX only); needs `data` to calibrate on.
        size: fix (height, width), multiples of 32. Default: both stay open, in multiples of 32.
        out: folder of the files. Default: beside the source.
        data: a data set for real images in the check, AP before and after, and calibration.
        images: most validation images on which AP is taken.
        repeats: measured rounds of the latency report.

    Raises:
        ExportError: settings that do not go together, or a file that differs from the detector.
        MissingExtra: ONNX without the packages of the extra `export`.
        DetectorFileError, DataError: no such file, or one that cannot be used.
    """
    source = Path(source)
    if source.is_dir():
        source = source / "student.safetensors"
    _refuse(format, int8, size, data)
    if format == "onnx":
        need("onnx", "onnxscript", "onnxruntime")
    model = load_detector(source)
    evaluation = evaluation or EvaluationSpec()
    options = PostprocessOptions(
        evaluation.score_threshold, evaluation.nms_candidates, evaluation.nms_iou, evaluation.max_detections
    )
    progress("tracing the graph")
    program = export_program(model, nms=options if nms else None, size=size, example=size or usual_size(model, data))
    metadata = _metadata(source, model, program, options if nms else None)
    folder = out or source.parent
    folder.mkdir(parents=True, exist_ok=True)
    name = source.stem + (".nms" if nms else "") + (".int8" if int8 else "") + ENDINGS[format]
    splits = None if data is None else open_data(data, cache_dir=data_cache, progress=progress)
    report: dict[str, Any] = {"format": format, **metadata}
    if program.remark:
        report["remark"] = program.remark

    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}.") as made:
        aside = Path(made) / ("fp32" + ENDINGS[format])
        progress(f"writing {name}")
        run = _write(program, aside, format, metadata)
        batches = _random_batches(program)
        if splits is not None and data is not None:
            batches += _real_batches(splits.val, data, program)
        progress("comparing with torch")
        parity = compare(program, run, batches)
        report["parity"] = parity.as_dict()
        if not parity.passed:
            raise ExportError(_difference(parity))
        runs: dict[str, Run] = {"torch": program.graph, ("onnxruntime" if format == "onnx" else "program"): run}
        if int8:
            assert splits is not None
            assert data is not None
            progress(f"calibrating on {min(CALIBRATION_IMAGES, len(splits.train))} training images")
            eight = Path(made) / "int8.onnx"
            kept = quantize(aside, eight, _calibration(splits.train, data, program), Path(made))
            _describe(eight, {**metadata, "int8": True})
            runs["int8"] = OnnxSession(eight)
            report["int8"] = {
                "calibration_images": min(CALIBRATION_IMAGES, len(splits.train)),
                "kept_in_fp32": kept,
                # Not a check: 8 bits are not meant to be within 1e-4. AP below is what counts.
                "difference_from_torch": compare(program, runs["int8"], batches).as_dict()["largest_difference"],
            }
            aside = eight
        if splits is not None and data is not None:
            progress("taking AP")
            report["accuracy"] = _accuracy(program, model, runs, splits.val, data, evaluation, options, images)
        progress("measuring latency")
        report["latency"] = _latency(program, runs, repeats)
        report["bytes"] = aside.stat().st_size
        path = folder / name
        with open(aside, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(aside, path)
    result = ExportReport(path, report)
    _write_json(folder / f"{name}.json", result.as_dict())
    return result


def usual_size(model: Detector, data: DataSpec | None = None) -> Size:
    """(height, width) at which a detector mostly runs: the data's, else that of its training, else 640 x 640."""
    given = data.image_size if data is not None else model.info.extra.get("image_size")
    if isinstance(given, int):
        given = (given, given)
    if not (isinstance(given, list | tuple) and len(given) == 2 and all(isinstance(v, int) for v in given)):
        given = (640, 640)
    height, width = (-(-side // UNIT) * UNIT for side in given)
    return height, width


def _refuse(format: Format, int8: bool, size: Size | None, data: DataSpec | None) -> None:
    if format not in ENDINGS:
        raise ExportError(f"unknown format {format!r}; known: {', '.join(ENDINGS)}")
    if int8 and format != "onnx":
        raise ExportError("8 bits need ONNX: use --format onnx, or drop --int8")
    if int8 and data is None:
        raise ExportError("8 bits are calibrated on images: give --data SPEC, a spec whose data set fits the detector")
    if size is not None and any(side < UNIT or side % UNIT for side in size):
        raise ExportError(f"height and width must be multiples of {UNIT}, not {size[0]}x{size[1]}")


def _write(program: Program, path: Path, format: Format, metadata: dict[str, Any]) -> Run:
    """Write the file and return what runs it: the file itself is read back, not what lies in memory."""
    if format == "torch":
        write_program(program, path, {"bcd.json": json.dumps(metadata, sort_keys=True)})
        module: Run = read_program(path)
        return module
    write_onnx(
        program.exported,
        path,
        inputs=program.inputs,
        outputs=program.graph.outputs,
        axes=program.axes,
        metadata=metadata,
    )
    return OnnxSession(path)


def _describe(path: Path, metadata: dict[str, Any]) -> None:
    from bcd.export.onnx_file import set_metadata

    onnx = need("onnx")[0]
    model = onnx.load(str(path))
    set_metadata(model, metadata)
    path.write_bytes(model.SerializeToString())


def _metadata(source: Path, model: Detector, program: Program, nms: PostprocessOptions | None) -> dict[str, Any]:
    """What someone needs to use the file without bcd."""
    content = source.read_bytes()
    return {
        "bcd_version": __version__,
        "torch_version": torch.__version__,
        "source": source.name,
        "source_sha256": hashlib.sha256(content).hexdigest(),
        "detector": model.info.arguments.get("detector", "?"),
        "backbone": model.info.arguments.get("backbone", "?"),
        "class_names": list(model.info.class_names),
        "input": "images: float32 RGB 0..255 (batch, 3, height, width), padded on the right and below"
        + ("; sizes: float32 (batch, 2), height and width before padding" if "sizes" in program.inputs else ""),
        "padding": list(PADDING),
        "normalisation": {"in_graph": True, "mean": list(model.info.mean), "std": list(model.info.std)},
        "strides": list(model.strides),
        "size": "open" if program.size is None else list(program.size),
        "size_multiple": UNIT,
        "smallest_size": program.smallest if program.size is None else None,
        "outputs": list(program.graph.outputs),
        "score": model.options.variant.score,
        "nms": None
        if nms is None
        else {
            "score_threshold": nms.score_threshold,
            "candidates_per_level": nms.candidates_per_level,
            "iou": nms.nms_iou,
            "max_detections": nms.max_detections,
        },
    }


# --- inputs ----------------------------------------------------------------------------------------------------


def _random_batches(program: Program) -> list[tuple[Tensor, Tensor]]:
    """Noise at two batch sizes and, where they are open, two sizes; the content ends before the padding."""
    draw = torch.Generator().manual_seed(1)
    height, width = program.example
    shapes = [(1, height, width), (3, height, width)]
    if program.size is None:
        shapes.append((2, max(height // 2 // UNIT * UNIT, program.smallest), width + UNIT))
    out = []
    for batch, high, wide in shapes:
        sizes = torch.tensor([[high - 7.0 * i, wide - 5.0 * i] for i in range(batch)])
        out.append((torch.rand(batch, 3, high, wide, generator=draw) * 255, sizes))
    return out


def _real_batches(dataset: Dataset, data: DataSpec, program: Program) -> list[tuple[Tensor, Tensor]]:
    some = pick(dataset, 4)
    return [(fitted(batch.images_B3HW, program), batch.sizes_B2) for batch in eval_batches(some, data, batch_size=2)]


def _calibration(dataset: Dataset, data: DataSpec, program: Program) -> Iterator[dict[str, Any]]:
    for batch in eval_batches(pick(dataset, CALIBRATION_IMAGES), data, batch_size=1):
        inputs = program.inputs_for(fitted(batch.images_B3HW, program), batch.sizes_B2)
        yield {name: value.numpy() for name, value in zip(program.inputs, inputs, strict=True)}


def fitted(images_B3HW: Tensor, program: Program) -> Tensor:
    """Images padded to what the graph takes. Raises `ExportError` where they are larger than a fixed size."""
    height, width = images_B3HW.shape[2:]
    wanted = program.size or (max(height, program.smallest), max(width, program.smallest))
    if height > wanted[0] or width > wanted[1]:
        raise ExportError(
            f"images of {height}x{width} do not fit into the fixed size {wanted[0]}x{wanted[1]}: "
            "leave out --size, or lower data.image_size"
        )
    if (height, width) == tuple(wanted):
        return images_B3HW
    canvas = torch.tensor(PADDING, dtype=images_B3HW.dtype).view(1, 3, 1, 1).repeat(len(images_B3HW), 1, *wanted)
    canvas[:, :, :height, :width] = images_B3HW
    return canvas


# --- figures ---------------------------------------------------------------------------------------------------


def _difference(parity: Parity) -> str:
    worst = ", ".join(f"{name} {value:.2g}" for name, value in parity.differences.items())
    lost = f", {parity.unmatched} of {parity.detections} detections without a partner" if parity.unmatched else ""
    return f"the exported file differs from the detector (largest differences: {worst}{lost}); nothing was written"


def _accuracy(
    program: Program,
    model: Detector,
    runs: dict[str, Run],
    dataset: Dataset,
    data: DataSpec,
    evaluation: EvaluationSpec,
    options: PostprocessOptions,
    images: int,
) -> dict[str, Any]:
    """AP of each run on the same validation images, padded alike."""
    try:
        classes = ClassMap.by_name(dataset.class_names, model.info.class_names)
    except MatchError as error:
        raise ExportError(f"this data set cannot judge the detector: {error}") from None
    known = Known.of(classes, len(dataset.class_names), model.num_classes)
    some = pick(dataset, images)
    out: dict[str, Any] = {"images": len(some)}
    for name, run in runs.items():
        found = detections(
            lambda batch, sizes, run=run: _detect(program, model, run, batch, sizes, options),  # type: ignore[misc]
            some,
            data,
            known,
            batch_size=8,
        )
        results = average_precision(some, found, known, evaluation)
        out[name] = {key: results[key] for key in ("AP", "AP50", "AP75")}
    for name in list(runs)[1:]:
        before, after = out["torch"]["AP"], out[name]["AP"]
        out[name]["AP_change"] = None if before is None or after is None else after - before
    return out


def _detect(
    program: Program, model: Detector, run: Run, images: Tensor, sizes: Tensor, options: PostprocessOptions
) -> list[Detections]:
    padded = fitted(images, program)
    found = run(*program.inputs_for(padded, sizes))
    if "sizes" in program.inputs:
        return as_detections(found)
    grid = model(model.normalize(padded[:1])).grid
    centerness = found[2] if len(found) > 2 else None
    outputs = DenseOutputs(found[0], found[1], None, centerness, (), grid)
    return model.detections(outputs, sizes, options)


def _latency(program: Program, runs: dict[str, Run], repeats: int) -> dict[str, Any]:
    """Milliseconds of one image at the usual size, all runs in turns in this process."""
    height, width = program.example
    images = torch.randint(0, 256, (1, 3, height, width), generator=torch.Generator().manual_seed(2)).float()
    inputs = program.inputs_for(images, torch.tensor([[height, width]], dtype=torch.float32))

    def call(run: Run) -> Callable[[], object]:
        return lambda: run(*inputs)

    with torch.inference_mode():
        found = interleaved_latency({name: call(run) for name, run in runs.items()}, repeats=repeats)
    torch_ms = found["torch"].median_ms
    return {
        "batch": 1,
        "size": [height, width],
        "threads": torch.get_num_threads(),
        "device": device_name("cpu"),
        "machine": platform.platform(terse=True),
        "runs": {
            name: {
                "median_ms": one.median_ms,
                "low_ms": one.low_ms,
                "high_ms": one.high_ms,
                "repeats": one.repeats,
                "times_faster_than_torch": torch_ms / one.median_ms,
            }
            for name, one in found.items()
        },
    }


def _write_json(path: Path, values: dict[str, Any]) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    aside.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    os.replace(aside, path)
