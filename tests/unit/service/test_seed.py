"""Generated data: what pages need of it, that it is marked, and that it stays by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from service.cli.seed import seed_demo
from service.mirror import loop
from service.models import GENERATED, Job, Point, Series
from service.seed.write import COMPARED, NotEmpty, Size, seed
from service.settings import Settings
from tests.helpers.api import make_client, make_settings, submit

SMALL = Size(jobs=80, runs=8, points=200, trials=40)


def filled(tmp_path: Path) -> Settings:
    settings = make_settings(tmp_path / "seeded")
    seed(settings, SMALL, lambda _: None)
    return settings


@pytest.fixture
def generated(tmp_path: Path) -> Any:
    with make_client(filled(tmp_path)) as client:
        yield client


def get(client: TestClient, path: str, **params: Any) -> Any:
    response = client.get(f"/api/v1{path}", params=params)
    assert response.status_code == 200, response.text
    return response.json()


def test_every_row_is_marked_as_generated(generated: TestClient) -> None:
    jobs = get(generated, "/jobs", limit=200)["items"]
    assert {(job["project"], tuple(job["tags"])) for job in jobs} == {(GENERATED, ("generated",))}
    assert all(job["name"].startswith("generated ") for job in jobs)


def test_pages_have_something_to_tell(generated: TestClient) -> None:
    runs = get(generated, "/jobs", filter=f'group:"{COMPARED}"', limit=200)["items"]
    assert len(runs) == SMALL.runs
    ids = ",".join(job["id"] for job in runs)
    answer = get(generated, "/compare", ids=ids)
    assert {group["role"] for group in answer["groups"]} == {"distilled", "baseline", "teacher"}
    assert len(get(generated, "/compare/parts", ids=ids)["comparisons"]) == 3
    assert get(generated, "/compare/costs", ids=ids)["fronts"]
    report = get(generated, "/sweeps/sweep_generated/report")
    assert "has the best mean" in report["sentence"]
    trials = get(generated, "/sweeps/sweep_generated/trials")["items"]
    assert len([one for one in trials if one["seed"] == 0]) == SMALL.trials
    assert get(generated, "/models", limit=5)["items"][0]["device"] == "generated GPU"
    states = get(generated, "/jobs:count")["by_state"]
    assert set(states) == {"succeeded", "failed", "cancelled"}


def test_curves_hold_what_their_summaries_say(generated: TestClient) -> None:
    with generated.app.state.db.read() as session:  # type: ignore[attr-defined]
        for series in session.scalars(select(Series).limit(50)):
            points = session.execute(
                select(Point.step, Point.value).where(Point.series_id == series.id).order_by(Point.step)
            ).all()
            assert (len(points), points[-1].step) == (series.count, series.last_step)
            assert points[-1].value == pytest.approx(series.last_value)
            assert dict(points)[series.best_step] == pytest.approx(series.best_value)


def test_mlflow_gets_no_copy(generated: TestClient) -> None:
    with generated.app.state.db.read() as session:  # type: ignore[attr-defined]
        assert session.scalars(select(Job.id).limit(1)).all()
        assert session.scalars(loop.with_news()).all() == []
        assert loop.pending(session) == 0


def test_an_installation_with_jobs_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    settings = make_settings(tmp_path / "real")
    with make_client(settings) as client:
        submit(client)
    with pytest.raises(NotEmpty):
        seed(settings, SMALL, lambda _: None)
    with make_client(settings) as client:
        assert get(client, "/jobs:count")["total"] == 1
        assert GENERATED not in [one["id"] for one in get(client, "/projects")["items"]]


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    settings = make_settings(tmp_path / "half")

    def full(_: str) -> None:
        raise OSError("no space left on device")

    big = Size(jobs=40, runs=2, points=12_000, trials=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.seed.write.TELL_EVERY", 0.0)
        with pytest.raises(OSError, match="no space left"):
            seed(settings, big, full)
    seed(settings, Size(jobs=1, runs=0, points=1, trials=0), lambda _: None)  # as if nothing had been


def test_the_command_says_where_to_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    seed_demo(jobs=40, runs=4, points=50, trials=5, home=home)
    out = capsys.readouterr().out
    assert "generated: " in out
    assert f"bcd up --home {home}" in out
