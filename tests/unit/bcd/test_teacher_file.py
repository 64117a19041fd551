"""Teacher outputs as a file: the same bits, computed once on a machine, never taken from a damaged file."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest
import torch

import bcd
from bcd.api import run_job
from bcd.engine.report import Silent
from bcd.methods import teacher_file
from bcd.methods.teacher_file import FOLDER, key_of
from bcd.models.files import save_detector
from bcd.spec import JobSpec, parse_spec

SPEC = {
    "data": {"type": "digits-scenes-v1", "train_images": 24, "val_images": 8, "image_size": 64},
    "student": {
        "backbone": "tiny", "width": 4, "fpn_channels": 8, "stacked_convs": 0, "strides": [8, 16], "reg_max": 4,
        "prior_scale": 4,
    },
    "methods": [{"type": "bckd"}],
    "schedule": {"steps": 8, "batch_size": 8, "warmup_steps": 0},
}  # fmt: skip


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, text: str, level: str = "info") -> None:
        self.lines.append(text)

    @property
    def computed(self) -> bool:
        return any("running the teacher once" in line for line in self.lines)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    model = bcd.build_detector(**parse_spec({**SPEC, "methods": []}).student.model_dump(), num_classes=10)
    return save_detector(model, tmp_path_factory.mktemp("teacher") / "student.safetensors")


def _spec(path: Path, **changes) -> JobSpec:
    given = {"path": str(path), "preflight": "off", **changes.pop("teacher", {})}
    return parse_spec({**SPEC, "teacher": given, **changes})


def _run(spec: JobSpec, folder: Path, cache: Path | None) -> tuple[dict[str, torch.Tensor], Told]:
    from safetensors.torch import load_file

    told = Told()
    run = run_job(spec, workdir=folder, sink=told, data_cache=cache)
    return load_file(run.path), told


def _equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("changes", [{}, {"teacher": {"cache_sites": 20}}], ids=["all", "best"])
def test_a_second_run_computes_nothing_and_ends_with_the_same_bits(teacher, tmp_path, changes):
    spec, cache = _spec(teacher, **changes), tmp_path / "cache"
    alone, told = _run(spec, tmp_path / "alone", None)
    assert told.computed
    first, told = _run(spec, tmp_path / "first", cache)
    assert told.computed
    second, told = _run(spec, tmp_path / "second", cache)
    assert not told.computed
    assert any("come from an earlier run" in line for line in told.lines)
    assert _equal(alone, first)
    assert _equal(first, second)
    other, told = _run(spec.model_copy(update={"seed": 3}), tmp_path / "other", cache)
    assert not told.computed  # a seed changes nothing that the teacher says
    assert not _equal(first, other)


def test_what_changes_the_outputs_has_a_file_of_its_own(teacher, tmp_path):
    cache = tmp_path / "cache"
    _run(_spec(teacher), tmp_path / "a", cache)
    data = {**SPEC["data"], "train_images": 25}
    torch.manual_seed(6)
    model = bcd.build_detector(**parse_spec({**SPEC, "methods": []}).student.model_dump(), num_classes=10)
    another = save_detector(model, tmp_path / "another.safetensors")
    flip = {**SPEC["data"], "augment": {"flip": 0.5}}
    for i, spec in enumerate(
        [
            _spec(another),
            _spec(teacher, data=data),
            _spec(teacher, data=flip),
            _spec(teacher, teacher={"cache_sites": 9}),
        ]
    ):
        assert _run(spec, tmp_path / f"b{i}", cache)[1].computed, i
    assert len(list((cache / FOLDER).glob("*.safetensors"))) == 5


@pytest.mark.parametrize("harm", ["truncated", "flipped", "no hash", "empty"])
def test_a_damaged_file_is_computed_again(teacher, tmp_path, harm):
    spec, cache = _spec(teacher), tmp_path / "cache"
    first, _ = _run(spec, tmp_path / "first", cache)
    [file] = (cache / FOLDER).glob("*.safetensors")
    content = file.read_bytes()
    if harm == "truncated":
        file.write_bytes(content[:-10])
    elif harm == "flipped":
        file.write_bytes(content[:-10] + bytes([content[-10] ^ 1]) + content[-9:])
    elif harm == "empty":
        file.write_bytes(b"")
    else:
        file.with_suffix(".sha256").unlink()
    again, told = _run(spec, tmp_path / "again", cache)
    assert told.computed
    assert _equal(first, again)
    assert not _run(spec, tmp_path / "third", cache)[1].computed  # and is whole again


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(teacher, tmp_path, monkeypatch):
    def full(path, cached):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(teacher_file, "_store", full)
    _, told = _run(_spec(teacher), tmp_path / "run", tmp_path / "cache")
    assert told.computed
    assert any("No space left" in line for line in told.lines)


def test_a_file_that_is_used_stays_whole_however_old_it_is(teacher, tmp_path):
    cache = tmp_path / "cache"
    _run(_spec(teacher), tmp_path / "a", cache)
    [file] = (cache / FOLDER).glob("*.safetensors")
    week = time.time() - teacher_file.KEPT_SECONDS - 60
    for path in (file, file.with_suffix(".sha256")):
        os.utime(path, (week, week))
    assert not _run(_spec(teacher), tmp_path / "b", cache)[1].computed
    _run(_spec(teacher, data={**SPEC["data"], "train_images": 25}), tmp_path / "c", cache)  # clears away what is old
    assert not _run(_spec(teacher), tmp_path / "d", cache)[1].computed


def test_files_that_nobody_used_for_a_week_go(teacher, tmp_path):
    cache = tmp_path / "cache"
    _run(_spec(teacher), tmp_path / "a", cache)
    [old] = (cache / FOLDER).glob("*.safetensors")
    week = time.time() - teacher_file.KEPT_SECONDS - 60
    for path in (old, old.with_suffix(".sha256")):
        os.utime(path, (week, week))
    _run(_spec(teacher, data={**SPEC["data"], "train_images": 25}), tmp_path / "b", cache)
    assert not old.exists()


def test_who_waits_for_another_process_can_be_stopped(tmp_path):
    (tmp_path / FOLDER).mkdir()
    with (tmp_path / FOLDER / "k.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # of another open file: as if of another process
        looks = []

        def look_up() -> None:
            looks.append(1)
            raise InterruptedError

        with pytest.raises(InterruptedError):
            teacher_file.load_or_make(tmp_path, "k", None, torch.device("cpu"), lambda: None, look_up=look_up)
        assert looks == [1]


def test_a_key_knows_every_part():
    assert key_of(a=1, b=[2]) == key_of(b=[2], a=1)
    assert len({key_of(a=1), key_of(a=2), key_of(b=1)}) == 3
