"""The parts of a spec that lists filter by and people call a run by."""

from __future__ import annotations

from bcd.spec import DetectorSpec, JobSpec


def detector_name(detector: DetectorSpec) -> str:
    """`gfl-resnet18`, `gfl-tiny-8` (the small backbone with its width)."""
    width = f"-{detector.width}" if detector.backbone == "tiny" else ""
    return f"{detector.detector}-{detector.backbone}{width}"[:100]  # a name of timm's may have any length


def columns(spec: JobSpec) -> dict[str, str | int]:
    """Values of the job columns that are taken from the spec."""
    return {
        "name": spec.name,
        "methods": "," + "".join(f"{method.type}," for method in spec.methods),
        "detector": detector_name(spec.student),
        "dataset": spec.data.type,
        "seed": spec.seed,
    }
