"""What is in a detector file, ours or a foreign one, and its safe conversion to our form."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from bcd.models.adapters import AdapterError, Overrides, UnsafeFileError, framework_of, read_foreign
from bcd.models.adapters.checkpoint import Checkpoint, file_format, file_hash, read_checkpoint, state_dict_of
from bcd.models.detector import Detector
from bcd.models.files import FORMAT, DetectorFileError, content_hash, load_detector, read_detector_file, save_detector


@dataclass(frozen=True)
class Inspection:
    """What a file holds.

    `format` is "bcd", "torch", "torch-legacy", "safetensors", "torchscript" or "pickle"; `framework` is who wrote it;
    `detector` the family that fits; `arguments` how ours is built; `mean` and `std` are for RGB images of 0 to 255;
    `keys` counts parameters by their first two names; `unread` are classes whose objects were left unread; `assumed`
    is what the file does not say and an import would take; `left_out` are keys that are no part of the detector;
    `source` is what a file of ours was imported from;
    `missing` is what a person must give; `problem` says why it cannot be used (None: it can).
    """

    path: str
    bytes: int
    sha256: str
    format: str
    framework: str | None = None
    detector: str | None = None
    backbone: str | None = None
    class_names: tuple[str, ...] | None = None
    num_classes: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    parameters: int | None = None
    keys: dict[str, int] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    content_sha256: str | None = None
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return found


def inspect_file(path: str | Path, overrides: Overrides = Overrides()) -> Inspection:
    """What a file holds, without running anything that is in it.

    Raises:
        AdapterError: no such file. A file that cannot be used is described, with `problem`.
    """
    path = Path(path)
    if not path.is_file():
        raise AdapterError(f"no such file: {path}")
    seen = Inspection(str(path), path.stat().st_size, file_hash(path), "unknown")
    try:
        seen = replace(seen, format=file_format(path))
        if seen.format == "safetensors" and _is_ours(path):
            return _ours(path, replace(seen, format="bcd", framework="bcd"))
        checkpoint = read_checkpoint(path)
    except (AdapterError, DetectorFileError) as error:
        return replace(seen, problem=_without_path(error, path))
    return _foreign(checkpoint, replace(seen, unread=checkpoint.unread), overrides)


def _is_ours(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except Exception:  # safetensors has an error type of its own; the reader tells it with the path
        return False


def _ours(path: Path, seen: Inspection) -> Inspection:
    header, tensors, metadata = read_detector_file(path)
    actual = content_hash(metadata["detector"], tensors)
    problem = None
    if metadata.get("sha256", actual) != actual:
        problem = f"its contents do not have the hash that it names ({metadata['sha256']}): it was changed or damaged"
    else:
        try:
            load_detector(path)
        except DetectorFileError as error:
            problem = _without_path(error, path)
    arguments = header.get("arguments", {})
    source = header.get("extra", {}).get("source")
    source = source if isinstance(source, dict) else {}
    return replace(
        seen,
        detector=arguments.get("detector"),
        backbone=arguments.get("backbone"),
        class_names=tuple(header.get("class_names", ())),
        num_classes=len(header.get("class_names", ())),
        mean=tuple(header.get("mean", ())),
        std=tuple(header.get("std", ())),
        parameters=_count(tensors),
        keys=_groups(tensors),
        arguments=arguments,
        assumed=tuple(source.get("assumed", ())),
        source={key: value for key, value in source.items() if key != "assumed"},
        content_sha256=actual,
        problem=problem,
    )


def _foreign(checkpoint: Checkpoint, seen: Inspection, overrides: Overrides) -> Inspection:
    try:
        state, _ = state_dict_of(checkpoint.content)
        seen = replace(seen, parameters=_count(state), keys=_groups(state))
        found = framework_of(checkpoint.content)
        if found is not None:
            seen = replace(seen, framework=found[0], detector=found[1])
        foreign = read_foreign(checkpoint.content, overrides)
        missing = () if foreign.class_names is not None else (f"names of its {foreign.num_classes} classes",)
        seen = replace(
            seen,
            detector=foreign.arguments["detector"],
            backbone=foreign.arguments["backbone"],
            class_names=foreign.class_names,
            num_classes=foreign.num_classes,
            mean=foreign.mean,
            std=foreign.std,
            arguments=foreign.arguments,
            assumed=foreign.assumed,
            left_out=dict(foreign.left_out),
            missing=missing,
        )
        if foreign.class_names is not None:
            foreign.build()
        else:
            foreign.check()
    except (ValueError, RuntimeError, TypeError) as error:
        return replace(seen, problem=_without_path(error, checkpoint.path))
    return seen


def import_teacher(
    path: str | Path, out: str | Path, overrides: Overrides = Overrides()
) -> tuple[Path, Detector, Inspection]:
    """Convert a foreign checkpoint to a detector file of ours, without running anything that is in it.

    Args:
        path: a checkpoint of MMDetection or torchvision.
        out: the file to write; a folder gets `student.safetensors`.
        overrides: what a person says; it takes precedence over the file.

    Returns:
        The file written, the detector, and what `inspect_file` says of the new file (with its content hash). The
        source's hash is kept in `info.extra["source"]`.

    Raises:
        AdapterError: the file cannot be used; the message says why and what to give.
        UnsafeFileError: it asks for code to be run.
    """
    path, out = Path(path), Path(out)
    if path.is_file() and _is_ours(path):
        raise AdapterError(f"{path} is already a detector of bcd: use it as it is")
    checkpoint = read_checkpoint(path)
    try:
        foreign = read_foreign(checkpoint.content, overrides)
        model = foreign.build()
    except UnsafeFileError:
        raise
    except (ValueError, RuntimeError, TypeError) as error:
        raise AdapterError(f"{path}: {error}") from None
    model.info.extra["source"] |= {"file": path.name, "sha256": checkpoint.sha256}
    if out.is_dir():
        out = out / "student.safetensors"
    written = save_detector(model, out)
    return written, model, inspect_file(written)


def _count(tensors: Any) -> int:
    return sum(value.numel() for value in tensors.values() if isinstance(value, torch.Tensor))


def _groups(tensors: Any) -> dict[str, int]:
    """How many keys begin with each first two names."""
    return dict(Counter(".".join(str(key).split(".")[:2]) for key in tensors))


def _without_path(error: Exception, path: Path) -> str:
    return str(error).removeprefix(f"{path} ").removeprefix("is refused: ").removeprefix("is ")
