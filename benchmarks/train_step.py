"""Time of a training step, and of assignment and losses alone, against the official code's figures.

The official figures were measured with its own code (torch 1.13.1, 2 threads) on a comparable 2-core CPU, batch 2,
256x320, fp32: they are a target, not the same run. bf16 is `schedule.precision: bf16` (losses stay fp32).
Usage: python -m benchmarks.train_step [--threads 2] [--repeats 10]
"""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, nullcontext

import torch

import bcd
from bcd.engine.optim import build_optimizer
from bcd.engine.task import DetectionTask
from bcd.methods import Step
from bcd.methods.bckd import Bckd
from bcd.methods.teacher import Teacher
from bcd.models.detector import Detector
from bcd.models.sites import site_grid
from bcd.spec import BckdMethod, SgdSpec
from bcd.types import DenseOutputs, Targets
from benchmarks.timing import heading, measure

OFFICIAL_STEP = {"plain": 0.50, "R18 <- R18": 0.71, "R18 <- R101": 0.81}
OFFICIAL_LOSSES = {"plain": 0.036, "BCKD": 0.133}


def targets(images: int, height: int, width: int, device: torch.device) -> Targets:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(images, 7, 2, generator=generator) * torch.tensor([width * 0.6, height * 0.6])
    side = 12 + torch.rand(images, 7, 2, generator=generator) * torch.tensor([width * 0.4, height * 0.4])
    return Targets(
        torch.cat([corner, corner + side], -1),
        torch.randint(0, 80, (images, 7), generator=generator),
        torch.ones(images, 7, dtype=torch.bool),
        torch.tensor([[height, width]] * images),
    ).to(device)


def published(backbone: str) -> Detector:
    return bcd.build_detector("gfl", backbone=backbone, num_classes=80, frozen_stages=1, norm_eval=True)


def train_steps(device: torch.device, repeats: int, *, bf16: bool) -> None:
    images = torch.randint(0, 256, (2, 3, 256, 320), dtype=torch.uint8, device=device)
    truth = targets(2, 256, 320, device)
    for name, teacher in (("plain", None), ("R18 <- R18", "resnet18"), ("R18 <- R101", "resnet101")):
        student = published("resnet18").to(device).train()
        optimizer = build_optimizer([("", student)], SgdSpec(type="sgd"))
        task = DetectionTask(
            student,
            Teacher(published(teacher), student, device) if teacher else None,
            [Bckd(BckdMethod(type="bckd"), student, student)] if teacher else [],
        )

        def step(task: DetectionTask = task, optimizer: torch.optim.Optimizer = optimizer) -> None:
            autocast: AbstractContextManager[None] = (
                torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()
            )
            loss = task(images, truth, 0.5, autocast)["loss"]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        report(f"step, {name}, {'bf16' if bf16 else 'fp32'}", measure(step, repeats=repeats), OFFICIAL_STEP[name])


def losses(device: torch.device, repeats: int) -> None:
    """Assignment and losses at 2 x 13,343 sites (800x800), forward and backward, from raw head outputs."""
    shapes, strides = [(100, 100), (50, 50), (25, 25), (13, 13), (7, 7)], (8, 16, 32, 64, 128)
    model = published("resnet18").to(device)
    grid = site_grid(shapes, strides, device)
    truth = targets(2, 800, 800, device)

    def raw(scale: float) -> tuple[torch.Tensor, torch.Tensor]:
        logits = torch.randn(2, len(grid), 80, device=device) * scale - 4.6
        return logits, torch.randn(2, len(grid), 4, 17, device=device)

    def outputs(logits: torch.Tensor, dist: torch.Tensor) -> DenseOutputs:
        from bcd import boxes

        distance = dist.softmax(-1) @ model.bins_R
        decoded = boxes.from_distances(grid.centre_A2, distance * grid.stride_A[:, None])
        return DenseOutputs(logits, decoded, dist, None, (), grid)

    student = [t.requires_grad_() for t in raw(1.0)]
    with torch.no_grad():
        teacher = outputs(*raw(1.5))
    method = Bckd(BckdMethod(type="bckd"), model, model)

    def run(distil: bool) -> None:
        out = outputs(*student)
        assigned = model.assign(out, truth)
        terms = list(model.task_loss(out, truth, assigned).values())
        if distil:
            terms += method(Step.of(out, teacher, assigned, truth)).values()
        torch.stack(terms).sum().backward()
        for leaf in student:
            leaf.grad = None

    print(f"{len(grid)} sites")
    for name, distil in (("plain", False), ("BCKD", True)):
        seconds = measure(lambda distil=distil: run(distil), repeats=repeats * 3)  # type: ignore[misc]
        report(f"assignment + losses, {name}", seconds, OFFICIAL_LOSSES[name])


def report(name: str, seconds: tuple[float, float, float], official: float) -> None:
    median, low, high = (1000 * s for s in seconds)
    ratio = seconds[0] / official
    print(f"{name:32s} {median:7.1f} ms  [{low:.1f}, {high:.1f}]  official {1000 * official:.0f} ms  ratio {ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(heading("training step"))
    train_steps(device, arguments.repeats, bf16=False)
    train_steps(device, arguments.repeats, bf16=True)
    losses(device, arguments.repeats)


if __name__ == "__main__":
    main()
