"""Live teacher against kept outputs: how close the distillation is, steps per second, memory and AP, on digits.

    .venv/bin/python -m benchmarks.teacher_cache [--steps 300] [--images 400] [--seeds 0]

The first table measures one step: cosine and length of the student's gradient and both terms of BCKD, relative to the
live teacher's, for kept teachers and for two simpler forms of the best-sites cache. `only best` leaves the other sites
out of distillation; `prior boxes` keeps boxes of the best sites alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import bcd
from bcd.api import run_job
from bcd.data import open_data, train_batch
from bcd.methods import build_method
from bcd.methods.base import Step
from bcd.methods.match import ranked_logits
from bcd.methods.teacher import Teacher
from bcd.methods.teacher_cache import cache_outputs, plan_cache
from bcd.spec import JobSpec, load_spec, parse_spec
from benchmarks.timing import heading

RECIPES = Path(__file__).parents[1] / "recipes"
CPU = torch.device("cpu")


class Quiet:
    """Takes a run's reports and remembers when training went on."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.kept = ""

    def metrics(self, step: int, values: dict[str, float]) -> None:
        if "images_per_second" in values:
            self.rates.append(values["images_per_second"])

    def log(self, text: str, level: str = "info") -> None:
        if "kept in memory" in text:
            self.kept = text.rsplit(" ", 2)[-2] + " MB"

    def phase(self, name: str) -> None: ...
    def facts(self, values: dict[str, str]) -> None: ...
    def checkpoint(self, path: Path, step: int) -> None: ...
    def evaluation(self, step: int, name: str, protocol: str, results: dict[str, Any]) -> None: ...
    def artifact(self, type: str, name: str, path: Path, step: int) -> None: ...


def recipe(name: str, images: int, steps: int, **changes: Any) -> JobSpec:
    values = load_spec(RECIPES / f"{name}.yaml").canonical()
    values["data"].update(train_images=images, val_images=100)
    values["schedule"].update(steps=steps, checkpoint_every=100_000, warmup_steps=min(100, steps // 3))
    return parse_spec({**values, **changes})


def closeness(live: Teacher, student: bcd.models.detector.Detector, spec: JobSpec, cache: Path) -> None:
    data = open_data(spec.data, cache_dir=cache).train
    method = build_method(spec.methods[0], student, live.model)

    def measured(outputs: Any, batch: Any) -> tuple[torch.Tensor, dict[str, float]]:
        student.zero_grad()
        out = student(student.normalize(batch.images_B3HW))
        terms = method(Step.of(out, outputs, student.assign(out, batch.targets), batch.targets, live.classes))
        torch.stack(list(terms.values())).sum().backward()
        gradient = torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None])
        return gradient, {name: float(value.detach()) for name, value in terms.items()}

    def kept(sites: int | None) -> Any:
        assert spec.teacher is not None
        chosen = spec.model_copy(update={"teacher": spec.teacher.model_copy(update={"cache_sites": sites})})
        plan = plan_cache(chosen, data, [method], live, 10**6)
        assert plan is not None
        return cache_outputs(live, data, chosen, plan, CPU, nullcontext)

    caches = {sites: kept(sites) for sites in (None, 16, 32, 64)}
    rows: dict[str, list[list[float]]] = {}
    for step in range(4):
        batch = train_batch(data, spec.data, step=step, batch_size=16, seed=1)
        views = tuple((i, False) for i in batch.image_ids)
        real = live(batch.images_B3HW, nullcontext())
        forms = {
            "all sites" if sites is None else f"best {sites}": one(batch.images_B3HW, nullcontext(), views)
            for sites, one in caches.items()
        }
        for sites in (32, 64):
            score = ranked_logits(real).amax(-1)
            known = torch.zeros_like(score, dtype=torch.bool).scatter(1, score.topk(sites, 1).indices, True)
            forms[f"only best {sites}"] = replace(real, known_BA=known)
            boxes = torch.where(known[..., None], real.boxes_BA4, real.grid.prior_A4.expand_as(real.boxes_BA4))
            forms[f"best {sites}, prior boxes"] = replace(forms[f"best {sites}"], boxes_BA4=boxes)
        gradient, terms = measured(real, batch)
        for name, outputs in forms.items():
            other, found = measured(outputs, batch)
            numbers = [float(torch.cosine_similarity(other, gradient, 0)), float(other.norm() / gradient.norm())]
            rows.setdefault(name, []).append([*numbers, *(found[key] / terms[key] for key in terms)])
    print("| kept | gradient: cosine | length | bckd_cls | bckd_loc |\n|---|---|---|---|---|")
    for name, values in rows.items():
        means = torch.tensor(values).mean(0).tolist()
        print(f"| {name} | {means[0]:.4f} | " + " | ".join(f"{value:.3f}" for value in means[1:]) + " |")


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--steps", type=int, default=300)
    given.add_argument("--images", type=int, default=400)
    given.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = given.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        print(heading("Kept teachers"))
        common = {"images": options.images, "steps": options.steps}
        teacher = run_job(recipe("demo-teacher", **common), workdir=base / "t", sink=Quiet(), data_cache=base / "d")
        half = recipe("demo-baseline", options.images, options.steps // 2)
        student = run_job(half, workdir=base / "s", sink=Quiet(), data_cache=base / "d").path
        print(f"{options.images} images, {options.steps} steps, teacher AP {teacher.evaluation['AP']:.1f}\n")
        pupil = bcd.load_detector(student).train()
        live = Teacher(bcd.load_detector(teacher.path), pupil, CPU)
        where = {"path": str(teacher.path), "preflight": "off"}
        closeness(live, pupil, recipe("demo-bckd", **common, teacher=where), base / "d")
        print("\n| teacher | images/s | seconds in all | memory | AP by seed |\n|---|---|---|---|---|")
        for name, settings in {
            "live": {"cache": "off"},
            "all sites kept": {},
            "best 64": {"cache_sites": 64},
            "best 16": {"cache_sites": 16},
        }.items():
            sink, seconds, found = Quiet(), 0.0, []
            for seed in options.seeds:
                spec = recipe("demo-bckd", **common, teacher={**where, **settings}, seed=seed)
                start = time.perf_counter()
                result = run_job(spec, workdir=base / f"{name}-{seed}", sink=sink, data_cache=base / "d")
                seconds += time.perf_counter() - start
                found.append(f"{result.evaluation['AP']:.1f}")
            rate = sorted(sink.rates)[len(sink.rates) // 2]
            print(f"| {name} | {rate:.0f} | {seconds / len(found):.0f} | {sink.kept or '-'} | {', '.join(found)} |")


if __name__ == "__main__":
    main()
