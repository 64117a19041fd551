"""Every recipe of a published result is a spec that plans, and that trains two steps on a tiny COCO set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import bcd
from bcd.api import run_job
from bcd.engine import run as engine_run
from bcd.engine import trainer
from bcd.models.files import save_detector
from bcd.spec import JobSpec, load_spec, parse_spec
from bcd.spec.plan import check_pair
from tests.helpers.runs import MemorySink
from tests.helpers.tiny_sets import CLASSES, write_tiny_coco

FOLDER = Path(__file__).parents[3] / "recipes/published"
INDEX: list[dict[str, Any]] = yaml.safe_load((FOLDER / "published.yaml").read_text())
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.name != "published.yaml")
# The same layers with fewer channels: the wiring is what is under test. ImageNet weights need a network, and without
# them fixed BatchNorm statistics let activations grow beyond all bounds.
SMALL = {"fpn_channels": 32, "pretrained": False}
FREE = {"frozen_stages": -1, "norm_eval": False}


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {"": tmp_path_factory.mktemp("teachers")}


def teacher_file(name: str, teachers: dict[str, Path]) -> Path:
    """An untrained detector as the teacher's own recipe describes it."""
    if name not in teachers:
        student = load_spec(FOLDER / f"{name}.yaml").student.model_dump() | SMALL | FREE
        model = bcd.build_detector(**student, class_names=CLASSES).train()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        with torch.no_grad():
            model(torch.randn(2, 3, 64, 96))
        teachers[name] = save_detector(model, teachers[""] / f"{name}.safetensors")
    return teachers[name]


def test_the_table_and_the_recipes_name_each_other():
    assert sorted(row["recipe"] for row in INDEX) == NAMES
    for row in INDEX:
        spec = load_spec(FOLDER / f"{row['recipe']}.yaml")
        assert spec.name == row["recipe"]
        assert (spec.teacher is None) == (row.get("teacher") is None)
        if spec.teacher is not None:
            assert Path(spec.teacher.path or "").stem == row["teacher"]
        assert row["ap"] is None or f"COCO val AP: {row['ap']}" in (FOLDER / f"{spec.name}.yaml").read_text()


def test_the_schedules_are_the_published_ones():
    # COCO: 117,266 images with objects, 7,330 steps of 16 in an epoch.
    one, two = (load_spec(FOLDER / f"retinanet-r50-{preset}.yaml").schedule for preset in ("1x", "2x"))
    assert one.resolve(117_266) == (87_960, (58_640, 80_630))
    assert two.resolve(117_266) == (175_920, (117_280, 161_260))
    assert (one.batch_size, one.warmup_steps, one.warmup_start) == (16, 500, 0.001)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_trains_two_steps(
    name: str, tmp_path: Path, teachers: dict[str, Path], monkeypatch: pytest.MonkeyPatch
):
    # Hundreds of megabytes for each recipe, synced to the disk; what is in such files is tested elsewhere.
    monkeypatch.setattr(trainer, "save_checkpoint", lambda path, state: path)
    monkeypatch.setattr(engine_run, "save_detector", lambda model, path: path)
    values = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    planned: JobSpec = parse_spec(values)
    if planned.teacher is not None:
        other = load_spec(FOLDER / f"{Path(planned.teacher.path or '').stem}.yaml")
        check_pair(planned, other.student.model_dump())
        path = teacher_file(other.name, teachers)
        values["teacher"] |= {"path": str(path), "preflight": "off"}
    augment = dict(values["data"]["augment"])
    if "multi_scale" in augment:
        augment["multi_scale"] = [48, 64]
    values["data"] = {
        **write_tiny_coco(tmp_path / "coco", 4, 1),
        "skip_empty": True,
        "image_size": [64, 96],
        "augment": augment,
    }
    values["student"] |= SMALL | FREE
    values["schedule"] |= {"steps": 2, "batch_size": 2, "log_every": 1}
    values["resources"] = {"cpus": 1}
    sink = MemorySink()
    result = run_job(parse_spec(values), workdir=tmp_path / "run", sink=sink)
    assert result.steps == 2
    losses = sink.series("loss")
    assert len(losses) == 2
    assert all(torch.isfinite(torch.tensor(losses)))
    for method in planned.methods:
        assert any(key.startswith(f"loss/{method.type}_") for _, found in sink.values for key in found)
