"""A process that has run one attempt gives the next one the very same result as a new process would."""

from __future__ import annotations

from typing import Any

import torch

from bcd.api import run_job
from bcd.engine.report import Silent
from bcd.spec import parse_spec


def _spec(seed: int, **schedule: Any):
    return parse_spec(
        {
            "data": {"type": "digits-scenes-v1", "train_images": 32, "val_images": 8, "image_size": 64},
            "student": {
                "backbone": "tiny", "width": 4, "fpn_channels": 8, "stacked_convs": 0, "strides": [8, 16],
                "reg_max": 4, "prior_scale": 4,
            },
            "schedule": {"steps": 4, "batch_size": 4, "warmup_steps": 0, **schedule},
            "seed": seed,
        }
    )  # fmt: skip


def test_what_ran_before_in_the_process_changes_nothing(tmp_path):
    def weights(name: str, seed: int, **schedule: Any) -> dict[str, torch.Tensor]:
        from safetensors.torch import load_file

        run = run_job(_spec(seed, **schedule), workdir=tmp_path / name, sink=Silent(), data_cache=tmp_path / "cache")
        return load_file(run.path)

    first = weights("first", 1)
    weights("other", 2, ema=0.9, batch_size=8)
    torch.rand(7)  # whatever else drew random numbers
    again = weights("again", 1)
    assert first.keys() == again.keys()
    assert all(torch.equal(first[key], again[key]) for key in first)
