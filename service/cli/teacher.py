"""Commands about teachers that others trained: `bcd teacher inspect` and `bcd teacher import`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from service.cli.console import EXIT_BAD_INPUT, Fault, out, remark, say

if TYPE_CHECKING:
    from bcd.models.adapters import Overrides
    from bcd.models.adapters.inspect import Inspection

app = typer.Typer(
    name="teacher", no_args_is_help=True, help="Look into teachers that others trained, and convert them."
)

FORMATS = {
    "bcd": "detector of bcd (safetensors)",
    "torch": "torch checkpoint",
    "torch-legacy": "torch checkpoint (format before 1.6)",
    "safetensors": "safetensors",
    "torchscript": "TorchScript program",
    "pickle": "plain pickle",
    "unknown": "unknown",
}

File = Annotated[Path, typer.Argument(help="Checkpoint of MMDetection or torchvision, or a file of bcd.")]
DetectorOption = Annotated[
    str | None, typer.Option("--detector", help="Head family, where the file's own keys must not decide.")
]
ClassesOption = Annotated[
    Path | None, typer.Option("--classes", help="File with the class names, one a line, in the order of the labels.")
]
StyleOption = Annotated[str | None, typer.Option("--style", help="Of a ResNet: pytorch or caffe.")]
BgrOption = Annotated[
    bool | None, typer.Option("--bgr/--rgb", help="Order of the channels that the model takes.", show_default=False)
]
MeanOption = Annotated[
    str | None, typer.Option("--mean", metavar="A,B,C", help="Mean of the normalisation, for images of 0 to 255.")
]
StdOption = Annotated[str | None, typer.Option("--std", metavar="A,B,C", help="Its standard deviation.")]
VariantOption = Annotated[
    list[str] | None,
    typer.Option("--variant", metavar="KEY=VALUE", help="A choice that the file leaves open, e.g. box_code=relu."),
]


@app.command("inspect")
def inspect(
    file: File,
    detector: DetectorOption = None,
    classes: ClassesOption = None,
    style: StyleOption = None,
    bgr: BgrOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    variant: VariantOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say what is in a file and which detector fits. No code in the file is run. Exit code 1: it cannot be used."""
    overrides = _overrides(detector, classes, style, bgr, mean, std, variant)
    from bcd.models.adapters import AdapterError
    from bcd.models.adapters.inspect import inspect_file

    try:
        found = inspect_file(file, overrides)
    except AdapterError as error:
        raise Fault(str(error), EXIT_BAD_INPUT) from None
    if as_json:
        say(json.dumps(found.as_dict(), indent=2))
    else:
        out().print(table(found))
        say(verdict(found))
    if found.problem is not None:
        raise typer.Exit(1)


@app.command("import")
def import_(
    file: File,
    to: Annotated[Path, typer.Option("-o", "--out", help="File to write (.safetensors).", show_default=False)],
    detector: DetectorOption = None,
    classes: ClassesOption = None,
    style: StyleOption = None,
    bgr: BgrOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    variant: VariantOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="What was written, as JSON.")] = False,
) -> None:
    """Convert a checkpoint to a detector of bcd. No code in the file is run; every key must be used."""
    overrides = _overrides(detector, classes, style, bgr, mean, std, variant)
    from bcd.models.adapters import AdapterError
    from bcd.models.adapters.inspect import import_teacher

    try:
        written, model, found = import_teacher(file, to, overrides)
    except AdapterError as error:
        raise Fault(str(error), EXIT_BAD_INPUT) from None
    except OSError as error:
        raise Fault(f"cannot write {to}: {error.strerror or error}") from None
    for text in found.assumed:
        remark(f"assumed: {text}", "yellow")
    if as_json:
        say(json.dumps(found.as_dict(), indent=2))
        return
    arguments = model.info.arguments
    say(f"{written}: {arguments['detector']} {arguments['backbone']}, {model.num_classes} classes")
    say(f"sha256 of its contents: {found.content_sha256}")


def table(found: Inspection) -> Table:
    """An inspection as two columns; what the file does not tell has no row."""
    rows = Table(show_header=False, box=None, pad_edge=False)
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    for name, value in _rows(found):
        if value:
            rows.add_row(name, Text(value))
    return rows


def verdict(found: Inspection) -> str:
    """One line: whether it can be used, and what to do next."""
    if found.problem is not None:
        return f"cannot be used: {found.problem}"
    if found.format == "bcd":
        return "ready to use as a teacher"
    if found.missing:
        return f"fits {found.detector}; to import it, give {', '.join(found.missing)}: --classes FILE"
    return f"fits {found.detector}: bcd teacher import {found.path} -o teacher.safetensors"


def _rows(found: Inspection) -> list[tuple[str, str]]:
    from service.cli.render import size

    arguments = found.arguments
    names = list(found.class_names or ())
    shown = ", ".join(names[:10]) + (f", ... ({len(names)} in all)" if len(names) > 10 else "")
    variant = arguments.get("variant") or {}
    style = variant.get("style")
    return [
        ("file", f"{found.path} ({size(found.bytes)})"),
        ("sha256", found.sha256),
        ("format", FORMATS.get(found.format, found.format)),
        ("written by", found.framework or "unknown"),
        ("imported from", ", ".join(f"{key} {value}" for key, value in found.source.items())),
        ("detector", found.detector or "none that we know"),
        ("backbone", f"{found.backbone or ''}{f', style {style}' if style else ''}"),
        ("parameters", f"{found.parameters / 1e6:.3g} M" if found.parameters else ""),
        ("keys", ", ".join(f"{key} {count}" for key, count in found.keys.items())),
        ("strides", ", ".join(map(str, arguments.get("strides", ())))),
        ("towers", f"{arguments['stacked_convs']} convolutions" if "stacked_convs" in arguments else ""),
        ("variant", ", ".join(f"{k} {_short(v)}" for k, v in variant.items() if k != "style")),
        ("classes", shown or (f"{found.num_classes}, without names" if found.num_classes else "")),
        ("mean (RGB)", _numbers(found.mean)),
        ("std (RGB)", _numbers(found.std)),
        ("assumed", "; ".join(found.assumed)),
        ("left out", _reasons(found.left_out)),
        ("not read", ", ".join(found.unread)),
        ("contents", f"sha256 {found.content_sha256}" if found.content_sha256 else ""),
    ]


def _short(value: Any) -> str:
    return _numbers(value) if isinstance(value, list | tuple) else str(value)


def _numbers(values: Any) -> str:
    return ", ".join(f"{float(v):g}" for v in values) if values else ""


def _reasons(left_out: dict[str, str]) -> str:
    by_reason: dict[str, list[str]] = {}
    for key, reason in left_out.items():
        by_reason.setdefault(reason, []).append(key)
    return "; ".join(
        f"{', '.join(keys[:3])}{f' and {len(keys) - 3} more' if len(keys) > 3 else ''} ({reason})"
        for reason, keys in by_reason.items()
    )


def _overrides(
    detector: str | None,
    classes: Path | None,
    style: str | None,
    bgr: bool | None,
    mean: str | None,
    std: str | None,
    variant: list[str] | None,
) -> Overrides:
    names = None
    if classes is not None:
        try:
            lines = classes.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise Fault(f"cannot read {classes}: {error}", EXIT_BAD_INPUT) from None
        names = tuple(line.strip() for line in lines if line.strip())
        if not names:
            raise Fault(f"{classes} names no class: write one name a line", EXIT_BAD_INPUT)
    if style not in (None, "pytorch", "caffe"):
        raise Fault(f"--style is pytorch or caffe, not {style}", EXIT_BAD_INPUT)
    changes = {}
    for text in variant or []:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise Fault(f"--variant takes KEY=VALUE, not {text}", EXIT_BAD_INPUT)
        changes[key] = _parsed(value)
    from bcd.models.adapters import Overrides

    return Overrides(
        detector=detector,
        class_names=names,
        style=style,
        bgr=bgr,
        mean=_triple("--mean", mean),
        std=_triple("--std", std),
        variant=changes,
    )


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _triple(option: str, text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        first, second, third = (float(part) for part in text.split(","))
    except ValueError:
        raise Fault(f"{option} takes three numbers with commas between them, not {text}", EXIT_BAD_INPUT) from None
    if option == "--std" and min(first, second, third) <= 0:
        raise Fault("--std takes numbers above 0", EXIT_BAD_INPUT)
    return first, second, third
