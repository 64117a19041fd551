"""Teacher outputs are kept only where every image is always the same, and then they teach the same."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import bcd
from bcd.api import Cancelled, run_job
from bcd.data import open_data, train_batch
from bcd.methods import build_method
from bcd.methods.teacher import Teacher
from bcd.methods.teacher_cache import cache_outputs, worth_caching
from bcd.models.files import save_detector
from tests.helpers.runs import MemorySink, tiny_spec

CPU = torch.device("cpu")


def distilled(**changes):
    given = {"teacher": {"path": "given", "preflight": "off"}, "methods": [{"type": "bckd"}], "data.train_images": 12}
    return tiny_spec(**{**given, **changes})


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def teacher_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    model = bcd.build_detector(**tiny_spec().student.model_dump(), class_names=tuple("9876543210"))
    return save_detector(model, tmp_path_factory.mktemp("teacher") / "student.safetensors")


def student():
    return bcd.build_detector(**tiny_spec().student.model_dump(), num_classes=10)


def test_kept_outputs_are_those_of_the_live_teacher(cache, teacher_path):
    spec = distilled()
    data = open_data(spec.data, cache_dir=cache).train
    live = Teacher(bcd.load_detector(teacher_path), student(), CPU)
    kept = cache_outputs(live, data, spec, CPU, nullcontext())
    for step in range(6):  # two epochs
        batch = train_batch(data, spec.data, step=step, batch_size=4, seed=3)
        expected = live(batch.images_B3HW, nullcontext(), batch.image_ids)
        found = kept(batch.images_B3HW, nullcontext(), batch.image_ids)
        torch.testing.assert_close(found.logits_BAC, expected.logits_BAC)
        torch.testing.assert_close(found.boxes_BA4, expected.boxes_BA4)
        assert torch.equal(found.grid.centre_A2, expected.grid.centre_A2)


@pytest.mark.parametrize(
    ("changes", "worth"),
    [
        ({}, True),
        ({"teacher": {"path": "given", "cache": "off"}}, False),
        ({"data.augment": {"color": 0.1}}, False),
        ({"data.augment": {"flip": 0.5}}, False),
        ({"schedule.steps": 3}, False),  # 12 images of 12: each is seen once
        ({"schedule.steps": 4}, True),
    ],
)
def test_outputs_are_kept_where_it_is_right_and_pays(cache, changes, worth):
    spec = distilled(**changes)
    data = open_data(spec.data, cache_dir=cache).train
    assert worth_caching(spec, data, [build_method(m, student(), student()) for m in spec.methods], student()) is worth


def test_a_method_that_reads_more_than_scores_and_boxes_gets_the_live_teacher(cache):
    spec = distilled()
    method = build_method(spec.methods[0], student(), student())
    method.needs = frozenset({"scores", "features"})
    assert not worth_caching(spec, open_data(spec.data, cache_dir=cache).train, [method], student())


def test_a_run_says_that_it_keeps_outputs_and_learns_the_same_as_with_the_live_teacher(tmp_path, cache, teacher_path):
    runs = {}
    for mode in ("auto", "off"):
        sink = MemorySink()
        spec = distilled(**{"teacher": {"path": "given", "cache": mode, "preflight": "off"}})
        runs[mode] = run_job(spec, workdir=tmp_path / mode, sink=sink, teacher_path=teacher_path, data_cache=cache)
        assert any("kept in memory" in text for _, text in sink.lines) is (mode == "auto")
    ours, theirs = load_file(runs["auto"].path), load_file(runs["off"].path)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-4)


def test_a_resumed_run_with_kept_outputs_ends_with_the_same_bits(tmp_path, cache, teacher_path):
    def go(folder: str, **more):
        return run_job(
            distilled(),
            workdir=tmp_path / folder,
            sink=MemorySink(),
            teacher_path=teacher_path,
            data_cache=cache,
            **more,
        )

    whole, steps = go("whole"), iter(range(100))
    with pytest.raises(Cancelled):
        go("cut", should_stop=lambda: next(steps) >= 5)
    saved = sorted((tmp_path / "cut" / "checkpoints").iterdir(), reverse=True)
    rest = go("cut", resume_from=saved)
    ours, theirs = load_file(whole.path), load_file(rest.path)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
