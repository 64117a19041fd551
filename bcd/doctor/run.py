"""The two ways to ask the doctor: `diagnose` a whole spec, and `preflight` a teacher before a run's first step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from bcd.data import Dataset, open_data, train_batch
from bcd.doctor.pair import (
    SEEN,
    check_classes,
    check_data,
    check_memory,
    check_plan,
    check_positives,
    check_step,
)
from bcd.doctor.report import Finding, Report
from bcd.doctor.teacher import (
    check_accuracy,
    check_image_size,
    check_memorised,
    check_normalisation,
    check_shuffled,
    judge,
    judge_alternatives,
    normalised_pixels,
)
from bcd.methods.match import ClassMap, MatchError
from bcd.methods.teacher import Teacher, TeacherError
from bcd.models.build import build_detector
from bcd.models.detector import Detector
from bcd.models.files import DetectorFileError, load_detector
from bcd.sample import Known, input_pixels, pick
from bcd.spec import JobSpec

IMAGES = 64
# A run that can afford 1,200 steps can afford this; large images get fewer of them, never fewer than 16.
PREFLIGHT_PIXELS = 32_000_000
FEWEST_IMAGES = 16


def preflight(
    spec: JobSpec,
    model: Detector,
    classes: ClassMap,
    val: Dataset,
    device: torch.device,
    *,
    images: int = IMAGES,
) -> Report:
    """Judge a teacher on a few validation images: a function of teacher, data and spec alone.

    Draws no random number and changes neither model. Looks for other normalisations only where the teacher does badly.
    """
    start = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        findings = _judge_teacher(spec, model, classes, val, device, affordable(val, spec, images), thorough=False)
    return Report.of_parts(findings, time.perf_counter() - start)


def affordable(val: Dataset, spec: JobSpec, images: int = IMAGES) -> int:
    """How many images a preflight looks at: at most `images`, fewer where they are large."""
    return min(images, max(FEWEST_IMAGES, PREFLIGHT_PIXELS // max(input_pixels(val, spec.data), 1)))


def diagnose(
    spec: JobSpec,
    *,
    teacher: Path | str | None = None,
    images: int = IMAGES,
    data_cache: Path | None = None,
    device: torch.device | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Report:
    """Everything that can be known about a run before it begins.

    Args:
        spec: the job. Without a teacher only student, data and memory are looked at.
        teacher: file of the teacher, in place of the spec's.
        images: most images of a split that are looked at.
        device: where to run; default the spec's.

    Raises:
        DataError: a data set that cannot be used. (A teacher's file that cannot is a finding.)
        ValueError: a student that cannot be built.
    """
    start = time.perf_counter()
    device = device or torch.device("cuda" if spec.resources.gpus and torch.cuda.is_available() else "cpu")
    splits = open_data(spec.data, cache_dir=data_cache, progress=progress)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        student = build_detector(**spec.student.model_dump(), class_names=splits.train.class_names).to(device).eval()
        findings: list[Finding] = [check_data(splits)]
        size = min(SEEN, spec.schedule.batch_size, len(splits.train))
        batches = [
            train_batch(splits.train, spec.data, step=n, batch_size=size, seed=spec.seed)
            for n in range(max(1, min(images, len(splits.train)) // size))
        ]
        progress("assigning boxes to the student's sites")
        findings.append(check_positives(student, batches))
        path = teacher if teacher is not None else (spec.teacher.path if spec.teacher is not None else None)
        model = None
        if path is not None:
            loaded = _load(Path(path), student, device, spec.teacher.classes if spec.teacher is not None else {})
            if isinstance(loaded, Finding):
                findings.append(loaded)
            else:
                model = loaded.model
                progress(f"judging the teacher on {min(images, len(splits.val))} validation images")
                findings += _diagnose_teacher(spec, loaded, student, splits.train, splits.val, device, images, progress)
                if spec.methods:
                    plan = check_plan(spec, student, model, loaded.classes)
                    findings.append(plan)
                    if plan.verdict != "fail":
                        progress("running one step of every method")
                        findings += check_step(spec, student, loaded, batches[0])
        elif spec.teacher is not None:
            findings.append(
                Finding(
                    "teacher.file", "info", f"the teacher is job {spec.teacher.job}", "give its file with --teacher"
                )
            )
        findings.append(check_memory(spec, student, model, batches[0]))
    return Report.of_parts(findings, time.perf_counter() - start)


def _load(path: Path, student: Detector, device: torch.device, renamed: Mapping[str, str]) -> Teacher | Finding:
    try:
        return Teacher(load_detector(path), student, device, renamed)
    except DetectorFileError as error:
        return Finding("teacher.file", "fail", str(error), "give a detector written by bcd (`bcd teacher import`)")
    except (TeacherError, MatchError) as error:
        return Finding("classes", "fail", str(error), "or take a teacher for these classes")


def _diagnose_teacher(
    spec: JobSpec,
    teacher: Teacher,
    student: Detector,
    train: Dataset,
    val: Dataset,
    device: torch.device,
    images: int,
    progress: Callable[[str], None],
) -> list[Finding]:
    names = student.info.class_names
    findings = [check_classes(teacher.classes, names, teacher.model.info.class_names)]
    return findings + _judge_teacher(
        spec, teacher.model, teacher.classes, val, device, images, thorough=True, train=train, progress=progress
    )


def _judge_teacher(
    spec: JobSpec,
    model: Detector,
    classes: ClassMap,
    val: Dataset,
    device: torch.device,
    images: int,
    *,
    thorough: bool,
    train: Dataset | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Finding]:
    known = Known.of(classes, len(val.class_names), model.num_classes)
    run: dict[str, Any] = {"known": known, "data": spec.data, "evaluation": spec.evaluation, "device": device}
    mine = set(known.data)
    judged = judge(model, dataset=pick(val, images, classes=mine), **run)
    names = [val.class_names[i] for i in known.data]
    accuracy = check_accuracy(judged, model.info.extra.get("evaluation"), val.content_hash)
    shuffled = check_shuffled(judged, names)
    findings = [accuracy, shuffled]
    doubtful = accuracy.verdict in ("warn", "fail") and shuffled.verdict != "fail"
    if thorough or doubtful:
        progress("trying other normalisations")
        others = judge_alternatives(model, dataset=val, **run) if len(val) else {}
        findings.append(check_normalisation(model, others, normalised_pixels(model, val, spec.data)))
    findings.append(check_image_size(model, spec.data))
    if thorough and train is not None and len(train):
        progress("judging the teacher on training images")
        on_train = judge(model, dataset=pick(train, images, classes=mine), **run)
        findings.append(check_memorised(on_train, judged))
    return findings
