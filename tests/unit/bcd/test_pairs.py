"""Every pair of head families trains: the distillation loss falls and nothing becomes infinite."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

import bcd
from bcd.data import open_data, train_batch
from bcd.engine.task import DetectionTask
from bcd.methods import build_methods
from bcd.methods.teacher import Teacher
from bcd.models.detector import Detector
from bcd.types import Targets
from tests.helpers import pairs
from tests.helpers.pairs import FAMILIES, frozen, method
from tests.helpers.runs import tiny_spec

CPU = torch.device("cpu")
STEPS = 50
NAMES = tuple("0123456789")
SMALL = {**pairs.SMALL, "class_names": NAMES, "stacked_convs": 1}

Batch = tuple[torch.Tensor, Targets]


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> list[Batch]:
    """Batches of digits, 64 px."""
    spec = tiny_spec()
    data = open_data(spec.data, cache_dir=tmp_path_factory.mktemp("data")).train
    made = [train_batch(data, spec.data, step=step, batch_size=2, seed=0) for step in range(16)]
    return [(batch.images_B3HW, batch.targets) for batch in made]


def train(student: Detector, teacher: Detector | None, batches: list[Batch], kind: str = "bckd") -> list[float]:
    """The method's loss at each step, while labels are learnt too."""
    if teacher is None:
        task = DetectionTask(student)
        parameters = list(student.parameters())
    else:
        frozen_teacher = Teacher(teacher, student, CPU)
        methods = build_methods([method(kind, student, teacher).spec], student, teacher, frozen_teacher.classes)
        task = DetectionTask(student, frozen_teacher, methods)
        parameters = [*student.parameters(), *(p for one in methods for p in one.parameters())]
    # Small enough for a smooth descent: at 5e-3 the last steps of one pair swung from one kind of CPU to the next.
    optimizer = torch.optim.AdamW(parameters, lr=2e-3)
    losses = []
    for step in range(STEPS):
        terms = task(*batches[step % len(batches)], step / STEPS, nullcontext())
        optimizer.zero_grad()
        terms["loss"].backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 10.0)
        assert norm.isfinite(), step
        optimizer.step()
        losses.append(sum(value.item() for name, value in terms.items() if name.startswith(kind)))
    return losses


@pytest.fixture(scope="module")
def teachers(batches: list[Batch]) -> dict[str, Detector]:
    """A teacher of each family that has learnt the same labels a little."""
    found = {}
    for family in FAMILIES:
        found[family] = fresh(family, 1)
        train(found[family], None, batches)
    return {family: frozen(model) for family, model in found.items()}


def fresh(family: str, seed: int) -> Detector:
    torch.manual_seed(seed)
    return bcd.build_detector(family, **SMALL)


@pytest.mark.parametrize("theirs", FAMILIES)
@pytest.mark.parametrize("ours", FAMILIES)
def test_every_pair_trains_with_falling_distillation_loss(
    ours: str, theirs: str, batches: list[Batch], teachers: dict[str, Detector]
):
    losses = train(fresh(ours, 0), teachers[theirs], batches)
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])
