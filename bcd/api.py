"""Run one job from its spec, without any service: the one door through which `bcd train` and the workers come."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from bcd.engine.distributed import run_together
from bcd.engine.errors import PROCESS_DIED, Cancelled, JobError
from bcd.engine.report import RunResult, RunSink, ap_metrics
from bcd.engine.run import run_here
from bcd.spec import JobSpec

__all__ = ["PROCESS_DIED", "Cancelled", "JobError", "RunResult", "RunSink", "ap_metrics", "run_job"]


def run_job(
    spec: JobSpec,
    *,
    workdir: Path,
    sink: RunSink,
    teacher_path: Path | None = None,
    data_cache: Path | None = None,
    resume_from: Iterable[Path] = (),
    should_stop: Callable[[], bool] = lambda: False,
    gallery: bool = False,
) -> RunResult:
    """Train, evaluate and export what a spec describes, in this process or, where the spec asks for several, in new
    ones that end with this call.

    Args:
        workdir: folder for checkpoints and the result.
        sink: receives metrics, log lines, checkpoints and evaluations.
        teacher_path: file of the teacher; overrides `spec.teacher.path`, needed when the spec names a job.
        data_cache: folder in which generated and decoded data may be kept.
        resume_from: checkpoints, newest first; the first usable one is continued.
        should_stop: asked after every step, and while the teacher's outputs are made.
        gallery: also give the sink pictures of validation images (`bcd.detections.gallery`), for whoever shows
            detections where the data set is not.

    Raises:
        JobError: the job cannot be done as specified; the message says what to change.
        Cancelled: should_stop said so; a checkpoint was written if training had begun.
    """
    run = run_here if spec.resources.world == 1 else run_together
    return run(
        spec,
        workdir=workdir,
        sink=sink,
        teacher_path=teacher_path,
        data_cache=data_cache,
        resume_from=resume_from,
        should_stop=should_stop,
        gallery=gallery,
    )
