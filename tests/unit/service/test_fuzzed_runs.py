"""Odd specs that were accepted, trained for one step by a real worker: each ends with a last word, none crashes it.

`BCD_FUZZ=5000` runs 50 of them in place of a few.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from bcd.spec import JobSpec, SpecError, parse_spec
from bcd.spec.data import DigitsData
from service.models import Attempt
from service.settings import Settings
from tests.helpers.api import FakeWorker, claim, distilled_spec, make_client, submit, tiny_spec
from tests.helpers.mutants import mutant
from workers.attempt import AttemptArgs, run_attempt
from workers.channel import HttpChannel

COUNT = max(6, int(os.environ.get("BCD_FUZZ", "300")) // 100)
METHODS = ("bckd", "softmax_kd", "sigmoid_kd", "ld", "crosskd", "pkd", "fgd", "fitnet", "fine_grained", "gi")


def run(client: TestClient, settings: Settings, spec: dict[str, Any]) -> tuple[str, Attempt]:
    """Submit, claim and train; what the worker said at the end, and the attempt as it is stored."""
    attempt_id, epoch = claim(client, submit(client, spec)["id"])
    token = FakeWorker(client, attempt_id, epoch).headers["Authorization"].removeprefix("Bearer ")
    args = AttemptArgs(
        attempt_id=attempt_id, epoch=epoch, api_url="http://testserver", storage=settings.storage_uri,
        work=str(settings.work), data_cache=str(settings.data_cache), token=token,
    )  # fmt: skip
    channel = HttpChannel(args.api_url, attempt_id, epoch, token)
    with make_client(settings, token=token) as http:
        http.headers.update(channel._http.headers)
        channel._http = http
        final = run_attempt(args, channel=channel, patience=60)
    assert not args.folder.exists()
    with client.app.state.db.read() as session:
        return final, session.get_one(Attempt, attempt_id)


def small(spec: JobSpec) -> bool:
    """Whether a step of it is quick on a laptop, in this process alone."""
    data, student, schedule = spec.data, spec.student, spec.schedule
    if not isinstance(data, DigitsData) or student.backbone != "tiny":
        return False
    images = (data.train_images, data.val_images, data.unlabeled.images if data.unlabeled is not None else 0)
    sizes = (student.width, student.fpn_channels, schedule.batch_size, spec.evaluation.batch_size)
    return (
        max(images) <= 64 and data.image_size <= 128 and data.max_objects <= 12 and max(sizes) <= 64
        and spec.resources.world == 1 and spec.resources.cpus <= 4 and schedule.compile == "off"
    )  # fmt: skip


def odd_specs(teacher: str) -> Iterator[dict[str, Any]]:
    """Accepted mutants that are small, cut to one step."""
    distilled = {**distilled_spec(teacher), "teacher": {"job": teacher, "preflight": "off"}}
    valid = [tiny_spec(), *({**distilled, "methods": [{"type": kind}]} for kind in METHODS)]
    plain = [parse_spec(spec).digest() for spec in valid]
    seed = 0
    while True:
        value, seed = mutant(seed, valid), seed + 1
        try:
            spec = parse_spec(value)
            known = spec.teacher is None or spec.teacher.job == teacher
            if known and small(spec) and spec.digest(without=("name",)) not in plain:
                schedule = {**spec.canonical()["schedule"], "steps": 1, "epochs": None}
                yield parse_spec({**spec.canonical(), "schedule": schedule}).canonical()
        except SpecError:
            continue


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)  # what a worker does is the same on both
def test_every_accepted_spec_ends_with_a_last_word(client: TestClient, settings: Settings, tmp_path: Path) -> None:
    final, attempt = run(client, settings, tiny_spec(schedule={"steps": 1, "batch_size": 2, "warmup_steps": 0}))
    assert (final, attempt.state) == ("succeeded", "succeeded")
    ends = []
    for spec, _ in zip(odd_specs(attempt.job_id), range(COUNT), strict=False):
        dry = client.post("/api/v1/jobs:validate", json=spec).json()
        if not dry["ok"]:
            continue
        final, attempt = run(client, settings, spec)
        ends.append(final)
        assert (attempt.state, attempt.ended_at is not None) == (final, True), spec
        assert final == "succeeded" or (final == "failed" and attempt.cause), (attempt.cause, spec)
    assert "succeeded" in ends
