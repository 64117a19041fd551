"""One run in this process: data, models, training, the final judgement and the student's file.

Where several processes train together, each of them comes through here; only the first reports and writes.
"""

from __future__ import annotations

import errno
import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import torch

from bcd.cost import Cost, device_name, measure_costs
from bcd.data import DataError, Splits, open_data, prefetch, train_batch
from bcd.data.loader import padded_size
from bcd.doctor import preflight
from bcd.engine.batches import Split, WholeBatch, step_parts
from bcd.engine.errors import Cancelled, JobError
from bcd.engine.evaluate import (
    PREDICTIONS_FILE,
    REPORT_FILE,
    evaluate_detector,
    final_report,
    options_of,
    protocol_hash,
)
from bcd.engine.parts import check_compiler, device_of, fixes_random_weights, student_of, teacher_of
from bcd.engine.processes import Processes
from bcd.engine.report import DeadTerms, RunResult, RunSink, Silent, ap_metrics, cost_metrics
from bcd.engine.task import DetectionTask
from bcd.engine.trainer import Trainer
from bcd.environment import environment
from bcd.eval.gallery import kept_gallery
from bcd.methods.match import MatchError
from bcd.methods.teacher import Teacher
from bcd.methods.teacher_cache import CachedTeacher, CachePlan, cache_outputs, plan_cache
from bcd.methods.teacher_file import key_of, load_or_make
from bcd.models.detector import Detector
from bcd.models.files import save_detector
from bcd.records import TOTAL_STEPS
from bcd.spec import JobSpec


def run_here(
    spec: JobSpec,
    *,
    workdir: Path,
    sink: RunSink,
    teacher_path: Path | None = None,
    data_cache: Path | None = None,
    resume_from: Iterable[Path] = (),
    should_stop: Callable[[], bool] = lambda: False,
    gallery: bool = False,
    processes: Processes | None = None,
) -> RunResult:
    """`bcd.api.run_job` within this process, as one of `processes`. Only the first one's result counts."""
    start = time.perf_counter()
    processes = processes or Processes()
    sink = sink if processes.first else Silent()
    device = device_of(spec, processes)
    check_compiler(spec.schedule.compile, device)
    sink.phase("data")
    splits = _open(spec, data_cache, sink, processes)
    added = spec.data.unlabeled.count(spec.schedule.batch_size) if spec.data.unlabeled is not None else 0
    plan = spec.schedule.resolve(min(len(splits.train), spec.data.max_train_images or len(splits.train)))
    _tell_data(spec, splits, added, plan.steps, sink)
    if processes.first:
        sink.facts(_origin(spec, splits, teacher_path, device))

    student = student_of(spec, splits.train.class_names).to(device)
    teacher, methods = teacher_of(spec, teacher_path, student, device)
    task = DetectionTask(student, teacher, methods)
    trainer = Trainer(
        student,
        task,
        spec.schedule,
        plan=plan,
        extra=torch.nn.ModuleList(methods),
        device=device,
        digest=spec.digest(without=("name", "resources", "evaluation")),
        folder=workdir / "checkpoints",
        processes=processes,
        seed=spec.seed,
        watched=task.modules,
        plain=task.plain,
    )
    trainer.resume(resume_from, lambda text: sink.log(text, "warning"))
    found = processes.gather(trainer.step)
    if len(set(found)) > 1:  # they would train different models, and wait for each other for ever in the end
        steps = ", ".join(map(str, found))
        raise OSError(errno.EIO, f"the processes could not read the same checkpoint: they are at steps {steps}")
    if spec.planned_steps() is None:  # nobody could know before the data set was read
        sink.metrics(trainer.step, {TOTAL_STEPS: float(plan.steps)})
    if trainer.step:
        sink.log(f"resumed at step {trainer.step} of {plan.steps}")
    elif teacher is not None and processes.first:  # the others wait for it
        _check_teacher(spec, teacher, splits, device, sink)
    if spec.schedule.compile != "off":
        task.compile(spec.schedule.compile)
    _tell_student(spec, student, device, processes, sink)

    protocol = protocol_hash(
        splits.val,
        spec.data,
        spec.evaluation,
        ema=trainer.ema is not None,
        precision=trainer.precision,
        weights="best" if spec.schedule.keeps_best else "last",
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

    def conclude(step: int) -> dict[str, Any]:
        cost = _cost(cast(Detector, trainer.evaluated), splits, spec, device)
        final = final_report(
            cast(Detector, trainer.evaluated),
            splits.val,
            spec.data,
            spec.evaluation,
            folder=workdir,
            device=device,
            autocast=trainer.autocast,
            ema=trainer.ema is not None,
            precision=trainer.precision,
            weights="best" if spec.schedule.keeps_best else "last",
            cost=cost.as_dict() if cost is not None else None,
        )
        if cost is not None:
            sink.metrics(trainer.step, cost_metrics(cost))
        if step == trainer.step:  # of an earlier step they were reported then; whoever reads them would see it go back
            sink.metrics(step, ap_metrics(final.results))
        sink.evaluation(step, "final", final.protocol, final.results)
        sink.artifact("predictions", PREDICTIONS_FILE, final.predictions_path, step)
        sink.artifact("other", REPORT_FILE, final.report_path, step)
        if gallery:
            try:
                pictures = kept_gallery(splits.val, data_cache or workdir, check=stop_early)
            except OSError as error:  # a run that is done does not fail for want of pictures
                sink.log(f"no pictures of the validation images are stored: {error}", "warning")
            else:
                sink.artifact("gallery", pictures.name, pictures, step)
        return final.results

    def make(step: int, positions: Sequence[int]) -> WholeBatch:
        return train_batch(
            splits.train,
            spec.data,
            step=step,
            batch_size=spec.schedule.batch_size,
            seed=spec.seed,
            unlabeled=splits.unlabeled,
            steps=plan.steps,
            positions=positions,
        )

    def stop_early() -> None:
        if processes.first and should_stop():
            doing = "pictures were made" if trainer.step == plan.steps else "the teacher's outputs were made"
            raise Cancelled(f"stopped at step {trainer.step}, while {doing}")

    dead = DeadTerms(tuple(method.type for method in spec.methods))

    def on_metrics(step: int, values: dict[str, float]) -> None:
        values, warnings = dead.look(values)
        sink.metrics(step, {**values, "unlabeled_images": float(step * added)} if added else values)
        for text in warnings:
            sink.log(text, "warning")

    sink.phase("train")
    try:
        kept = None if teacher is None else plan_cache(spec, splits.training, methods, teacher, plan.steps)
        if teacher is not None and kept is not None:
            task.teacher = _kept_outputs(
                teacher, teacher_path, splits, spec, kept, data_cache, device, trainer, stop_early, sink
            )
        parts = step_parts(
            make,
            spec.schedule.batch_size + added,
            Split(processes.rank, processes.world, spec.schedule.accumulate),
            spec.data.augment if kept is not None else None,
            seed=spec.seed,
            pin=device.type == "cuda",
        )
        with closing(prefetch(parts, trainer.step, plan.steps)) as batches:
            trainer.fit(
                batches,
                on_metrics=on_metrics,
                on_checkpoint=sink.checkpoint,
                on_evaluate=lambda step: judge(step, f"step-{step}"),
                evaluate_every=spec.evaluation.every,
                should_stop=should_stop,
                remake=parts,
            )
        if not processes.first:
            return RunResult(workdir, {}, trainer.step, time.perf_counter() - start)
        if trainer.selection.exhausted and trainer.step < plan.steps:
            sink.log(f"stopped early at step {trainer.step} of {plan.steps}: {trainer.selection.describe()}")
        sink.phase("evaluate")
        step = _load_result(trainer, sink)
        results = conclude(step)
    except DataError as error:
        raise JobError("bad-data", str(error)) from None
    except MatchError as error:
        raise JobError("bad-teacher", str(error)) from None
    except torch.OutOfMemoryError as error:
        raise JobError(
            "out-of-memory",
            "the GPU is out of memory: raise schedule.accumulate, or lower schedule.batch_size or the image size "
            f"({error})",
        ) from None
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise JobError(
            "compile-failed", f"torch.compile could not make code ({reason}): set schedule.compile: off"
        ) from None
    student = cast(Detector, trainer.evaluated)
    # What `bcd.doctor` holds a teacher to.
    student.info.extra["evaluation"] = {
        **{key: results[key] for key in ("AP", "AP50", "images")},
        "data": splits.val.content_hash,
        "protocol": protocol,
    }
    path = save_detector(student, workdir / "student.safetensors")
    return RunResult(path, results, step, time.perf_counter() - start)


def _cost(model: Detector, splits: Splits, spec: JobSpec, device: torch.device) -> Cost | None:
    """What the student costs to run, at the input size of the first validation image.

    A few repeats: the machine may be busy with other runs, and a large detector takes seconds an image on a CPU. Not of
    compiled models: the counters cannot look into them.
    """
    if spec.schedule.compile != "off":
        return None
    record = splits.val.records[0]
    size = padded_size(record.height, record.width, spec.data)
    [cost] = measure_costs(
        {"student": model}, size, device=device, warmup=1, repeats=5, options=options_of(spec.evaluation)
    )
    return cost


def _kept_outputs(
    teacher: Teacher,
    teacher_path: Path | None,
    splits: Splits,
    spec: JobSpec,
    kept: CachePlan,
    data_cache: Path | None,
    device: torch.device,
    trainer: Trainer,
    look_up: Callable[[], None],
    sink: RunSink,
) -> CachedTeacher:
    """The teacher's outputs, computed now or by an earlier run on this machine."""

    def make() -> CachedTeacher:
        sink.log(f"running the teacher once over {kept.describe()}")
        made = cache_outputs(teacher, splits.training, spec, kept, device, trainer.autocast, look_up)
        sink.log(f"its outputs are kept: {made.bytes / 1e6:.0f} MB")
        return made

    weights = _sha256_of(spec, teacher_path)
    if weights is None:
        return make()
    key = key_of(
        teacher=weights,
        classes=[*splits.train.class_names, spec.teacher.classes if spec.teacher is not None else {}],
        data=[splits.version, spec.data.model_dump(mode="json")],
        kept=[kept.forms, kept.sites, kept.distributions],
        # What else decides the bits.
        computed=[device_name(device), torch.get_num_threads(), trainer.precision, torch.__version__],
    )
    return load_or_make(data_cache, key, teacher, device, make, look_up=look_up, tell=sink.log)


def _sha256_of(spec: JobSpec, teacher_path: Path | None) -> str | None:
    """The hash of the teacher's file; None where it is a folder or cannot be read, of which others tell."""
    path = teacher_path or (spec.teacher.path if spec.teacher is not None else None)
    if path is None:
        return None
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _check_teacher(spec: JobSpec, teacher: Teacher, splits: Splits, device: torch.device, sink: RunSink) -> None:
    """Refuse a teacher that fails on a few validation images, unless the spec says otherwise."""
    if spec.teacher is None or spec.teacher.preflight == "off":
        return
    try:
        report = preflight(spec, teacher.model, teacher.classes, splits.val, device)
    except DataError as error:
        raise JobError("bad-data", str(error)) from None
    for one in report.findings:
        level = "info" if one.verdict in ("ok", "info") else "warning"
        sink.log(f"{one.check}: {one.found}" + (f" ({one.advice})" if one.advice else ""), level)
    sink.log(f"teacher checked in {report.seconds:.1f} s: {report.verdict}")
    if report.failed and spec.teacher.preflight == "refuse":
        advice = "; ".join(one.advice for one in report.of("fail"))
        raise JobError(
            "teacher-failed-preflight",
            f"{report.reason()} ({advice}). `bcd doctor` tells more; set teacher.preflight: warn to train all the same",
        )


def _load_result(trainer: Trainer, sink: RunSink) -> int:
    """The step whose weights are the result, which the model holds afterwards."""
    selection = trainer.selection
    if not selection.has_best:
        return trainer.step
    selection.load_best(trainer.evaluated)
    sink.log(f"the result is the best evaluation: step {selection.best_step}")
    return selection.best_step


def _open(spec: JobSpec, cache: Path | None, sink: RunSink, processes: Processes) -> Splits:
    """The data set. The first process reads it before the others, which find its cache filled."""
    try:
        if not processes.first:
            processes.agree(True)
        splits = open_data(spec.data, cache_dir=cache, progress=sink.log)
        if processes.first:
            processes.agree(True)
    except DataError as error:
        raise JobError("bad-data", str(error)) from None
    return splits


def _tell_data(spec: JobSpec, splits: Splits, added: int, steps: int, sink: RunSink) -> None:
    for part, dataset in (("train", splits.train), ("val", splits.val)):
        sink.log(f"{part}: {len(dataset)} images, {len(dataset.class_names)} classes")
    if splits.unlabeled is not None:
        sink.log(f"unlabelled: {len(splits.unlabeled)} images, {added} added to each batch")
    sink.log(f"data version: {splits.version}")
    if spec.schedule.epochs is not None:
        sink.log(f"{spec.schedule.epochs:g} epochs are {steps:,} steps")


def _origin(spec: JobSpec, splits: Splits, teacher_path: Path | None, device: torch.device) -> dict[str, str]:
    """What the run rests on; of a teacher's file that cannot be read others tell."""
    facts = {"data_version": splits.version, **environment(device)}
    weights = _sha256_of(spec, teacher_path)
    return facts if weights is None else {**facts, "teacher_sha256": weights}


def _tell_student(spec: JobSpec, student: Detector, device: torch.device, processes: Processes, sink: RunSink) -> None:
    parameters = sum(p.numel() for p in student.parameters())
    if fixes_random_weights(spec.student):
        sink.log("student.frozen_stages or norm_eval without pretrained: random weights stay fixed", "warning")
    where = f"{device}" if processes.world == 1 else f"{processes.world} processes on {device.type}"
    sink.log(f"student: {spec.student.detector} {spec.student.backbone}, {parameters / 1e6:.3g} M parameters, {where}")
