"""Run one job from its spec, without any service: the one door through which `bcd train` and the workers come."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch

from bcd.data import DataError, open_data, prefetch, train_batch
from bcd.engine.errors import Cancelled, JobError
from bcd.engine.evaluate import evaluate_detector, protocol_hash
from bcd.engine.task import DetectionTask
from bcd.engine.trainer import Trainer
from bcd.methods import build_method
from bcd.methods.teacher import Teacher, TeacherError
from bcd.methods.teacher_cache import cache_outputs, worth_caching
from bcd.models.build import build_detector
from bcd.models.detector import Detector
from bcd.models.files import DetectorFileError, load_detector, save_detector
from bcd.spec import DetectorSpec, JobSpec

__all__ = ["Cancelled", "JobError", "RunResult", "RunSink", "run_job"]


class RunSink(Protocol):
    """Where a run reports to. Methods must return quickly: they are called from the training loop."""

    def metrics(self, step: int, values: dict[str, float]) -> None: ...
    def log(self, text: str, level: str = "info") -> None: ...
    def phase(self, name: str) -> None: ...
    def checkpoint(self, path: Path, step: int) -> None: ...
    def evaluation(self, step: int, name: str, protocol: str, results: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class RunResult:
    """`path` is the plain student (safetensors); `evaluation` is what `bcd.eval.coco.evaluate` returned for it."""

    path: Path
    evaluation: dict[str, Any]
    steps: int
    seconds: float


def run_job(
    spec: JobSpec,
    *,
    workdir: Path,
    sink: RunSink,
    teacher_path: Path | None = None,
    data_cache: Path | None = None,
    resume_from: Sequence[Path] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> RunResult:
    """Train, evaluate and export what a spec describes.

    Args:
        workdir: folder for checkpoints and the result.
        sink: receives metrics, log lines, checkpoints and evaluations.
        teacher_path: file of the teacher; overrides `spec.teacher.path`, needed when the spec names a job.
        data_cache: folder in which generated and decoded data may be kept.
        resume_from: checkpoints, newest first; the first usable one is continued.
        should_stop: asked after every step.

    Raises:
        JobError: the job cannot be done as specified; the message says what to change.
        Cancelled: should_stop said so; a checkpoint was written.
    """
    start = time.perf_counter()
    device = _device(spec)
    sink.phase("data")
    try:
        splits = open_data(spec.data, cache_dir=data_cache, progress=sink.log)
    except DataError as error:
        raise JobError("bad-data", str(error)) from None
    for part, dataset in (("train", splits.train), ("val", splits.val)):
        sink.log(f"{part}: {len(dataset)} images, {len(dataset.class_names)} classes")
    added = 0
    if splits.unlabeled is not None and spec.data.unlabeled is not None:
        added = spec.data.unlabeled.count(spec.schedule.batch_size)
        sink.log(f"unlabelled: {len(splits.unlabeled)} images, {added} added to each batch")
    sink.log(f"data version: {splits.version}")

    student = _student(spec, splits.train.class_names).to(device)
    teacher = _teacher(spec, teacher_path, student, device)
    methods = [] if teacher is None else [build_method(m, student, teacher.model).to(device) for m in spec.methods]
    task = DetectionTask(student, teacher, methods)
    trainer = Trainer(
        student,
        task,
        spec.schedule,
        extra=torch.nn.ModuleList(methods),
        device=device,
        digest=spec.digest(without=("name", "resources", "evaluation")),
        folder=workdir / "checkpoints",
    )
    trainer.resume(resume_from, lambda text: sink.log(text, "warning"))
    if trainer.step:
        sink.log(f"resumed at step {trainer.step} of {spec.schedule.steps}")
    parameters = sum(p.numel() for p in student.parameters())
    if spec.student.backbone != "tiny" and not spec.student.pretrained and _fixes_random_weights(spec.student):
        sink.log("student.frozen_stages or norm_eval without pretrained: random weights stay fixed", "warning")
    sink.log(f"student: {spec.student.detector} {spec.student.backbone}, {parameters / 1e6:.3g} M parameters, {device}")

    protocol = protocol_hash(
        splits.val, spec.data, spec.evaluation, ema=trainer.ema is not None, precision=trainer.precision
    )

    def judge(step: int, name: str) -> dict[str, Any]:
        results = evaluate_detector(
            cast(Detector, trainer.evaluated),
            splits.val,
            spec.data,
            spec.evaluation,
            device=device,
            autocast=trainer.autocast,
        )
        sink.metrics(step, ap_metrics(results))
        sink.evaluation(step, name, protocol, results)
        return results

    def make(step: int) -> Any:
        return train_batch(
            splits.train,
            spec.data,
            step=step,
            batch_size=spec.schedule.batch_size,
            seed=spec.seed,
            unlabeled=splits.unlabeled,
            steps=spec.schedule.steps,
        )

    def on_metrics(step: int, values: dict[str, float]) -> None:
        sink.metrics(step, {**values, "unlabeled_images": float(step * added)} if added else values)

    sink.phase("train")
    try:
        if teacher is not None and worth_caching(spec, splits.training, methods, student):
            sink.log(f"running the teacher once over {len(splits.training):,} training images")
            task.teacher = cache_outputs(teacher, splits.training, spec, device, trainer.autocast())
            sink.log(f"its outputs are kept in memory: {task.teacher.bytes / 1e6:.0f} MB")
        with closing(prefetch(make, trainer.step, spec.schedule.steps)) as batches:
            trainer.fit(
                batches,
                on_metrics=on_metrics,
                on_checkpoint=sink.checkpoint,
                on_evaluate=lambda step: judge(step, f"step-{step}"),
                evaluate_every=spec.evaluation.every,
                should_stop=should_stop,
            )
        sink.phase("evaluate")
        results = judge(trainer.step, "final")
    except DataError as error:
        raise JobError("bad-data", str(error)) from None
    except torch.OutOfMemoryError as error:
        raise JobError(
            "out-of-memory", f"the GPU is out of memory: lower schedule.batch_size or the image size ({error})"
        ) from None
    path = save_detector(cast(Detector, trainer.evaluated), workdir / "student.safetensors")
    return RunResult(path, results, trainer.step, time.perf_counter() - start)


def ap_metrics(results: dict[str, Any]) -> dict[str, float]:
    """An evaluation as flat metrics: AP, AP50, AP75, APs, APm, APl and AP/<class>; undefined ones are left out."""
    flat = {key: results[key] for key in ("AP", "AP50", "AP75", "APs", "APm", "APl")}
    flat |= {f"AP/{name}": value for name, value in results["per_class"].items()}
    return {key: float(value) for key, value in flat.items() if value is not None}


def _fixes_random_weights(student: DetectorSpec) -> bool:
    return student.frozen_stages >= 0 or student.norm_eval


def _device(spec: JobSpec) -> torch.device:
    if spec.resources.gpus == 0:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise JobError("no-gpu", "the job asks for a GPU and this machine has none: set resources.gpus: 0")
    return torch.device("cuda")


def _student(spec: JobSpec, class_names: Sequence[str]) -> Detector:
    # The student is the first to draw from the seed: with or without a teacher it starts from the same weights.
    torch.manual_seed(spec.seed)
    try:
        model = build_detector(**spec.student.model_dump(), class_names=class_names)
    except (ValueError, RuntimeError) as error:
        raise JobError("bad-student", str(error)) from None
    model.info.extra.update(image_size=spec.data.image_size, methods=[m.type for m in spec.methods], seed=spec.seed)
    return model


def _teacher(spec: JobSpec, path: Path | None, student: Detector, device: torch.device) -> Teacher | None:
    if spec.teacher is None:
        return None
    if path is None:
        if spec.teacher.path is None:
            raise JobError(
                "no-teacher",
                "the teacher is the result of another job; give its file: download it and set teacher.path",
            )
        path = Path(spec.teacher.path)
    try:
        return Teacher(load_detector(path), student, device, spec.teacher.classes)
    except (DetectorFileError, TeacherError) as error:
        raise JobError("bad-teacher", str(error)) from None
