"""The training loop. It knows a task that returns {"loss": ...}, and nothing of detectors or distillation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bcd.engine.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from bcd.engine.ema import Ema
from bcd.engine.errors import Cancelled, JobError
from bcd.engine.optim import build_optimizer, learning_rate
from bcd.spec import ScheduleSpec
from bcd.types import Targets

KEPT_CHECKPOINTS = 2


class TrainingBatch(Protocol):
    @property
    def images_B3HW(self) -> Tensor: ...
    @property
    def targets(self) -> Targets: ...
    @property
    def image_ids(self) -> tuple[int, ...]: ...


Task = Callable[[Tensor, Targets, float, AbstractContextManager[Any], tuple[int, ...]], dict[str, Tensor]]


class Trainer:
    """Trains `model` through `task` for `schedule.steps` optimizer steps.

    `extra` holds further modules that are trained along and kept in checkpoints, but are no part of the model (a
    method's projections). `step` counts finished steps. Batches, augmentation and learning rate are pure functions of
    the step, so that model, extra modules, average and optimizer are the whole state of a run.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        schedule: ScheduleSpec,
        *,
        device: torch.device,
        digest: str,
        folder: Path,
        extra: nn.Module | None = None,
    ):
        self.model, self.task, self.schedule, self.device = model, task, schedule, device
        self.extra = extra if extra is not None else nn.Module()
        self.optimizer = build_optimizer([model, self.extra], schedule.optimizer)
        self.ema = Ema(model, schedule.ema) if schedule.ema > 0 else None
        self.step, self._digest, self._folder = 0, digest, folder
        bf16 = schedule.precision == "bf16" or (schedule.precision == "auto" and device.type == "cuda")
        self.precision = "bf16" if bf16 else "fp32"

    @property
    def evaluated(self) -> nn.Module:
        """The model that is judged and exported: the average where there is one."""
        return self.ema.model if self.ema else self.model

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if self.precision == "bf16" else nullcontext()

    def fit(
        self,
        batches: Iterable[TrainingBatch],
        *,
        on_metrics: Callable[[int, dict[str, float]], None],
        on_checkpoint: Callable[[Path, int], None],
        on_evaluate: Callable[[int], object] | None = None,
        evaluate_every: int = 0,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Run the remaining steps. Raises `JobError` on a loss that is not finite, `Cancelled` when asked to stop."""
        schedule, log = self.schedule, _Log(self.device)
        self.model.train()
        for batch in batches:
            terms, norm = self._one_step(batch)
            self.step += 1
            log.add(terms, norm, len(batch.image_ids))
            last = self.step == schedule.steps
            due = self.step % schedule.checkpoint_every == 0 or last
            stop = should_stop()
            if self.step % schedule.log_every == 0 or due or stop:
                values = log.flush()
                self._refuse_non_finite(values, batch)
                on_metrics(self.step, {**values, "lr": learning_rate(schedule, self.step - 1)})
            if due or stop:
                on_checkpoint(self.save(), self.step)
            if stop and not last:
                raise Cancelled(f"stopped at step {self.step}")
            if on_evaluate and evaluate_every and self.step % evaluate_every == 0 and not last:
                on_evaluate(self.step)
                self.model.train()
                log.restart()

    def _one_step(self, batch: TrainingBatch) -> tuple[dict[str, Tensor], Tensor]:
        schedule = self.schedule
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(schedule, self.step)
        images, targets = batch.images_B3HW.to(self.device, non_blocking=True), batch.targets.to(self.device)
        terms = self.task(images, targets, self.step / schedule.steps, self.autocast(), batch.image_ids)
        self.optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()  # type: ignore[no-untyped-call]
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        # An infinite limit only measures the norm.
        norm = nn.utils.clip_grad_norm_(parameters, schedule.clip_norm or math.inf)
        self.optimizer.step()
        if self.ema:
            self.ema.update(self.model)
        return terms, norm

    def _refuse_non_finite(self, values: dict[str, float], batch: TrainingBatch) -> None:
        bad = [name for name in sorted(values) if not math.isfinite(values[name])]
        if bad:
            raise JobError(
                "non-finite-loss",
                f"{', '.join(bad)} became infinite or NaN within the {self.schedule.log_every} steps before step "
                f"{self.step} (images of that step: {', '.join(map(str, batch.image_ids[:16]))}). "
                "Lower schedule.optimizer.lr, lengthen schedule.warmup_steps or set schedule.clip_norm",
            )

    # --- checkpoints ---------------------------------------------------------------------------------------

    def save(self) -> Path:
        """Write a checkpoint into the run's folder and drop the others there, but for the newest few before it.

        Later ones are from before a resume that passed them over.
        """
        state = {
            "digest": self._digest,
            "step": self.step,
            "model": self.model.state_dict(),
            "extra": self.extra.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.model.state_dict() if self.ema else None,
            "ema_updates": self.ema.updates if self.ema else 0,
        }
        path = save_checkpoint(self._folder / f"step-{self.step:08d}.ckpt", state)
        found = sorted(self._folder.glob("step-*.ckpt"))
        kept = [file for file in found if file.name <= path.name][-KEPT_CHECKPOINTS:]
        for other in set(found) - set(kept):
            other.unlink(missing_ok=True)
        return path

    def resume(self, paths: Iterable[Path], warn: Callable[[str], None]) -> None:
        """Continue from the first checkpoint that can be used; damaged or foreign ones are named and passed over."""
        for path in paths:
            try:
                state = load_checkpoint(path, digest=self._digest)
            except CheckpointError as error:
                warn(f"checkpoint passed over: {error}")
                continue
            self.model.load_state_dict(state["model"])
            self.extra.load_state_dict(state["extra"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.ema:
                self.ema.model.load_state_dict(state["ema"])
                self.ema.updates = state["ema_updates"]
            self.step = state["step"]
            return


class _Log:
    """Means of the loss terms between two reports; the device is asked only when a report is due."""

    def __init__(self, device: torch.device):
        self._device = device
        self._terms: list[dict[str, Tensor]] = []
        self._norms: list[Tensor] = []
        self._images = 0
        self.restart()

    def restart(self) -> None:
        """Leave out the time since the last report (an evaluation ran)."""
        self._start, self._images = time.perf_counter(), 0

    def add(self, terms: dict[str, Tensor], norm: Tensor, images: int) -> None:
        self._terms.append({name: value.detach() for name, value in terms.items()})
        self._norms.append(norm.detach())
        self._images += images

    def flush(self) -> dict[str, float]:
        names = {name for terms in self._terms for name in terms}
        out = {}
        for name in names:
            mean = torch.stack([terms[name] for terms in self._terms if name in terms]).mean().item()
            out["loss" if name == "loss" else f"loss/{name}"] = mean
        out["grad_norm"] = torch.stack(self._norms).mean().item()
        if self._images:
            out["images_per_second"] = self._images / max(time.perf_counter() - self._start, 1e-9)
        self._terms, self._norms = [], []
        self.restart()
        return out
