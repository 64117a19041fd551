"""Task, checkpoints and the protocol hash: terms add up, damage is found, what changes AP changes the hash."""

from __future__ import annotations

import random
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

import bcd
from bcd.data import open_data
from bcd.engine.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from bcd.engine.evaluate import protocol_hash
from bcd.engine.task import DetectionTask
from bcd.engine.trainer import Trainer
from bcd.methods import build_method
from bcd.methods.teacher import Teacher
from bcd.spec import BckdMethod
from bcd.types import Targets
from tests.helpers.runs import TINY, tiny_spec

CPU = torch.device("cpu")


def test_a_method_listed_twice_counts_twice():
    student, teacher = (bcd.build_detector(**TINY["student"], num_classes=3) for _ in range(2))
    targets = Targets(
        torch.zeros(1, 0, 4), torch.zeros(1, 0, dtype=torch.long), torch.zeros(1, 0, dtype=torch.bool),
        torch.tensor([[64.0, 64.0]]),
    )  # fmt: skip
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    method = build_method(BckdMethod(type="bckd"), student, teacher)
    one, two = (
        DetectionTask(student, Teacher(teacher, student, CPU), [method] * n)(images, targets, 0.0, nullcontext())
        for n in (1, 2)
    )
    torch.testing.assert_close(two["bckd_cls"], 2 * one["bckd_cls"])
    torch.testing.assert_close(two["loss"], one["loss"] + one["bckd_cls"] + one["bckd_loc"])


def test_a_checkpoint_with_one_flipped_bit_is_refused(tmp_path: Path):
    weights = torch.arange(1000.0)
    path = save_checkpoint(tmp_path / "a.ckpt", {"digest": "x", "model": weights})
    content = bytearray(path.read_bytes())
    content[content.find(weights.numpy().tobytes()) + 10] ^= 64
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="checksum"):
        load_checkpoint(path, digest="x")


def test_a_file_of_any_content_is_refused_as_damaged(tmp_path: Path):
    generator, path = random.Random(0), tmp_path / "a.ckpt"
    for size in range(0, 300, 2):
        path.write_bytes(generator.randbytes(size))
        with pytest.raises(CheckpointError, match="damaged"):
            load_checkpoint(path, digest="x")


def test_a_checkpoint_after_a_resume_outlives_the_damaged_ones_that_were_newer(tmp_path: Path):
    spec = tiny_spec()
    model = bcd.build_detector(**TINY["student"], num_classes=3)
    trainer = Trainer(model, lambda *_: {}, spec.schedule, device=CPU, digest="x", folder=tmp_path)
    for step in (10, 300, 400):
        (tmp_path / f"step-{step:08d}.ckpt").write_bytes(b"damaged")
    trainer.step = 20
    assert trainer.save().is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000010.ckpt", "step-00000020.ckpt"]


def test_the_protocol_hash_covers_what_changes_ap_and_nothing_else():
    spec = tiny_spec()
    val = open_data(spec.data).val

    def of(*, ema: bool = True, precision: str = "fp32", **changes: object) -> str:
        return protocol_hash(val, spec.data, spec.evaluation.model_copy(update=changes), ema=ema, precision=precision)

    others = [
        of(ema=False), of(precision="bf16"), of(score_threshold=0.1), of(nms_iou=0.5), of(nms_candidates=10),
        of(max_detections=10),
    ]  # fmt: skip
    assert len({of(), *others}) == 7
    assert of(batch_size=1, every=5) == of()
