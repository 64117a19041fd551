"""Teacher outputs are kept only where every image comes in known forms, and then they teach the same."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import bcd
from bcd.api import Cancelled, run_job
from bcd.data import open_data, train_batch
from bcd.data.transforms import draw_augmentation
from bcd.methods import build_method
from bcd.methods.match import ranked_logits
from bcd.methods.teacher import Teacher
from bcd.methods.teacher_cache import CachedTeacher, cache_outputs, plan_cache
from bcd.models.files import save_detector
from bcd.spec import parse_spec
from tests.helpers.runs import TINY, MemorySink, tiny_spec

CPU = torch.device("cpu")


def distilled(**changes):
    teacher = {"path": "given", "preflight": "off", **changes.pop("teacher", {})}
    return tiny_spec(
        **{"teacher": teacher, "methods": [{"type": "bckd"}], "data.train_images": 12, "schedule.steps": 8, **changes}
    )


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


def planned(spec, data, teacher: Teacher):
    methods = [build_method(m, student(), teacher.model) for m in spec.methods]
    return plan_cache(spec, data, methods, teacher, spec.schedule.resolve(len(data)).steps)


def kept_of(spec, data, teacher: Teacher) -> CachedTeacher:
    plan = planned(spec, data, teacher)
    assert plan is not None
    kept = cache_outputs(teacher, data, spec, plan, CPU, nullcontext)
    assert kept.bytes == plan.bytes
    return kept


def batches(spec, data, steps: int):
    """Training batches with their views."""
    for step in range(steps):
        batch = train_batch(data, spec.data, step=step, batch_size=4, seed=3)
        flips = [draw_augmentation(spec.data.augment, seed=3, step=step, position=n).flip for n in range(4)]
        yield batch, tuple(zip(batch.image_ids, flips, strict=True))


@pytest.mark.parametrize("flip", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    "other",
    [{"detector": "gfl"}, {"detector": "fcos"}, {"detector": "retinanet", "strides": [8, 16, 32]}],
    ids=["gfl", "centerness", "anchors-and-strides"],
)
def test_kept_outputs_are_those_of_the_live_teacher(cache, other, flip):
    """Its own grid, centerness and anchors, for plain and for mirrored images."""
    spec = distilled(**{"data.augment": {"flip": flip}, "schedule.steps": 20})
    data = open_data(spec.data, cache_dir=cache).train
    torch.manual_seed(2)
    arguments = {**TINY["student"], "prior_scale": None, **other}
    live = Teacher(bcd.build_detector(**arguments, num_classes=10).eval(), student(), CPU)
    kept, flipped = kept_of(spec, data, live), []
    for batch, views in batches(spec, data, 6):  # two epochs
        expected = live(batch.images_B3HW, nullcontext())
        found = kept(batch.images_B3HW, nullcontext(), views)
        torch.testing.assert_close(found.logits_BAC, expected.logits_BAC)
        torch.testing.assert_close(found.boxes_BA4, expected.boxes_BA4)
        assert (found.centerness_BA is None) == (expected.centerness_BA is None)
        if expected.centerness_BA is not None:
            torch.testing.assert_close(found.centerness_BA, expected.centerness_BA)
        assert torch.equal(found.grid.centre_A2, expected.grid.centre_A2)
        flipped += [mirrored for _, mirrored in views]
    assert set(flipped) == ({True, False} if flip == 0.5 else {bool(flip)})


def test_the_best_sites_are_kept_in_half_precision_and_the_others_share_their_mean(cache, teacher_path):
    spec = distilled(teacher={"cache_sites": 20})
    data = open_data(spec.data, cache_dir=cache).train
    live = Teacher(bcd.load_detector(teacher_path), student(), CPU)
    kept = kept_of(spec, data, live)
    for batch, views in batches(spec, data, 3):
        expected = live(batch.images_B3HW, nullcontext())
        found = kept(batch.images_B3HW, nullcontext(), views)
        best_BA = ranked_logits(expected).amax(-1)
        worst_B1 = best_BA.topk(20, dim=1).values[:, -1:]
        known = best_BA >= worst_B1
        torch.testing.assert_close(found.logits_BAC[known], expected.logits_BAC[known], atol=0.01, rtol=0)
        for logits, real, mine in zip(found.logits_BAC, expected.logits_BAC, known, strict=True):
            torch.testing.assert_close(logits[~mine], real[~mine].mean(0).expand_as(logits[~mine]))
        torch.testing.assert_close(found.boxes_BA4, expected.boxes_BA4, atol=0.1, rtol=0)
        assert found.known_BA is None
    assert kept.bytes < kept_of(distilled(), data, live).bytes / 3


def test_images_of_several_sizes_find_their_sites_in_the_grid_of_the_batch(tmp_path, teacher_path):
    sizes = [(96, 64), (64, 96), (64, 64)]
    for n, (width, height) in enumerate(sizes):
        pixels = np.random.default_rng(n).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{n}.png")
    images = [{"id": n, "file_name": f"{n}.png", "width": w, "height": h} for n, (w, h) in enumerate(sizes)]
    boxes = [{"id": n + 1, "image_id": n, "category_id": 1, "bbox": [8, 8, 30, 30], "area": 900} for n in range(3)]
    categories = [{"id": 1, "name": "3"}]
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    spec = parse_spec({
        **distilled().canonical(),
        "data": {
            "type": "coco", "root": str(tmp_path), "image_size": [64, 96], "train_annotations": "a.json",
            "val_annotations": "a.json", "train_folder": ".", "val_folder": ".",
        },
    })  # fmt: skip
    data = open_data(spec.data).train
    pupil = bcd.build_detector(**TINY["student"], class_names=["3"])
    live = Teacher(bcd.load_detector(teacher_path), pupil, CPU)
    methods = [build_method(m, pupil, live.model) for m in spec.methods]
    for sites in (None, 10):
        spec = spec.model_copy(update={"teacher": spec.teacher.model_copy(update={"cache_sites": sites})})
        plan = plan_cache(spec, data, methods, live, 8)
        kept = cache_outputs(live, data, spec, plan, CPU, nullcontext)
        assert kept.bytes == plan.bytes
        whole = torch.zeros(3, 3, 96, 96, dtype=torch.uint8)
        found = kept(whole, nullcontext(), tuple((record.id, False) for record in data.records))
        for n, record in enumerate(data.records):
            alone = torch.from_numpy(data.load_image(n).copy()).permute(2, 0, 1)[None]
            expected = live(alone, nullcontext())
            place = {tuple(c.tolist()): a for a, c in enumerate(expected.grid.prior_A4)}
            known = found.known_BA[n].nonzero().flatten().tolist()
            assert len(known) == len(place)
            back = [place[tuple(found.grid.prior_A4[a].tolist())] for a in known]
            torch.testing.assert_close(found.boxes_BA4[n, known], expected.boxes_BA4[0, back], atol=0.1, rtol=0)
            off_A = (found.logits_BAC[n, known] - expected.logits_BAC[0, back]).abs().amax(-1)
            best_A = ranked_logits(expected)[0, back].amax(-1)
            exact = off_A if sites is None else off_A[best_A >= best_A.topk(sites).values[-1]]
            assert len(exact) == (len(place) if sites is None else 10)
            assert exact.max() < 0.01
            assert (record.width, record.height) == sizes[n]


@pytest.mark.parametrize(
    ("changes", "worth"),
    [
        ({}, True),
        ({"teacher": {"cache": "off"}}, False),
        ({"data.augment": {"color": 0.1}}, False),
        ({"data.augment": {"flip": 0.5, "scale": 0.1}}, False),
        ({"data.augment": {"flip": 0.5}}, True),
        ({"data.augment": {"flip": 0.5}, "schedule.steps": 6}, False),  # 24 images of 12 in two forms
        ({"schedule.steps": 3}, False),  # 12 images of 12: each is seen once
        ({"schedule.steps": 4}, True),
        ({"teacher": {"cache_memory": 0.00005}}, False),
        ({"teacher": {"cache_memory": 0.00005, "cache_sites": 10}}, True),
        ({"teacher": {"cache_sites": 10}, "methods": [{"type": "ld"}]}, False),
        ({"methods": [{"type": "bckd"}, {"type": "pkd"}]}, False),
    ],
)
def test_outputs_are_kept_where_it_is_right_and_pays(cache, teacher_path, changes, worth):
    spec = distilled(**changes)
    data = open_data(spec.data, cache_dir=cache).train
    live = Teacher(bcd.load_detector(teacher_path), student(), CPU)
    assert (planned(spec, data, live) is not None) is worth


def test_distributions_are_kept_for_the_methods_that_read_them(cache, teacher_path):
    spec = distilled(methods=[{"type": "ld"}])
    data = open_data(spec.data, cache_dir=cache).train
    live = Teacher(bcd.load_detector(teacher_path), student(), CPU)
    kept = kept_of(spec, data, live)
    batch, views = next(batches(spec, data, 1))
    expected = live(batch.images_B3HW, nullcontext()).dist_BA4R
    torch.testing.assert_close(kept(batch.images_B3HW, nullcontext(), views).dist_BA4R, expected)


def test_what_a_live_teacher_gives_can_be_kept_by_autograd(teacher_path):
    """It runs in inference mode; its tensors are copied out of it, maps only where they are read."""
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    for reads in (("features",), ("scores", "boxes")):
        out = Teacher(bcd.load_detector(teacher_path), student(), CPU, reads=reads)(images, nullcontext(), (), (0,))
        tensors = [out.logits_BAC, out.boxes_BA4, out.dist_BA4R, *out.trace[0].cls, *out.trace[0].reg]
        assert not any(t.is_inference() for t in tensors)
        assert out.features[0].is_inference() is (reads != ("features",))
        grown = (out.logits_BAC * torch.ones(1, requires_grad=True)).sum()
        grown.backward()


@pytest.mark.parametrize("flip", [0.0, 0.5])
def test_a_run_says_that_it_keeps_outputs_and_learns_the_same_as_with_the_live_teacher(
    tmp_path, cache, teacher_path, flip
):
    runs = {}
    for mode in ("auto", "off"):
        sink = MemorySink()
        spec = distilled(teacher={"cache": mode}, **{"data.augment": {"flip": flip}})
        runs[mode] = run_job(spec, workdir=tmp_path / mode, sink=sink, teacher_path=teacher_path, data_cache=tmp_path)
        assert any("outputs are kept" in text for _, text in sink.lines) is (mode == "auto")
    ours, theirs = load_file(runs["auto"].path), load_file(runs["off"].path)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-4)


def test_a_run_can_be_stopped_while_outputs_are_made(tmp_path, cache, teacher_path):
    sink = MemorySink()
    with pytest.raises(Cancelled, match="outputs"):
        run_job(
            distilled(), workdir=tmp_path, sink=sink, teacher_path=teacher_path, data_cache=tmp_path,
            should_stop=lambda: True,
        )  # fmt: skip
    assert not sink.values
    assert not sink.checkpoints


@pytest.mark.parametrize("sites", [None, 20])
def test_a_resumed_run_with_kept_outputs_ends_with_the_same_bits(tmp_path, cache, teacher_path, sites):
    def go(folder: str, **more):
        return run_job(
            distilled(teacher={"cache_sites": sites}, **{"data.augment": {"flip": 0.5}}),
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
