"""The commands of tables, against the real application."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from starlette.testclient import TestClient

from service.auth import owner_token
from tests.helpers.api import end_job, tiny_spec
from tests.unit.cli.test_commands import installation, run  # noqa: F401 (fixtures)


@pytest.fixture
def file(tmp_path: Path) -> str:
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump(tiny_spec(name="not this name")))
    manifest = {
        "name": "small", "job": "job.yaml", "students": {"tiny": tiny_spec()["student"]}, "methods": {"labels": []},
        "seeds": [0, 1, 2], "published": {"tiny": {"labels": 30.0}},
    }  # fmt: skip
    path = tmp_path / "table.yaml"
    path.write_text(yaml.safe_dump(manifest))
    return str(path)


@pytest.fixture
def client(installation, run):  # noqa: F811
    client = TestClient(installation)
    client.headers["Authorization"] = f"Bearer {owner_token(installation.state.settings)}"
    return client


def test_a_table_from_its_manifest_to_its_verdict(run, client, file):  # noqa: F811
    code, out, err = run("table", "keep", file)
    assert (code, err) == (0, "3 cells: 3 missing\n")
    table = out.strip()
    code, out, err = run("table", "run", "small")
    assert (code, err) == (0, "3 submitted, 0 left alone\n")
    jobs = out.split()
    for job, ap in zip(jobs, (30.1, 30.3, 30.5), strict=True):
        end_job(client, job, ap)
    code, out, _ = run("table", "show", table)
    assert code == 0
    assert "small: 3 cells: 3 done" in out
    assert "30.3 ± 0.2" in out
    assert "reproduced" in out
    code, out, _ = run("table", "show", "small", "--json")
    assert json.loads(out)["rows"][0]["difference"] == pytest.approx(0.3)
    code, out, _ = run("table", "list")
    assert (code, "small" in out, table in out) == (0, True, True)


def test_bad_input_is_told(run, client, file):  # noqa: F811
    code, _, err = run("table", "list")
    assert (code, err) == (0, "no tables yet: keep one with `bcd table keep FILE`\n")
    code, _, err = run("table", "show", "nothing")
    assert code == 2
    assert "there is no table of this name" in err
    values = yaml.safe_load(Path(file).read_text())
    Path(file).write_text(yaml.safe_dump({**values, "seeds": []}))
    code, _, err = run("table", "keep", file)
    assert code == 2
    assert "/seeds" in err
    assert run("table", "keep", "nothing.yaml")[0] == 2
