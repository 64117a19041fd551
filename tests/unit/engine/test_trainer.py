"""The loop: accumulated steps, clipping, averages, early stopping, random numbers, and numbers that are not finite."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from bcd.engine.batches import Split
from bcd.engine.errors import Cancelled, JobError
from bcd.engine.report import DeadTerms
from bcd.engine.trainer import Trainer
from bcd.spec import parse_spec
from tests.helpers.runs import TINY
from tests.helpers.toys import Toy, part, task_of

CPU = torch.device("cpu")


def trainer_of(folder: Path, toy: Toy | None = None, task=None, extra: nn.Module | None = None, **schedule) -> Trainer:
    values = {"steps": 8, "batch_size": 4, "warmup_steps": 0, "log_every": 2, "checkpoint_every": 4, **schedule}
    spec = parse_spec({**TINY, "schedule": values, "evaluation": {"every": 2}}).schedule
    toy = toy or Toy()
    return Trainer(toy, task or task_of(toy), spec, device=CPU, digest="x", folder=folder, extra=extra, seed=3)


class Reports:
    def __init__(self) -> None:
        self.metrics, self.checkpoints = [], []

    def fit(self, trainer: Trainer, parts=lambda step: [part(step)], **more) -> None:
        trainer.fit(
            (parts(step) for step in range(trainer.step, trainer.plan.steps)),
            on_metrics=lambda step, values: self.metrics.append((step, values)),
            on_checkpoint=lambda path, step: self.checkpoints.append((step, path)),
            **more,
        )


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# --- parts of a step -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("world", "accumulate"), [(1, 1), (1, 4), (2, 2), (3, 1)])
def test_every_position_of_a_batch_is_in_exactly_one_part(world, accumulate):
    parts = [p for rank in range(world) for p in Split(rank, world, accumulate).positions(12)]
    assert len(parts) == world * accumulate
    assert sorted(n for one in parts for n in one) == list(range(12))
    # Labelled images come first in a batch, unlabelled ones after them: both reach every part.
    assert all(any(n < 6 for n in one) and any(n >= 6 for n in one) for one in parts)


def test_an_accumulated_step_is_the_whole_step(tmp_path):
    """The toy's loss is a mean over equal parts, so that the gradients are the same."""
    whole, cut = (trainer_of(tmp_path / name, optimizer={"type": "sgd", "lr": 0.5}) for name in "ab")
    first, second = Reports(), Reports()
    first.fit(whole)
    second.fit(cut, lambda step: [part(step, positions=slice(n, None, 2)) for n in range(2)])
    torch.testing.assert_close(weights(cut.model), weights(whole.model))
    assert [values["loss"] for _, values in first.metrics] == pytest.approx(
        [v["loss"] for _, v in second.metrics], rel=1e-4
    )
    assert not torch.allclose(weights(whole.model), weights(Toy()))


def test_the_limit_of_the_gradient_holds_for_the_model_and_the_methods_together(tmp_path):
    toy, extra = Toy(), nn.ModuleList([nn.Linear(1, 1)])
    task = task_of(toy)

    def both(images, *rest):
        terms = task(images, *rest)
        terms["extra"] = 100 * extra[0](torch.ones(1, 1)).square().mean()
        terms["loss"] = terms["error"] + terms["extra"]
        return terms

    trainer = trainer_of(tmp_path, toy, both, extra, steps=1, clip_norm=0.01, optimizer={"type": "sgd", "lr": 1.0})
    before = torch.cat([weights(toy), weights(extra)])
    reports = Reports()
    reports.fit(trainer)
    moved = torch.cat([weights(toy), weights(extra)]) - before
    # The second factor of SGD, weight decay, is far below the limit here.
    assert moved.norm() == pytest.approx(0.01, rel=0.2)
    assert reports.metrics[0][1]["grad_norm"] > 1  # what is reported is the norm before the cut


# --- the state of a run ----------------------------------------------------------------------------------------


def test_a_run_cut_short_goes_on_with_the_same_bits_also_where_the_model_draws_random_numbers(tmp_path):
    def make(name: str) -> Trainer:
        return trainer_of(tmp_path / name, Toy(dropout=0.5), ema=0.9, accumulate=2)

    def halves(step: int):
        return [part(step, positions=slice(n, None, 2)) for n in range(2)]

    whole, cut, again = make("whole"), make("cut"), make("cut")
    Reports().fit(whole, halves)
    with pytest.raises(Cancelled):
        Reports().fit(cut, halves, should_stop=lambda: cut.step == 3)
    torch.rand(17)  # somebody else draws in between
    again.resume(sorted((tmp_path / "cut").iterdir()), pytest.fail)
    assert again.step == 3
    Reports().fit(again, halves)
    assert torch.equal(weights(again.model), weights(whole.model))
    assert torch.equal(weights(again.evaluated), weights(whole.evaluated))
    plain = trainer_of(tmp_path / "plain", Toy(), ema=0.9, accumulate=2)
    Reports().fit(plain, halves)
    assert not torch.equal(weights(plain.model), weights(whole.model)), "dropout did nothing"


def judge_by(values: dict[int, float | None], seen: list[int]):
    def judge(step: int):
        seen.append(step)
        return {"AP": values[step]}

    return judge


def test_a_run_stops_when_evaluations_no_longer_rise_and_keeps_the_best_weights(tmp_path):
    trainer = trainer_of(tmp_path, steps=20, early_stop={"patience": 2, "min_delta": 0.5})
    kept, seen = {}, []
    judge = judge_by({2: 1.0, 4: 5.0, 6: 5.4, 8: 5.3, 10: 9.0}, seen)

    def remember(step: int):
        kept[step] = weights(trainer.evaluated).clone()
        return judge(step)

    reports = Reports()
    reports.fit(trainer, on_evaluate=remember, evaluate_every=2)
    assert seen == [2, 4, 6, 8]  # 5.4 is no gain of 0.5 over 5.0, yet the best
    assert trainer.selection.exhausted
    assert trainer.step == 8
    assert "AP has not risen for 2 evaluations (best: 5.40 at step 6)" in trainer.selection.describe()
    trainer.selection.load_best(trainer.evaluated)
    assert torch.equal(weights(trainer.evaluated), kept[6])
    # Whoever resumes from the last checkpoint knows that the run is over, and which weights were best.
    again = trainer_of(tmp_path, steps=20, early_stop={"patience": 2, "min_delta": 0.5})
    again.resume([reports.checkpoints[-1][1]], pytest.fail)
    Reports().fit(again, parts=lambda step: pytest.fail("trained on"), on_evaluate=remember, evaluate_every=2)
    again.selection.load_best(again.evaluated)
    assert torch.equal(weights(again.evaluated), kept[6])


def test_the_last_step_is_judged_too_where_the_best_weights_are_the_result(tmp_path):
    seen = []
    trainer = trainer_of(tmp_path, steps=5, keep="best")
    Reports().fit(trainer, on_evaluate=judge_by({2: None, 4: 1.0, 5: 2.0}, seen), evaluate_every=2)
    assert seen == [2, 4, 5]
    assert trainer.selection.best_step == 5


def test_an_evaluation_lost_with_its_process_is_made_up(tmp_path):
    trainer, seen = trainer_of(tmp_path), []

    def die(step: int):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # between the checkpoint of step 4 and its evaluation
        Reports().fit(trainer, on_evaluate=die, evaluate_every=4)
    again = trainer_of(tmp_path)
    again.resume(sorted(tmp_path.iterdir()), pytest.fail)
    Reports().fit(again, on_evaluate=judge_by({4: 1.0}, seen), evaluate_every=4)
    assert seen == [4]
    done = trainer_of(tmp_path)
    done.resume(sorted(tmp_path.iterdir(), reverse=True), pytest.fail)
    Reports().fit(done, on_evaluate=judge_by({}, seen), evaluate_every=4)
    assert seen == [4]


# --- numbers that are not finite -------------------------------------------------------------------------------


def poison(step: int) -> list:
    one = part(step)
    one.images_B3HW[:, 0, 0, 0] = 7
    one.images_B3HW[1, 0, 0, 0] = 99 if step == 4 else 7
    return [one]


def test_a_loss_that_is_not_finite_names_step_tensor_and_images_and_the_weights_are_from_before_it(tmp_path):
    toy = Toy()
    trainer = trainer_of(tmp_path / "a", toy, task_of(toy, poison=99), log_every=4, checkpoint_every=100, ema=0.9)
    with pytest.raises(JobError) as caught:
        Reports().fit(trainer, poison, remake=poison)
    message = str(caught.value)
    assert caught.value.code == "non-finite-loss"
    assert "loss/error became infinite or NaN at step 5 (images 16, 17, 18, 19)" in message
    assert "First tensor that is not finite: loss term error (NaN; every module's output is finite)" in message
    before = trainer_of(tmp_path / "b", steps=8, log_every=4)
    with pytest.raises(Cancelled):
        Reports().fit(before, poison, should_stop=lambda: before.step == 4)
    assert torch.equal(weights(toy), weights(before.model))


def test_the_first_module_whose_output_is_not_finite_is_named(tmp_path):
    toy = Toy()
    trainer = trainer_of(tmp_path, toy)

    def spoil(_module, given, out):
        return out.index_fill(1, torch.tensor([2]), torch.inf) if bool((given[0][:, 0] * 255 == 99).any()) else out

    toy.a.register_forward_hook(spoil)
    with pytest.raises(JobError, match=r"at step 5 \(images 16, .*: output of model a \(infinite in 4 of 32 values\)"):
        Reports().fit(trainer, poison, remake=poison)


def test_a_gradient_that_is_not_finite_is_found_though_the_loss_is(tmp_path):
    toy = Toy()
    task = task_of(toy)

    def rooted(images, *rest):
        terms = task(images, *rest)
        terms["loss"] = terms["error"] + (toy.a.bias * 0).abs().sum().sqrt()  # slope 0 * infinity
        return terms

    trainer = trainer_of(tmp_path, toy, rooted)
    with pytest.raises(JobError, match=r"grad_norm became.*step 1 .*gradient of model a\.bias \(NaN in 8 of 8"):
        Reports().fit(trainer, remake=lambda step: [part(step)])


def test_a_fault_that_does_not_come_again_is_reported_as_such(tmp_path):
    toy = Toy()
    trainer = trainer_of(tmp_path, toy, task_of(toy, poison=99))
    with pytest.raises(JobError, match="Running the step again with the same weights gave finite numbers"):
        Reports().fit(trainer, poison, remake=lambda step: [part(0)])


# --- terms that stay 0 -----------------------------------------------------------------------------------------


def test_a_term_that_stays_at_0_is_reported_once_and_counted():
    dead, warnings = DeadTerms(("bckd",)), []
    for value in (0.0, 0.0, 0.0, 0.0, 1e-30, 0.0, 0.0, 0.0):
        values, new = dead.look({"loss": 1.0, "loss/bckd_loc": value, "loss/qfl": 1.0})
        warnings.append((values.get("dead_terms"), len(new)))
    assert warnings == [(None, 0), (None, 0), (1, 1), (1, 0), (0, 0), (None, 0), (None, 0), (1, 1)]
    text = dead.look({"loss/giou": 0.0}) and dead.look({"loss/giou": 0.0}) and dead.look({"loss/giou": 0.0})[1][0]
    assert "loss term giou has been exactly 0 in 3 reports in a row" in text
    assert "student.prior_scale" in text
