"""The commands of sweeps, against the real application."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from service.models import Sweep
from service.sweeps import repeats
from tests.helpers.api import FakeDriver, end_job, tiny_sweep
from tests.unit.cli.test_commands import installation, run  # noqa: F401 (fixtures)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(tiny_sweep(promote={"top": 1, "seeds": 3})))
    return str(path)


@pytest.fixture
def client(installation, run, file):  # noqa: F811
    """A client of the application, as the fake driver wants it."""
    from starlette.testclient import TestClient

    from service.auth import owner_token

    client = TestClient(installation)
    client.headers["Authorization"] = f"Bearer {owner_token(installation.state.settings)}"
    return client


def _searched(client, sweep_id: str) -> None:
    driver = FakeDriver(client, sweep_id)
    for number in range(1, 5):
        end_job(client, driver.add(number, lr=0.01 * number, width=4)["job_id"], 30.0 + number if number != 2 else None)
    driver.ask("POST", "/end", {})
    for trial in client.get(f"/api/v1/sweeps/{sweep_id}/trials").json()["items"]:
        if trial["state"] == "queued":
            end_job(client, trial["job_id"], (40.0 if trial["number"] else 30.0) + 0.1 * trial["seed"] ** 2)
    with client.app.state.db.write() as session:
        assert repeats.settle(session, session.get(Sweep, sweep_id))


def test_a_dry_run_says_how_much_it_would_run_and_submits_nothing(run, client, file):  # noqa: F811
    code, out, _ = run("sweep", "submit", file, "--dry-run")
    assert code == 0
    assert out == "4 trials at most\n16 optimizer steps if none is stopped early\n"
    code, _, err = run(
        "sweep", "submit", file, "--dry-run", "--set", "space={student.widht: {type: choice, values: [4]}}"
    )
    assert code == 2
    assert "/space/student.widht: student.widht = 4: /student/widht: unknown key" in err
    code, _, err = run("sweep", "list")
    assert (code, err) == (0, "no sweeps yet: submit one with `bcd sweep submit FILE`\n")


def test_bad_input_is_told_by_pointer_with_exit_code_2(run, client, file):  # noqa: F811
    code, _, err = run("sweep", "submit", file, "--set", "budget.trials=0")
    assert code == 2
    assert "/budget/trials" in err
    assert "Traceback" not in err
    assert run("sweep", "submit", "nothing.yaml")[0] == 2
    assert run("sweep", "report", "sweep_x")[0] == 2
    assert run("sweep", "extend", "sweep_x")[0] == 2


def test_a_sweep_from_its_submission_to_its_best_spec(run, client, file, tmp_path):  # noqa: F811
    code, out, _ = run("sweep", "submit", file)
    assert code == 0
    sweep = out.strip()
    _searched(client, sweep)
    code, out, _ = run("sweep", "list")
    assert (code, "succeeded" in out, "random" in out) == (0, True, True)
    code, out, _ = run("sweep", "report", sweep)
    assert code == 0
    assert "#4 has the best mean: AP 40.47 over 3 seeds, +10.00 against the untuned default" in out
    assert "default" in out
    assert "1 failed: the loss is not finite" in out
    assert "it takes 8 trials" in out
    code, out, _ = run("sweep", "report", sweep, "--json")
    found = json.loads(out)
    assert (found["best"], len(found["trials"])) == ([4, 3, 1], 10)
    code, out, _ = run("sweep", "best", sweep, "--to", str(tmp_path / "best.yaml"))
    assert code == 0
    assert yaml.safe_load((tmp_path / "best.yaml").read_text())["schedule"]["optimizer"]["lr"] == 0.04
    assert run("submit", str(tmp_path / "best.yaml"))[0] == 0
    assert run("sweep", "watch", sweep)[0] == 0


def test_verbs_say_the_state(run, client, file):  # noqa: F811
    sweep = run("sweep", "submit", file)[1].strip()
    assert run("sweep", "best", sweep)[0] == 1
    for verb, state in (("pause", "paused"), ("resume", "searching"), ("stop", "stopped")):
        assert run("sweep", verb, sweep)[1] == f"{sweep} {state}\n"
    assert run("sweep", "extend", sweep, "--trials", "9")[1] == f"{sweep} searching\n"
    code, _, err = run("sweep", "extend", sweep, "--trials", "2")
    assert code == 2
    assert "give more" in err
