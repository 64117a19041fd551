"""From a spec to the things that a run is made of: device, student, teacher and methods."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from bcd.engine.errors import JobError
from bcd.engine.processes import Processes
from bcd.methods import Method, PairError, build_methods
from bcd.methods.teacher import Teacher, TeacherError
from bcd.models.build import build_detector
from bcd.models.detector import Detector
from bcd.models.files import DetectorFileError, load_detector
from bcd.spec import DetectorSpec, JobSpec


def device_of(spec: JobSpec, processes: Processes) -> torch.device:
    """The device of this process. Raises `JobError` when the machine has too few."""
    wanted = spec.resources.gpus
    if wanted == 0:
        return torch.device("cpu")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found == 0:
        raise JobError("no-gpu", "the job asks for a GPU and this machine has none: set resources.gpus: 0")
    if found <= processes.gpu:  # another machine's processes drive the GPUs there
        raise JobError("no-gpu", f"the job asks for {wanted} GPUs and sees {found}: set resources.gpus: {found}")
    device = torch.device("cuda", processes.gpu)
    torch.cuda.set_device(device)
    if wanted < 1:  # others have the rest of it: running out is this job's fault and must not become theirs
        torch.cuda.set_per_process_memory_fraction(wanted, device)
    return device


def student_of(spec: JobSpec, class_names: Sequence[str]) -> Detector:
    """The student with its first weights, on the CPU. Raises `JobError`."""
    # The student is the first to draw from the seed: with or without a teacher it starts from the same weights.
    torch.manual_seed(spec.seed)
    try:
        model = build_detector(**spec.student.model_dump(), class_names=class_names)
    except (ValueError, RuntimeError) as error:
        raise JobError("bad-student", str(error)) from None
    model.info.extra.update(image_size=spec.data.image_size, methods=[m.type for m in spec.methods], seed=spec.seed)
    return model


def fixes_random_weights(student: DetectorSpec) -> bool:
    """Whether layers that never learn keep random weights."""
    return student.backbone != "tiny" and not student.pretrained and (student.frozen_stages >= 0 or student.norm_eval)


def teacher_of(
    spec: JobSpec, path: Path | None, student: Detector, device: torch.device
) -> tuple[Teacher | None, list[Method]]:
    """The teacher from `path` (or the spec's), and the methods for the pair. Raises `JobError`."""
    if spec.teacher is None:
        return None, []
    if path is None:
        if spec.teacher.path is None:
            raise JobError(
                "no-teacher",
                "the teacher is the result of another job; give its file: download it and set teacher.path",
            )
        path = Path(spec.teacher.path)
    try:
        model = load_detector(path)
        teacher = Teacher(model, student, device, spec.teacher.classes)
    except (DetectorFileError, TeacherError) as error:
        raise JobError("bad-teacher", str(error)) from None
    try:
        methods = [method.to(device) for method in build_methods(spec.methods, student, model, teacher.classes)]
    except PairError as error:
        raise JobError("bad-pair", str(error)) from None
    teacher.reads = frozenset(need for method in methods for need in method.needs)
    return teacher, methods


def check_compiler(backend: str, device: torch.device) -> None:
    """Raises `JobError` when `schedule.compile` needs a compiler that this machine does not have."""
    if backend != "inductor":
        return
    if device.type == "cpu":
        names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
        if not any(shutil.which(name) for name in names):
            raise JobError(
                "no-compiler",
                f"schedule.compile: inductor needs a C++ compiler ({' or '.join(names)}) and this machine has none: "
                "install one or set schedule.compile: off",
            )
        return
    names = [os.environ["CC"]] if os.environ.get("CC") else ["gcc", "clang", "cc"]
    try:
        import triton  # type: ignore[import-untyped]  # noqa: F401
    except ImportError:
        raise JobError(
            "no-compiler", "schedule.compile: inductor needs triton on a GPU: install it or set schedule.compile: off"
        ) from None
    if not any(shutil.which(name) for name in names):
        raise JobError(
            "no-compiler",
            f"schedule.compile: inductor needs a C compiler ({', '.join(names)}) for its kernels' launchers and this "
            "machine has none: install one or set schedule.compile: off",
        )
