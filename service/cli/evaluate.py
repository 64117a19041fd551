"""Commands that judge finished detectors on a data set: evaluate (one of them), report (several side by side)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.console import EXIT_BAD_INPUT, Fault, err, out, remark, say
from service.cli.files import SET_HELP

if TYPE_CHECKING:
    from bcd.data import Dataset
    from bcd.eval import Report
    from bcd.models.detector import Detector
    from bcd.spec import JobSpec

QUIET_SECONDS, LINE_SECONDS = 3.0, 5.0  # work up to the first is not reported; then a line this often

Data = Annotated[
    Path,
    typer.Option(
        "--data", help="Spec file; its `data` and `evaluation` count, on the validation part.", metavar="SPEC"
    ),
]
Change = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=SET_HELP)]
DataRoot = Annotated[Path | None, typer.Option("--data-root", help="Folder of the data set (data.root).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON in place of tables.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, or auto: a GPU where there is one.")]


def evaluate(
    model: Annotated[Path, typer.Argument(help="Detector file, or predictions.npz of one.", show_default=False)],
    data: Data,
    to: Annotated[Path | None, typer.Option("--out", help="Folder for report.json and predictions.npz.")] = None,
    change: Change = None,
    data_root: DataRoot = None,
    as_json: Json = False,
    device: Device = "auto",
) -> None:
    """Judge a detector: AP by class and size, error types, calibration, best score threshold.

    A detector with more classes than the data is judged on those that both know by name.
    """
    spec = _read(data, change, data_root)
    dataset = _open(spec)
    subject = Subject.open(_name_of(model), model, spec, dataset, device)
    report = subject.judge(to)
    _show([report.to_json()], as_json, extra=[])
    if to is not None and not as_json:
        say(f"written: {to / 'report.json'}" + ("" if subject.model is None else f", {to / 'predictions.npz'}"))


def report(
    data: Data,
    to: Annotated[Path, typer.Option("--out", help="Folder for the reports, comparison.json and drawings.")],
    teacher: Annotated[Path, typer.Option("--teacher", help="Teacher: a detector file, or its predictions.npz.")],
    student: Annotated[Path, typer.Option("--student", help="Student: a detector file, or its predictions.npz.")],
    baseline: Annotated[
        Path | None, typer.Option("--baseline", help="The student trained without the teacher, likewise.")
    ] = None,
    images: Annotated[int, typer.Option("--images", min=0, help="Images drawn of each kind of disagreement.")] = 8,
    cost: Annotated[bool, typer.Option("--cost/--no-cost", help="Measure FLOPs and latency of detector files.")] = True,
    change: Change = None,
    data_root: DataRoot = None,
    as_json: Json = False,
    device: Device = "auto",
) -> None:
    """Teacher, baseline and student side by side: what distillation gave, what it costs to run, and where they differ.

    Writes ROLE/report.json and ROLE/predictions.npz for each, comparison.json, and images/ with ground truth and
    detectors side by side on the images on which teacher and student differ most.
    """
    spec = _read(data, change, data_root)
    dataset = _open(spec)
    files = {"teacher": teacher, "baseline": baseline, "student": student}
    subjects = [Subject.open(role, file, spec, dataset, device) for role, file in files.items() if file is not None]
    costs = _costs(subjects, spec, dataset) if cost else {}
    reports = {one.name: one.judge(to / one.name, costs.get(one.name)) for one in subjects}

    from bcd.eval.comparison import compare, draw_disagreements
    from bcd.eval.report import write_json

    comparison = compare(dataset, reports, first="teacher", second="student", top=max(images, 20))
    drawn = replace(comparison, ranked={kind: found[:images] for kind, found in comparison.ranked.items()})
    with counted("drawing", "images") as progress, _told_as_fault():
        drawings = draw_disagreements(dataset, drawn, to / "images", progress=progress)
    whole = comparison.to_json({key: f"images/{name}" for key, name in drawings.items()})
    write_json(to / "comparison.json", whole)
    if as_json:
        say(json.dumps(whole, ensure_ascii=False))
        return
    from service.cli.render_report import disagreement_lines

    _show([one.to_json() for one in reports.values()], False, extra=disagreement_lines(whole))
    say(f"written: {to / 'comparison.json'}, {len(drawings)} drawings in {to / 'images'}")


@dataclass(frozen=True)
class Subject:
    """Something to be judged: a detector (`model`), or detections that were stored (`model` is None)."""

    name: str
    path: Path
    spec: JobSpec
    dataset: Dataset
    device: Any
    model: Detector | None
    classes: Any = None

    @classmethod
    def open(cls, name: str, path: Path, spec: JobSpec, dataset: Dataset, device: str) -> Subject:
        """Raises `Fault` for a file that is no detector, or one without a class in common with the data."""
        import torch

        place = _device(device)
        if path.suffix == ".npz":
            return cls(name, path, spec, dataset, place, None)
        from bcd import load_detector
        from bcd.methods.match import ClassMap

        with _told_as_fault():
            model = load_detector(path).to(place)
            known = set(model.info.class_names)
            # A name that the detector knows needs no other; the spec's table is for teachers that call it otherwise.
            table = spec.teacher.classes if spec.teacher is not None else {}
            renamed = {ours: theirs for ours, theirs in table.items() if ours not in known and theirs in known}
            classes = ClassMap.by_name(dataset.class_names, model.info.class_names, renamed)
        if place.type == "cpu":
            torch.set_num_threads(spec.resources.cpus)
        return cls(name, path, spec, dataset, place, model, classes)

    def judge(self, folder: Path | None, cost: dict[str, Any] | None = None) -> Report:
        """The report; with a folder also its files."""
        from bcd.engine.evaluate import REPORT_FILE, detect, final_report
        from bcd.eval import load_predictions, make_report

        evaluation = self.spec.evaluation
        with counted(self.name, "images") as progress, _told_as_fault():
            if self.model is None:
                stored = load_predictions(self.path)
                made = make_report(
                    self.dataset,
                    stored.of(self.dataset),
                    name=self.name,
                    max_detections=evaluation.max_detections,
                    protocol={"hash": stored.protocol, "parts": None},
                    notes=[f"{self.name}: from stored predictions of {stored.detector or 'a detector'}"],
                )
                if folder is not None:
                    made.save(folder / REPORT_FILE)
                return made
            # What a detector file holds are its final weights, averaged or not: that is the training's affair.
            shared = {"device": self.device, "classes": self.classes, "progress": progress}
            if folder is not None:
                return final_report(
                    self.model, self.dataset, self.spec.data, evaluation, folder=folder, ema=False,
                    precision="fp32", weights="file", name=self.name, cost=cost, autocast=nullcontext, **shared,
                ).report  # fmt: skip
            found = detect(self.model, self.dataset, self.spec.data, evaluation, **shared)
            return make_report(self.dataset, found, name=self.name, max_detections=evaluation.max_detections, cost=cost)


@contextmanager
def counted(label: str, what: str) -> Iterator[Callable[[int, int], None]]:
    """Progress of counted work on stderr once it takes more than a few seconds: a bar, or lines where none can be."""
    console = err()
    start = said = time.monotonic()
    if console.is_terminal:
        from rich.progress import Progress

        with Progress(console=console, transient=True, disable=False) as bars:
            bar = bars.add_task(label, total=None, visible=False)

            def move(done: int, total: int) -> None:
                late = time.monotonic() - start > QUIET_SECONDS
                bars.update(bar, completed=done, total=total, visible=late)

            yield move
        return

    def tell(done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - start > QUIET_SECONDS and (now - said > LINE_SECONDS or said == start):
            said = now
            remark(f"{label}: {done:,} of {total:,} {what}")

    yield tell


def _read(file: Path, change: list[str] | None, data_root: Path | None) -> JobSpec:
    """The spec of a file that may hold nothing but `data` and `evaluation`."""
    from bcd.spec import parse_spec
    from service.cli.files import apply_change, make_absolute, read_values

    values = read_values(file)
    for one in change or []:
        apply_change(values, one)
    if data_root is not None and isinstance(values.get("data"), dict):
        values["data"]["root"] = str(data_root)
    make_absolute(values)
    return parse_spec({**values, "student": values.get("student", {})})


def _open(spec: JobSpec) -> Dataset:
    from bcd.data import open_val
    from service.cli.local import data_cache

    with _told_as_fault():
        return open_val(spec.data, cache_dir=data_cache(), progress=remark)


def _costs(subjects: list[Subject], spec: JobSpec, dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Cost of each detector at the input size of the first image, measured in turns."""
    from bcd.cost import measure_costs
    from bcd.data.loader import padded_size
    from bcd.engine.evaluate import options_of

    models = {one.name: one.model for one in subjects if one.model is not None}
    if not models or not len(dataset):
        return {}
    record = dataset.records[0]
    size = padded_size(record.height, record.width, spec.data)
    remark(f"measuring cost at {size[0]}x{size[1]} (height x width)")
    options = options_of(spec.evaluation)
    found = measure_costs(models, size, device=subjects[0].device, options=options)
    return {one.name: one.as_dict() for one in found}


@contextmanager
def _told_as_fault() -> Iterator[None]:
    """Faults of files and data as one line, without a traceback."""
    from bcd.data import DataError
    from bcd.eval import PredictionsError
    from bcd.methods.match import MatchError
    from bcd.models.files import DetectorFileError

    try:
        yield
    except (DataError, PredictionsError, MatchError, DetectorFileError) as error:
        raise Fault(str(error), EXIT_BAD_INPUT) from None
    except OSError as error:
        raise Fault(f"{error.filename or 'a file'}: {error.strerror or error}") from None


def _device(wanted: str) -> Any:
    import torch

    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted not in ("cpu", "cuda"):
        raise Fault(f"--device {wanted!r}: use cpu, cuda or auto", EXIT_BAD_INPUT)
    if wanted == "cuda" and not torch.cuda.is_available():
        raise Fault("--device cuda: this machine has no GPU", EXIT_BAD_INPUT)
    return torch.device(wanted)


def _name_of(path: Path) -> str:
    """A short name for people: the folder's where the file is called as every run's result is."""
    plain = path.resolve()
    return plain.parent.name if plain.stem in ("student", "predictions") and plain.parent.name else plain.stem


def _show(reports: list[dict[str, Any]], as_json: bool, extra: list[Any]) -> None:
    if as_json:
        say(json.dumps(reports[0], ensure_ascii=False))
        return
    from service.cli.render_report import report_tables

    for part in [*report_tables(reports), *extra]:
        out().print(part)
