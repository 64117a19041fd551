"""What the Ray backend makes of Ray's answers; no cluster runs here."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

from service.dispatch.backend import BackendAway, Capacity
from service.dispatch.ray_backend import RayBackend
from service.settings import Settings


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RayBackend:
    made = RayBackend(Settings.load(tmp_path))
    monkeypatch.setattr(made, "listening", lambda: True)
    return made


def test_a_cluster_without_any_node_gives_no_capacity_to_judge_jobs_by(backend, monkeypatch):
    monkeypatch.setattr(ray, "cluster_resources", dict)
    with pytest.raises(BackendAway):
        backend.capacity()
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    assert backend.capacity() == Capacity(cpus=2, gpus=0)
