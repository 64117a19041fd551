"""Costs are what can be counted by hand, and latencies are taken in turns."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import bcd
from bcd.cost import count_flops, interleaved_latency, measure_costs, peak_memory
from tests.helpers.runs import tiny_spec


def detector(width: int) -> bcd.models.detector.Detector:
    return bcd.build_detector(**{**tiny_spec().student.model_dump(), "width": width}, num_classes=3)


def test_a_multiply_add_counts_two():
    conv, image = nn.Conv2d(3, 8, 3, padding=1, bias=False), torch.zeros(1, 3, 10, 12)
    assert count_flops(lambda: conv(image)) == 2 * (3 * 9) * 8 * 10 * 12
    assert count_flops(lambda: torch.zeros(4, 5) @ torch.zeros(5, 6)) == 2 * 4 * 5 * 6


def test_memory_is_the_most_that_lives_at_once():
    x = torch.zeros(1000)
    assert peak_memory(lambda: x.view(10, 100).t()) == 0
    assert peak_memory(lambda: ((x + 1) * 2).sum()) == 8000  # two at a time, and the sum beside one of them
    assert peak_memory(lambda: [x + 1 for _ in range(3)]) == 12000
    assert peak_memory(lambda: [float((x + 1).sum()) for _ in range(3)]) == 4004


def test_costs_of_several_detectors_are_json_in_their_order():
    models = {"teacher": detector(16), "student": detector(8)}
    teacher, student = measure_costs(models, (64, 96), warmup=0, repeats=2)
    assert [teacher.name, student.name] == ["teacher", "student"]
    assert student.parameters == sum(p.numel() for p in models["student"].parameters())
    assert teacher.flops > student.flops > 0
    assert teacher.macs * 2 == teacher.flops
    assert student.memory_bytes > 4 * 3 * 64 * 96  # the normalised image at least
    answer = json.loads(json.dumps(student.as_dict(), allow_nan=False))
    assert answer["size"] == [64, 96]
    assert answer["batch"] == 1
    assert answer["forward"]["repeats"] == 2
    assert answer["forward"]["low_ms"] <= answer["forward"]["median_ms"] <= answer["forward"]["high_ms"]


def test_flops_grow_with_the_image_and_no_random_number_is_drawn():
    before = torch.random.get_rng_state()
    small, large = (measure_costs({"m": detector(8)}, (64, w), warmup=0, repeats=1)[0] for w in (64, 128))
    assert large.flops == 2 * small.flops
    torch.random.set_rng_state(before)
    measure_costs({"m": detector(8)}, (64, 64), warmup=0, repeats=1)
    state = torch.random.get_rng_state()
    torch.random.set_rng_state(before)
    detector(8)
    assert torch.equal(state, torch.random.get_rng_state())


def test_calls_are_measured_in_turns():
    seen: list[str] = []
    found = interleaved_latency({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, warmup=1, repeats=3)
    assert "".join(seen) == "abababab"
    assert found["a"].repeats == found["b"].repeats == 3


@pytest.mark.parametrize("wrong", [{"models": {}}, {"size": (0, 64)}, {"repeats": 0}])
def test_nothing_to_measure_is_refused(wrong):
    given = {"models": {"m": detector(8)}, "size": (64, 64), **wrong}
    with pytest.raises(ValueError, match=r"no detector|must be positive"):
        measure_costs(given.pop("models"), given.pop("size"), **given)
