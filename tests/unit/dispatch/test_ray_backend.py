"""What the Ray backend makes of Ray's answers; no cluster runs here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ray

from service.auth import ensure_secrets
from service.dispatch.backend import BackendAway, Launch, Needs, NodeInfo
from service.dispatch.ray_backend import RayBackend
from service.settings import Settings


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RayBackend:
    for name in ("BCD_API_URL", "BCD_RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
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


class Actors:
    """Stands in for the remote supervisor class: remembers with which options actors are made and started."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        self.started: list[dict[str, Any]] = []

    def options(self, **options: Any) -> Actors:
        self.made.append(options)
        return self

    def remote(self, *given: Any) -> Actors:
        self.started.extend(given)
        return self

    @property
    def start(self) -> Actors:
        return self


@pytest.mark.parametrize(
    ("asked", "reserved"),
    [
        ({}, {}),
        ({"gpus": 1}, {"num_gpus": 1}),
        ({"gpus": 0.25, "memory": 1.5}, {"num_gpus": 0.25, "memory": 3 * 2**29}),
        ({"gpus": 4, "memory": 64.0, "processes": 4}, {}),  # its processes reserve these, each its own
        ({"memory": 2.0, "processes": 2}, {}),
    ],
)
def test_a_worker_reserves_what_its_own_process_takes_and_never_cpus(backend, asked, reserved):
    backend._supervisor = actors = Actors()
    ensure_secrets(backend._settings)
    backend.launch(Launch("att_1", 1, "worker-1", **asked))
    [options] = actors.made
    assert options["num_cpus"] == 0
    assert {key: options[key] for key in ("num_gpus", "memory") if key in options} == reserved


def test_an_idle_worker_serves_whatever_reserves_nothing_for_it(backend):
    backend._spares = {"spare": None}
    for needs in (Needs(1), Needs(4, 4, 64.0, 4), Needs(2, 0, 2.0, 2)):
        assert backend.pick_actor(needs, [], set())[0] == "spare"
    for needs in (Needs(1, 1), Needs(1, 0.5), Needs(1, 0, 2.0)):
        assert backend.pick_actor(needs, [], set())[0] != "spare"


def test_workers_are_told_the_address_at_which_they_reach_the_api(tmp_path, monkeypatch):
    monkeypatch.setenv("BCD_API_URL", "http://api.internal:8765/")
    backend = RayBackend(Settings.load(tmp_path))
    monkeypatch.setattr(backend, "listening", lambda: True)
    backend._supervisor = actors = Actors()
    ensure_secrets(backend._settings)
    backend.launch(Launch("att_1", 1, "worker-1"))
    assert actors.started[0]["api_url"] == "http://api.internal:8765"


def test_only_workers_that_reserved_nothing_and_are_alone_serve_again(backend):
    backend._supervisor = actors = Actors()
    ensure_secrets(backend._settings)
    for asked in ({}, {"gpus": 1}, {"memory": 1.0}, {"processes": 2}):
        backend.launch(Launch("att_1", 1, "worker-1", **asked))
    assert [args["again"] for args in actors.started] == [True, False, False, False]


def test_idle_workers_beyond_those_wanted_end_after_a_while(backend, monkeypatch):
    killed: list[str] = []
    monkeypatch.setattr(backend, "kill", killed.append)
    backend._spares = dict.fromkeys(("new", "b", "a", "c"))
    backend._idle_since = {"a": -1e9, "b": -1e8, "c": float("inf")}
    backend.warm(2)
    assert killed == ["a", "b"]  # the longest idle first; the new one and the one just used stay
    assert set(backend._spares) == {"new", "c"}
    backend.warm(2)
    assert killed == ["a", "b"]
