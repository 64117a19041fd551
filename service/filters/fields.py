"""The table of fields: every name that lists filter and sort by, and the column that it stands for."""

from __future__ import annotations

from typing import get_args

from bcd.spec import MethodSpec
from service.filters.kinds import ColumnField, Field, Method, Metric, Number, Span, Tag, Text, Time, Unfit, Word, near
from service.models import Job, JobState


def _method_types() -> tuple[str, ...]:
    union = get_args(MethodSpec)[0]
    return tuple(get_args(each.model_fields["type"].annotation)[0] for each in get_args(union))


_ALL: tuple[Field, ...] = (
    Word(name="state", column=Job.state, help="State of the job.", example="state:running,queued",
         choices=tuple(state.value for state in JobState)),
    Text(name="name", column=Job.name, sort=str, help="Part of the name; `=` for the whole name.",
         example="name:cells"),
    Method(name="method", help="A distillation method; none: trained on labels alone.", example="method:bckd",
           choices=(*_method_types(), "none")),
    Word(name="detector", column=Job.detector, help="Detector and backbone.", example="detector:gfl-resnet18"),
    Word(name="dataset", column=Job.dataset, help="Type of the data set.", example="dataset:voc"),
    Number(name="seed", column=Job.seed, help="Seed of the run.", example="seed:0,1,2"),
    Tag(name="tag", help="A tag.", example="tag:night"),
    Word(name="group", column=Job.group, nullable=True, help="Runs that are looked at together.",
         example="group:sweep-7"),
    Word(name="project", column=Job.project_id, help="Project of the job.", example="project:cells"),
    Word(name="id", column=Job.id, help="Id of the job.", example="id:job_1"),
    Word(name="teacher", column=Job.teacher_job_id, nullable=True, sort=None, help="The job that trained its teacher.",
         example="teacher:job_1"),
    Word(name="parent", column=Job.parent_id, nullable=True, sort=None,
         help="The job that it was cloned from or takes up again.", example="parent:job_1"),
    Word(name="created_by", column=Job.created_by, nullable=True, help="Name of the user.", example="created_by:ann"),
    Number(name="priority", column=Job.priority, help="Higher goes first.", example="priority>=1"),
    Number(name="step", column=Job.step, help="The last step that was reported.", example="step>1000"),
    Text(name="cause", column=Job.cause, nullable=True, help="Part of why it ended.", example='cause:"out of memory"'),
    Text(name="wait", column=Job.wait_reason, nullable=True, help="Part of why it waits.", example="wait:quota"),
    Time(name="created", column=Job.created_at, help="When it was submitted (UTC).", example="created>=2026-11-01"),
    Time(name="started", column=Job.started_at, nullable=True, help="When it first ran (UTC).",
         example="started:2026-11-01"),
    Time(name="ended", column=Job.ended_at, nullable=True, help="When it ended (UTC).",
         example="ended<2026-11-01T18:30"),
    Span(name="age", column=Job.created_at, since=True, help="Time since it was submitted.", example="age<7d"),
    Span(name="duration", column=Job.ended_at - Job.started_at, nullable=True, sort=float,
         help="From its first start to its end.", example="duration>2h"),
)  # fmt: skip
FIELDS = {field.name: field for field in _ALL}
# Metrics that need no prefix: what every run reports. All others are `best.KEY`, `last.KEY`, or have a slash.
_PLAIN = ("AP", "AP50", "AP75", "APs", "APm", "APl", "loss", "grad_norm", "lr", "images_per_second")
METRICS = {key.lower(): key for key in _PLAIN}


def metric(name: str) -> Metric | None:
    """`AP`, `loss/qfl` (their best), `last.loss`, `best.anything`; None where the name is of another kind."""
    prefix, dot, key = name.partition(".")
    if dot and prefix.lower() in ("best", "last") and key:
        last, key = prefix.lower() == "last", METRICS.get(key.lower(), key)
    elif name.lower() in METRICS or "/" in name:
        last, key = False, METRICS.get(name.lower(), name)
    else:
        return None
    shown = f"{'last' if last else 'best'}.{key}"
    return Metric(
        name=shown, key=key, last=last, help=f"The {shown.replace('.', ' ')} of a job.", example=f"{shown}>30"
    )


def field(name: str) -> Field:
    """The field of a name in any case. Raises `Unfit` with what may have been meant."""
    found = FIELDS.get(name.lower()) or metric(name)
    if found is None:
        hint = f"a metric of that name is `best.{name}` or `last.{name}`"
        raise Unfit(f"there is no field {name!r} ({hint})", near(name, [*FIELDS, *METRICS]))
    return found


def sortable() -> dict[str, ColumnField]:
    """The fields, besides metrics, that lists sort by."""
    return {name: one for name, one in FIELDS.items() if isinstance(one, ColumnField) and one.sort is not None}
