"""The training loop. It knows a task that returns {"loss": ...}, and nothing of detectors or distillation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bcd.engine.batches import Part, ids_of
from bcd.engine.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from bcd.engine.ema import Ema
from bcd.engine.errors import Cancelled, JobError
from bcd.engine.log import Log, Window
from bcd.engine.nonfinite import first_non_finite
from bcd.engine.optim import build_optimizer, learning_rate
from bcd.engine.processes import Processes
from bcd.engine.selection import Selection
from bcd.methods.teacher import View
from bcd.spec import Plan, ScheduleSpec
from bcd.types import Targets

KEPT_CHECKPOINTS = 2

Task = Callable[[Tensor, Targets, float, AbstractContextManager[Any], tuple[View, ...]], dict[str, Tensor]]


class Trainer:
    """Trains `model` through `task` for the optimizer steps of a schedule.

    `extra` holds further modules that are trained along and kept in checkpoints, but are no part of the model (a
    method's projections). `step` counts finished steps. Batches, augmentation, learning rate and random numbers are
    pure functions of the step, so that model, extra modules, average, optimizer and what evaluations decided are the
    whole state of a run. `watched` are the modules to look into when a loss is not finite.
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
        plan: Plan | None = None,
        extra: nn.Module | None = None,
        processes: Processes | None = None,
        seed: int = 0,
        watched: Mapping[str, nn.Module] | None = None,
        plain: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ):
        self.model, self.task, self.schedule, self.device = model, task, schedule, device
        self.plan = plan or schedule.resolve(1)
        self.extra = extra if extra is not None else nn.Module()
        try:
            self.optimizer = build_optimizer([("", model), ("methods", self.extra)], schedule.optimizer)
        except ValueError as error:
            raise JobError("bad-schedule", str(error)) from None
        self.ema = Ema(model, schedule.ema) if schedule.ema > 0 else None
        self.selection = Selection(schedule)
        self.processes = processes or Processes()
        self.step, self._digest, self._folder, self._seed = 0, digest, folder, seed
        self._watched, self._plain = dict(watched or {"model": model}), plain
        bf16 = schedule.precision == "bf16" or (schedule.precision == "auto" and device.type == "cuda")
        self.precision = "bf16" if bf16 else "fp32"
        # 1 from the first step on whose loss or gradient is not finite: updates stop there, without asking the device.
        self._broken = torch.zeros((), device=device)
        self._run, self._no_sync = _shared(task, model, self.extra, self.processes)

    @property
    def evaluated(self) -> nn.Module:
        """The model that is judged and exported: the average where there is one."""
        return self.ema.model if self.ema else self.model

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if self.precision == "bf16" else nullcontext()

    def fit(
        self,
        batches: Iterable[Sequence[Part]],
        *,
        on_metrics: Callable[[int, dict[str, float]], None],
        on_checkpoint: Callable[[Path, int], None],
        on_evaluate: Callable[[int], dict[str, Any]] | None = None,
        evaluate_every: int = 0,
        should_stop: Callable[[], bool] = lambda: False,
        remake: Callable[[int], Sequence[Part]] | None = None,
    ) -> None:
        """Run the remaining steps. An item of `batches` holds the parts of one step, whose gradients add up.

        A checkpoint comes before the evaluation of its step; whoever resumes from it makes the evaluation up. `remake`
        gives the parts of a step once more, to find out where numbers ceased to be finite. Only the first process
        evaluates, reports and writes.

        Raises `JobError` on a loss that is not finite, `Cancelled` when asked to stop.
        """
        schedule, log, agree = self.schedule, Log(self.processes), self.processes.agree
        self.model.train()

        def evaluate() -> bool:
            """Judge the model if that is due and not done; whether the run ends here."""
            due = self.step > 0 and evaluate_every > 0 and self.step % evaluate_every == 0
            if self.step == self.plan.steps:  # whoever called fit judges the last weights
                due = schedule.keeps_best
            if on_evaluate is not None and due and agree(self.selection.evaluated != self.step):
                if self.processes.first:
                    self.selection.add(self.step, on_evaluate(self.step), self.evaluated)
                self.model.train()
                log.restart()
                if agree(self.selection.exhausted):
                    if self.step < self.plan.steps and self.processes.first:
                        on_checkpoint(self.save(), self.step)
                    return True
            return schedule.early_stop is not None and agree(self.selection.exhausted)

        if evaluate() or self.step >= self.plan.steps:
            return
        for parts in batches:
            terms, norm = self._one_step(parts)
            self.step += 1
            log.add(self.step - 1, terms, norm, sum(len(part.image_ids) for part in parts))
            last = self.step == self.plan.steps
            due = self.step % schedule.checkpoint_every == 0 or last
            stop = agree(self.processes.first and should_stop())
            if self.step % schedule.log_every == 0 or due or stop:
                window = log.flush()
                if window.bad_step is not None:
                    raise self._explain(window, remake)
                if self.processes.first:
                    lr = learning_rate(schedule, self.plan, self.step - 1)
                    on_metrics(self.step, {**window.values, "lr": lr})
            if (due or stop) and self.processes.first:
                on_checkpoint(self.save(), self.step)
            if stop and not last:
                raise Cancelled(f"stopped at step {self.step}")
            if evaluate():
                return

    def _one_step(self, parts: Sequence[Part]) -> tuple[dict[str, Tensor], Tensor]:
        rate = learning_rate(self.schedule, self.plan, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_factor"]
        self._seed_step(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        total: dict[str, Tensor] = {}
        for number, part in enumerate(parts, 1):
            with nullcontext() if number == len(parts) else self._no_sync():
                terms = self._run(*self._inputs(part, self.step))
                (terms["loss"] / len(parts)).backward()  # type: ignore[no-untyped-call]
            for name, value in terms.items():
                share = value.detach() / len(parts)
                total[name] = total[name] + share if name in total else share
        trained = (self.model, self.extra)
        gradients = [p for module in trained for p in module.parameters() if p.grad is not None]
        # An infinite limit only measures the norm.
        norm = nn.utils.clip_grad_norm_(gradients, self.schedule.clip_norm or math.inf)
        self._broken = torch.maximum(self._broken, (~torch.isfinite(norm + total["loss"])).float())
        self.optimizer.found_inf = self._broken  # type: ignore[attr-defined]  # fused optimizers then change nothing
        self.optimizer.step()
        if self.ema:
            self.ema.update(self.model)
        return total, norm

    def _inputs(
        self, part: Part, step: int
    ) -> tuple[Tensor, Targets, float, AbstractContextManager[Any], tuple[View, ...]]:
        images, targets = part.images_B3HW.to(self.device, non_blocking=True), part.targets.to(self.device)
        return images, targets, step / self.plan.steps, self.autocast(), part.views

    def _seed_step(self, step: int) -> None:
        """Random numbers inside the model (stochastic depth, say) as a function of seed, step and process."""
        torch.manual_seed(((self._seed * 1_000_003 + step) * 1009 + self.processes.rank) % 2**63)

    # --- numbers that are not finite ------------------------------------------------------------------------

    def _explain(self, window: Window, remake: Callable[[int], Sequence[Part]] | None) -> JobError:
        """The error for a step whose loss or gradient is not finite, after running that step again.

        Nothing was updated since, so the weights are still those before the step.
        """
        assert window.bad_step is not None
        step, where, ids = window.bad_step, None, ""
        if remake is not None:
            parts = remake(step)
            found = self._search(step, parts)
            named = list(ids_of(parts))
            own = (found, f" (images {', '.join(map(str, named[:16]))}{', ...' if len(named) > 16 else ''})")
            everyone = self.processes.gather(own)
            where, ids = next((each for each in everyone if each[0]), own)
        names = ", ".join(window.bad_names) or "grad_norm"
        if where:
            cause = f"First tensor that is not finite: {where}. "
        elif remake is not None:
            cause = "Running the step again with the same weights gave finite numbers. "
        else:
            cause = ""
        return JobError(
            "non-finite-loss",
            f"{names} became infinite or NaN at step {step + 1}{ids}. {cause}"
            "Lower schedule.optimizer.lr, lengthen schedule.warmup_steps or set schedule.clip_norm",
        )

    def _search(self, step: int, parts: Sequence[Part]) -> str | None:
        found: str | None = None
        self._seed_step(step)
        with self._plain():
            for part in parts:
                given = self._inputs(part, step)
                fault = first_non_finite(self._watched, partial(self.task, *given))
                found = found or fault
        return found

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
            "selection": self.selection.state(),
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
            self.selection.load(state["selection"])
            self.step = state["step"]
            return


class _Together(nn.Module):
    """All that is trained, under one forward pass: what DistributedDataParallel wants."""

    def __init__(self, task: Task, model: nn.Module, extra: nn.Module):
        super().__init__()
        self.model, self.extra, self._task = model, extra, task

    def forward(self, *given: Any) -> dict[str, Tensor]:
        return self._task(*given)


def _shared(
    task: Task, model: nn.Module, extra: nn.Module, processes: Processes
) -> tuple[Callable[..., dict[str, Tensor]], Callable[[], AbstractContextManager[Any]]]:
    """The task with gradients averaged over all processes, and a context in which they are only added up locally."""
    if processes.world == 1:
        return task, nullcontext
    # Methods may rest during their warm-up, and backbones may end in layers that a detector does not use.
    together = nn.parallel.DistributedDataParallel(_Together(task, model, extra), find_unused_parameters=True)
    return together, together.no_sync
