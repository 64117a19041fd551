"""Runs with unlabelled images: what is learnt from them, what is reported, and that resuming changes nothing."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bcd.api import Cancelled, run_job
from bcd.data import open_data, train_batch
from bcd.engine.task import DetectionTask
from bcd.models.build import build_detector
from bcd.spec import JobSpec
from tests.helpers.runs import TINY, MemorySink, tiny_spec

UNLABELED = {"images": 12, "per_batch": 3}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    return run_job(
        tiny_spec(seed=7), workdir=tmp_path_factory.mktemp("teacher"), sink=MemorySink(), data_cache=cache
    ).path


def distilled(**changes: Any) -> JobSpec:
    changes = {"data.unlabeled": UNLABELED, "teacher": {"path": "given", "preflight": "off"}, **changes}
    return tiny_spec(**{"methods": [{"type": "bckd", "warmup": 0.25}], **changes})


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path)


def same(a: Path, b: Path) -> bool:
    one, two = weights(a), weights(b)
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_a_run_counts_them_in_its_log_and_metrics(tmp_path: Path, cache: Path, teacher: Path) -> None:
    sink = MemorySink()
    run_job(distilled(), workdir=tmp_path, sink=sink, teacher_path=teacher, data_cache=cache)
    assert ("info", "unlabelled: 12 images, 3 added to each batch") in sink.lines
    assert any(text.startswith("data version: ") for _, text in sink.lines)
    assert sink.series("unlabeled_images") == [6, 12, 18, 24]
    assert any("over 44 " in text for _, text in sink.lines), sink.lines  # the kept teacher knows all 32 + 12


def test_they_change_what_is_learnt_but_not_the_protocol(tmp_path: Path, cache: Path, teacher: Path) -> None:
    paths, protocols = [], []
    blocks: dict[str, Any] = {"with": UNLABELED, "heavier": {**UNLABELED, "weight": 2}, "without": None}
    for name, block in blocks.items():
        sink, spec = MemorySink(), distilled(**{"data.unlabeled": block})
        result = run_job(spec, workdir=tmp_path / name, sink=sink, teacher_path=teacher, data_cache=cache)
        paths.append(result.path)
        protocols.append(sink.evaluations[-1][2])
    assert not same(paths[0], paths[1])
    assert not same(paths[0], paths[2])
    assert len(set(protocols)) == 1


@pytest.mark.parametrize("augment", [{}, {"multi_scale": [48, 80], "crop": 0.3, "mosaic": 0.5, "color": 0.2}])
def test_a_resumed_run_ends_with_the_same_bits(
    tmp_path: Path, cache: Path, teacher: Path, augment: dict[str, Any]
) -> None:
    spec = distilled(**{"data.augment": augment, "data.group_by_shape": True})
    whole = run_job(spec, workdir=tmp_path / "whole", sink=MemorySink(), teacher_path=teacher, data_cache=cache)
    cut = MemorySink()
    with pytest.raises(Cancelled):
        run_job(
            spec,
            workdir=tmp_path / "cut",
            sink=cut,
            teacher_path=teacher,
            data_cache=cache,
            should_stop=lambda: bool(cut.series("loss")),  # not before the first steps: it is asked earlier too
        )
    saved = sorted((tmp_path / "cut" / "checkpoints").iterdir(), reverse=True)
    rest = run_job(
        spec, workdir=tmp_path / "cut", sink=MemorySink(), teacher_path=teacher, data_cache=cache, resume_from=saved
    )
    assert same(whole.path, rest.path)


@pytest.mark.parametrize("detector", ["gfl", "atss", "fcos", "retinanet"])
def test_the_task_loss_is_that_of_the_labelled_images_alone(detector: str) -> None:
    spec = distilled()
    torch.manual_seed(0)
    student = build_detector(
        **{**spec.student.model_dump(), "detector": detector}, class_names=[str(n) for n in range(10)]
    ).eval()
    torch.nn.init.zeros_(student.head.cls.bias)  # scores of one half: background counts
    task = DetectionTask(student)
    splits = open_data(spec.data)
    alone = train_batch(splits.train, spec.data, step=0, batch_size=4, seed=0)
    mixed = train_batch(splits.train, spec.data, step=0, batch_size=4, seed=0, unlabeled=splits.unlabeled)
    empty = replace(mixed.targets, labelled_B=None, distill_B=None)  # as if they were images without objects
    with torch.no_grad():
        one = task(alone.images_B3HW, alone.targets, 0.0, nullcontext())
        two = task(mixed.images_B3HW, mixed.targets, 0.0, nullcontext())
        wrong = task(mixed.images_B3HW, empty, 0.0, nullcontext())
    for name, value in one.items():
        assert float(two[name]) == pytest.approx(float(value), rel=1e-4), name
    assert float(wrong["loss"]) != pytest.approx(float(one["loss"]), rel=0.05)


assert TINY["schedule"]["steps"] == 8  # what the counts above rest on
