"""A user's jobs end well on the real processes, also when those are killed on the way. One tree for all tests."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from .conftest import Installation, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

LONG = 200  # steps; long enough to be hit in the middle


def assert_whole(installation: Installation, job_id: str, steps: int) -> None:
    """The job has succeeded with a gapless metric series, one final evaluation and its result."""
    job = installation.job(job_id)
    assert job["state"] == "succeeded", job
    assert installation.series(job_id, "loss")["steps"] == list(range(1, steps + 1))
    evaluations = installation.call("GET", f"/jobs/{job_id}/evaluations")["items"]
    assert [evaluation["name"] for evaluation in evaluations] == ["final"]
    assert [artifact["name"] for artifact in installation.artifacts(job_id, "result")] == ["student.safetensors"]


def test_a_baseline_and_a_distilled_job_wait_for_their_teacher_and_succeed(installation):
    teacher = installation.submit(name="teacher")
    given = {"job": teacher, "preflight": "off"}  # 20 steps make no sound teacher
    distilled = installation.submit(name="distilled", teacher=given, methods=[{"type": "bckd"}], seed=1)
    assert installation.job(distilled)["state"] == "waiting"
    baseline = installation.submit(name="baseline", seed=1)
    for job_id in (teacher, distilled, baseline):
        installation.finished(job_id)
        assert_whole(installation, job_id, 20)
    assert installation.series(distilled, "loss/bckd_cls")["steps"] == list(range(1, 21))


def test_a_job_with_bad_data_fails_with_a_cause_and_is_not_tried_again(installation):
    job = installation.finished(installation.submit(data={"type": "voc", "root": "/nowhere", "classes": ["a"]}))
    assert job["state"] == "failed"
    assert len(job["attempts"]) == 1
    assert job["cause"]
    assert "Traceback" not in job["cause"]


def test_a_killed_worker_is_replaced_and_resumes_from_its_checkpoint(installation):
    job_id = installation.submit(LONG, seed=2)
    installation.wait(job_id, lambda _: installation.artifacts(job_id, "checkpoint"))
    installation.worker(job_id).kill()
    job = installation.finished(job_id)
    assert [attempt["state"] for attempt in job["attempts"]] == ["lost", "succeeded"]
    texts = [line["text"] for line in installation.call("GET", f"/jobs/{job_id}/logs")["lines"]]
    assert any(text.startswith("resumed at step") for text in texts)
    assert_whole(installation, job_id, LONG)


def test_killing_api_and_dispatcher_harms_no_running_job(installation):
    job_id = installation.submit(LONG, seed=3)
    installation.wait(job_id, lambda job: job["step"] > 0)
    before = installation.tree.pids()
    for name in ("api", "dispatcher"):
        psutil.Process(before[name]).kill()
    job = installation.finished(job_id)
    assert [attempt["state"] for attempt in job["attempts"]] == ["succeeded"]
    assert_whole(installation, job_id, LONG)
    after = eventually(installation.tree.pids, lambda pids: {"api", "dispatcher"} <= set(pids))
    assert (after["api"], after["dispatcher"]) != (before["api"], before["dispatcher"])


def test_a_cancelled_job_stops_and_frees_its_place(installation):
    job_id = installation.submit(100_000, seed=4)
    installation.wait(job_id, lambda job: job["step"] > 0)
    worker = installation.worker(job_id)
    installation.call("POST", f"/jobs/{job_id}/cancel")
    job = installation.finished(job_id)
    assert (job["state"], [attempt["state"] for attempt in job["attempts"]]) == ("cancelled", ["cancelled"])
    # Its worker may live on to serve others, or end where there are idle ones enough; it trains no more.
    eventually(lambda: cpu_use(worker), lambda share: share < 0.2)
    installation.finished(installation.submit(seed=4))


def cpu_use(process: psutil.Process) -> float:
    """The share of one core that a process uses, over two seconds; one that has ended uses none."""
    try:
        return process.cpu_percent(2) / 100
    except psutil.NoSuchProcess:
        return 0.0


def test_a_worker_that_is_frozen_past_its_lease_is_replaced_and_its_writes_are_refused(installation):
    job_id = installation.submit(LONG, seed=5)
    installation.wait(job_id, lambda _: installation.artifacts(job_id, "checkpoint"))
    frozen = installation.worker(job_id)
    frozen.send_signal(signal.SIGSTOP)
    job = installation.finished(job_id)
    assert [attempt["state"] for attempt in job["attempts"]] == ["lost", "succeeded"]
    eventually(frozen.is_running, lambda runs: not runs)
    assert_whole(installation, job_id, LONG)


def test_everything_listens_on_loopback_only(installation):
    eventually(installation.tree.mlflow_ready, bool)
    assert set().union(*map(listening, installation.tree.processes())) == {"127.0.0.1"}


def listening(process: psutil.Process) -> set[str]:
    """The addresses on which a process listens; one that has ended in the meantime listens on none."""
    try:
        connections = process.net_connections(kind="inet")
    except psutil.NoSuchProcess:
        return set()
    return {c.laddr.ip.removeprefix("::ffff:") for c in connections if c.status == psutil.CONN_LISTEN}


def test_secrets_are_readable_by_their_owner_only(installation):
    for name in ("api-token", "secret", "ray-token"):
        path: Path = installation.settings.run / name
        assert path.stat().st_mode & 0o077 == 0, name


def test_when_the_ray_head_is_killed_jobs_go_on_with_a_new_one(installation):
    job_id = installation.submit(LONG, seed=6)
    installation.wait(job_id, lambda _: installation.artifacts(job_id, "checkpoint"))
    psutil.Process(installation.tree.pids()["ray"]).kill()
    job = installation.finished(job_id)
    assert job["attempts"][0]["state"] == "lost"
    assert_whole(installation, job_id, LONG)


def test_in_the_end_mlflow_has_everything_and_no_worker_is_left_over(installation):
    eventually(installation.mirrored, bool)
    assert installation.mirror_differences() == []
    eventually(lambda: list(installation.settings.work.iterdir()), lambda folders: folders == [])
