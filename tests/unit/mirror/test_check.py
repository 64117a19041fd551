"""The check of the mirror finds whatever differs, and names the job and the thing."""

from __future__ import annotations

import random

import pytest

from service.mirror.check import compare
from service.mirror.mlflow_api import Metric
from service.mirror.wanted import GROUP, PARENT, group_id
from service.models import Artifact


@pytest.fixture
def database_kind() -> str:
    """One is enough: what differs does so in MLflow."""
    return "sqlite"


@pytest.fixture
def job(world) -> str:
    """A job in a group, copied without a difference."""
    job: str = world.finish(world.submit(name=f"checked-{random.random()}", group="checked"), steps=3)
    world.copy()
    assert world.differences() == []
    return job


def change_tag(world, job):
    world.mlflow.log(world.run(job).id, tags={"bcd.state": "failed"})
    return f"job {job}: tag bcd.state is 'failed' in MLflow and 'succeeded' here"


def add_parameter(world, job):
    world.mlflow.log(world.run(job).id, params={"more": "1"})
    return f"job {job}: parameter more is '1' in MLflow and None here"


def change_status(world, job):
    world.mlflow.update_run(world.run(job).id, "FAILED", None)
    return f"job {job}: status is 'FAILED' in MLflow and 'FINISHED' here"


def add_value(world, job):
    world.mlflow.log(world.run(job).id, metrics=[Metric("loss", 2, 7.0, 5)])
    return f"job {job}: MLflow has 1 others (from step 2) of metric loss"


def add_metric(world, job):
    world.mlflow.log(world.run(job).id, metrics=[Metric("more", 2, 7.0, 5)])
    return f"job {job}: MLflow has 1 others (from step 2) of metric more"


def add_file(world, job):
    path = world.settings.home / "more.bin"
    path.write_bytes(b"more")
    world.mlflow.upload(world.row(job).done["experiment"], world.run(job).id, "result/more.bin", path)
    return f"job {job}: MLflow has a file result/more.bin that is not here"


def cut_file(world, job):
    path = world.settings.home / "cut.bin"
    path.write_bytes(b"{")
    world.mlflow.upload(world.row(job).done["experiment"], world.run(job).id, "other/report.json", path)
    return f"job {job}: file other/report.json has 1 bytes in MLflow and 2 here"


def lose_file(world, job):
    with world.db.write() as session:
        file = session.query(Artifact).where(Artifact.job_id == job, Artifact.type == "other").one()
        file.name = "renamed.json"
    return f"job {job}: file other/renamed.json has no bytes in MLflow and 2 here"


def move_alias(world, job):
    (version,) = world.mlflow.versions("bcd.job_id", job)
    world.mlflow.create_version(version.name, version.run, "result", {})
    world.mlflow.set_alias(version.name, "best", "2")
    aliases = {"best": "2", "newest": "1"}
    return f"model {version.name}: its aliases in MLflow are {aliases}, and should be {{'newest': '1', 'best': '1'}}"


def drop_version(world, job):
    (version,) = world.mlflow.versions("bcd.job_id", job)
    world.mlflow.delete_version(version.name, version.version)
    return f"job {job}: its model versions in MLflow are []"


def unnest(world, job):
    world.mlflow.delete_tag(world.run(job).id, PARENT)
    return f"job {job}: its run is not nested in that of its group"


def drop_group(world, job):
    experiment = world.row(job).done["experiment"]
    for run in world.mlflow.find_runs([experiment], GROUP, group_id("default", "checked")):
        world.mlflow.delete_run(run.id)
    return "group checked of project default: its runs in MLflow are [], and should be ['FINISHED']"


def drop_run(world, job):
    world.mlflow.delete_run(world.run(job).id)
    return f"job {job}: MLflow has no run of it"


def double_run(world, job):
    world.mlflow.create_run(world.row(job).done["experiment"], "twin", 1.0, {"bcd.job_id": job})
    return f"job {job}: MLflow has more than one run of it"


def finish_another(world, _job):
    another = world.finish(world.submit(seed=1))
    return f"job {another}: MLflow has no run of it"


def copy_half(world, _job):
    another = world.finish(world.submit(seed=1))
    world.faults.fault = lambda request: "400" if "/mlflow-artifacts/" in request.url.path else None
    world.copy()
    return f"job {another} is not copied completely yet: INVALID_PARAMETER_VALUE: not this one"


@pytest.mark.parametrize(
    "spoil",
    [
        change_tag, add_parameter, change_status, add_value, add_metric, add_file, cut_file, lose_file, move_alias,
        drop_version, unnest, drop_group, drop_run, double_run, finish_another, copy_half,
    ],
)  # fmt: skip
def test_finds_what_differs(world, job, spoil):
    expected = spoil(world, job)
    assert any(text.startswith(expected) for text in world.differences()), world.differences()


def test_a_run_of_a_job_that_does_not_exist_is_named(world, job):
    run = world.mlflow.create_run(world.row(job).done["experiment"], "stray", 1.0, {"bcd.job_id": "job_stray"})
    found = compare(world.settings, world.db, world.mlflow)
    assert f"MLflow has a run {run} of job job_stray, which does not exist here" in found


def test_counts_the_jobs_that_it_has_looked_at(world, job):
    world.finish(world.submit(seed=1))
    counted: list[tuple[int, int]] = []
    world.differences(progress=lambda done, all: counted.append((done, all)))
    assert counted[-1] == (1, 2)
