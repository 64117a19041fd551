"""What the Ray backend makes of Ray's answers; no cluster runs here."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

from service.dispatch.backend import BackendAway, NodeInfo
from service.dispatch.ray_backend import RayBackend
from service.settings import Settings


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RayBackend:
    made = RayBackend(Settings.load(tmp_path))
    monkeypatch.setattr(made, "listening", lambda: True)
    return made


def test_a_cluster_without_any_node_gives_nothing_to_judge_jobs_by(backend, monkeypatch):
    row = {"NodeID": "ab", "NodeName": "10.0.0.1", "NodeManagerHostname": "gpu-1", "Alive": False, "Resources": {}}
    monkeypatch.setattr(ray, "nodes", lambda: [row])
    with pytest.raises(BackendAway):
        backend.nodes()
    resources = {"CPU": 2.0, "GPU": 1.0, "memory": 3.0 * 2**30}
    monkeypatch.setattr(ray, "nodes", lambda: [{**row, "Alive": True, "Resources": resources}])
    assert list(backend.nodes()) == [NodeInfo("ab", "10.0.0.1", True, cpus=2, gpus=1, memory=3.0)]
