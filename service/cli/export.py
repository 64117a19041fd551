"""`bcd export`: a detector as a torch program or an ONNX file, checked and measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from service.cli.console import EXIT_BAD_INPUT, Fault, out, remark, say
from service.cli.files import SET_HELP

if TYPE_CHECKING:
    from rich.console import RenderableType

FORMATS = ("onnx", "torch")


def export(
    model: Annotated[Path, typer.Argument(help="Detector file (.safetensors) or a run's folder.", show_default=False)],
    format: Annotated[
        str, typer.Option("--format", help="onnx (onnxruntime and others) or torch (.pt2, torch.export).")
    ] = "onnx",
    nms: Annotated[bool, typer.Option("--nms", help="Detections after NMS, in place of raw outputs.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="8-bit convolutions (ONNX; needs --data to calibrate).")] = False,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="HxW", help="Fix height and width. [default: open, in steps of 32]"),
    ] = None,
    to: Annotated[Path | None, typer.Option("--out", help="Folder of the files. [default: beside the model]")] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="SPEC", help="Spec file with data: real images in the check, and AP."),
    ] = None,
    images: Annotated[int, typer.Option("--images", min=1, help="Validation images on which AP is taken.")] = 200,
    change: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=SET_HELP)] = None,
    data_root: Annotated[Path | None, typer.Option("--data-root", help="Folder of the data set (data.root).")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads. [default: all]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Write a detector for another runtime, and prove that it says the same.

    Images go in as float RGB 0..255: normalisation is part of the graph. The batch size stays open. The file appears
    only when its outputs are within 1e-4 of torch's; a JSON report lies beside it: parity, AP, latency, metadata.
    """
    if format not in FORMATS:
        raise Fault(f"--format {format}: choose {' or '.join(FORMATS)}", EXIT_BAD_INPUT)
    fixed = _size(size)
    spec = None
    if data is not None:
        from service.cli.files import read_spec

        spec = read_spec(data, change, data_root=data_root)

    import torch

    from bcd.data import DataError
    from bcd.export import ExportError, MissingExtra, export_detector
    from bcd.models.files import DetectorFileError
    from service.cli.local import data_cache

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        report = export_detector(
            model,
            format="torch" if format == "torch" else "onnx",
            nms=nms,
            int8=int8,
            size=fixed,
            out=to,
            data=spec.data if spec else None,
            evaluation=spec.evaluation if spec else None,
            images=images,
            data_cache=data_cache(),
            progress=remark,
        )
    except (ExportError, MissingExtra) as error:
        raise Fault(str(error)) from None
    except (DetectorFileError, DataError) as error:
        raise Fault(str(error), EXIT_BAD_INPUT) from None
    values = report.as_dict()
    if as_json:
        say(json.dumps(values, indent=2))
        return
    for part in shown(values):
        out().print(part)
    say(f"written: {report.path}, {report.path}.json")


def shown(values: dict[str, Any]) -> list[RenderableType]:
    """A report as a table of runs and a few lines."""
    from service.cli.render import NOTHING, ap, signed, table

    latency, accuracy = values["latency"], values.get("accuracy", {})
    made = table(
        "run by", "ms", "quartiles", "against torch", "AP", "change", right=("ms", "quartiles", "AP", "change")
    )
    for name, one in latency["runs"].items():
        judged = accuracy.get(name, {})
        made.add_row(
            name,
            f"{one['median_ms']:.3g}",
            f"{one['low_ms']:.3g} to {one['high_ms']:.3g}",
            f"{one['times_faster_than_torch']:.2g} x as fast",
            ap(judged.get("AP")),
            NOTHING if judged.get("AP_change") is None else signed(judged["AP_change"]),
        )
    worst = ", ".join(f"{name} {value:.1e}" for name, value in values["parity"]["largest_difference"].items())
    size = values["size"] if isinstance(values["size"], str) else "x".join(map(str, values["size"]))
    lines: list[RenderableType] = [
        made,
        Text(
            f"one image of {latency['size'][0]}x{latency['size'][1]}, {latency['threads']} threads, {latency['device']}"
        ),
        Text(f"same as torch: largest differences {worst} on {values['parity']['images']} images"),
        Text(f"input: {values['input']}; height and width: {size}; outputs: {', '.join(values['outputs'])}"),
    ]
    if values.get("remark"):
        lines.append(Text(f"note: {values['remark']}", style="yellow"))
    return lines


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if found is None:
        raise Fault(f"--size {text}: write HEIGHTxWIDTH, such as 640x640", EXIT_BAD_INPUT)
    return int(found[1]), int(found[2])
