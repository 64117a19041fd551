"""The commands as a person types them, on the real application where they need a service."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import service.cli
from service import models
from service.app import create_app, prepare
from service.cli import serve
from service.client import Client
from service.settings import Settings

ROOT = Path(__file__).parents[3]
BASELINE = str(ROOT / "recipes" / "demo-baseline.yaml")
DISTILLED = str(ROOT / "recipes" / "demo-bckd.yaml")


@pytest.fixture
def run(capsys, monkeypatch):
    """Type a command: gives exit code, stdout and stderr."""
    monkeypatch.delenv("BCD_URL", raising=False)
    monkeypatch.setenv("COLUMNS", "100")

    def type_in(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            service.cli.main(list(args))
        shown = capsys.readouterr()
        code = ended.value.code
        return (0 if code is None else int(code)), shown.out, shown.err

    return type_in


@pytest.fixture
def installation(tmp_path, monkeypatch):
    """The real application on a fresh home; every client talks to it."""
    settings = Settings.load(tmp_path / "home")
    prepare(settings)
    app = create_app(settings)
    token = settings.token_file.read_text().strip()
    monkeypatch.setenv("BCD_HOME", str(settings.home))
    with TestClient(app) as http:
        monkeypatch.setattr(
            Client, "from_settings", classmethod(lambda cls, settings: cls("http://testserver", token, http=http))
        )
        monkeypatch.setattr(Client, "close", lambda self: None)
        yield app


def finish(app, job_id: str, *, state: str = "succeeded", ap: float | None = None, cause: str | None = None) -> None:
    """End a job as if a worker had done it."""
    with app.state.db.write() as session:
        job = session.get(models.Job, job_id)
        now = time.time()
        attempt = models.Attempt(
            id=models.new_id("att"), job_id=job_id, number=1, epoch=1, state=state, actor="a", cpus=1, gpus=0,
            lease_until=now, created_at=now,
        )  # fmt: skip
        session.add(attempt)
        session.flush()
        job.state, job.cause, job.step, job.ended_at = state, cause, job.total_steps, now
        line = models.LogLine(job_id=job_id, attempt_id=attempt.id, seq=1, time=now, level="info", text="[bold]hello")
        session.add(line)
        if ap is not None:
            results = dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm", "APl"), ap)
            evaluation = models.Evaluation(
                id=models.new_id("ev"), job_id=job_id, attempt_id=attempt.id, name="final", step=job.step,
                protocol="p", results={**results, "per_class": {}}, created_at=now,
            )  # fmt: skip
            session.add(evaluation)


def test_light_commands_import_no_training_stack(tmp_path):
    lines = ["--help", "--version", f"validate {BASELINE}", f"submit {BASELINE}", "jobs", "demo --help", "up --help"]
    code = f"""
import sys, service.cli
for line in {lines!r}:
    try:
        service.cli.main(line.split())
    except SystemExit:
        pass
print("loaded:", sorted({{"torch", "ray", "mlflow", "sqlalchemy", "fastapi"}} & set(sys.modules)))
"""
    environment = {"PATH": "", "BCD_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.stderr.count("start it with `bcd up") == 2  # submit and jobs came as far as the service
    assert done.stdout.splitlines()[-1] == "loaded: []", done.stderr


def test_the_help_names_every_command(run):
    code, out, _ = run("--help")
    assert code == 0
    for name in ("up", "demo", "submit", "jobs", "watch", "compare", "logs", "download", "cancel", "train", "schema"):
        assert f" {name} " in out


def test_the_help_shows_defaults_in_brackets_and_whole_paragraphs(run):
    assert "[default: BCD_HOME, else .bcd]" in run("watch", "--help")[1]
    assert "[default: runs/NAME-N]" in run("train", "--help")[1]
    assert "Ctrl-C leaves a checkpoint" in run("train", "--help")[1]


def test_the_version_is_that_of_the_package(run):
    from bcd import __version__

    assert run("--version")[:2] == (0, f"bcd {__version__}\n")


def test_no_color_is_understood_at_any_place(run, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "")
    assert run("validate", BASELINE, "--no-color")[0] == 0
    assert os.environ["NO_COLOR"] == "1"


def test_the_schema_is_json_of_the_spec(run):
    code, out, _ = run("schema")
    assert code == 0
    assert "schedule" in json.loads(out)["properties"]


def test_a_bad_spec_is_told_by_pointer_with_exit_code_2(run):
    code, out, err = run("validate", BASELINE, "--set", "schedule.stepz=3", "--set", "seed=-1")
    assert (code, out) == (2, "")
    assert "/schedule/stepz: unknown key" in err
    assert "/seed:" in err
    assert "Traceback" not in err


def test_a_pair_that_cannot_be_distilled_is_told_where_the_teachers_file_is_readable(run, tmp_path):
    header = {"__metadata__": {"detector": json.dumps({"arguments": {"detector": "fcos"}})}}
    content = json.dumps(header).encode()
    teacher = tmp_path / "teacher.safetensors"
    teacher.write_bytes(len(content).to_bytes(8, "little") + content)

    def validate(path: Path, method: str) -> tuple[int, str, str]:
        changes = [f"teacher={{path: {path}}}", f"methods=[{{type: {method}}}]"]
        return run("validate", BASELINE, *(part for change in changes for part in ("--set", change)))

    assert validate(teacher, "bckd")[0] == 0
    code, out, err = validate(teacher, "ld")
    assert (code, out) == (2, "")
    assert "/methods/0: ld: it needs box distributions" in err
    assert validate(tmp_path / "later.safetensors", "ld")[0] == 0


def test_without_a_service_the_way_to_start_one_is_told(run, tmp_path):
    code, _, err = run("jobs", "--home", str(tmp_path / "nowhere"))
    assert code == 1
    assert f"bcd up --home {tmp_path / 'nowhere'}" in err


def test_a_submitted_job_is_listed(run, installation):
    code, out, _ = run("submit", BASELINE, "--seed", "3", "--set", "schedule.steps=50")
    assert code == 0
    job_id = out.strip()
    code, out, _ = run("jobs")
    assert code == 0
    row = next(line for line in out.splitlines() if job_id in line)
    assert row.split()[:7] == [job_id, "demo-baseline", "queued", "0/50", "-", "none", "3"]


def test_the_same_idempotency_key_gives_the_same_job_and_another_spec_is_refused(run, installation):
    first = run("submit", BASELINE, "--idempotency-key", "k")[1]
    assert run("submit", BASELINE, "--idempotency-key", "k")[1] == first
    code, _, err = run("submit", BASELINE, "--idempotency-key", "k", "--seed", "9")
    assert code == 1
    assert err.startswith("bcd: ")


def test_an_unknown_teacher_is_bad_input(run, installation):
    code, _, err = run("submit", DISTILLED)
    assert code == 2
    assert "/teacher/job" in err


def test_no_jobs_says_what_to_do(run, installation):
    code, out, err = run("jobs")
    assert (code, out) == (0, "")
    assert "bcd submit" in err


def test_a_job_is_cancelled_and_one_that_has_succeeded_is_not(run, installation):
    queued, done = (run("submit", BASELINE, "--seed", seed)[1].strip() for seed in "01")
    finish(installation, done, ap=1.0)
    assert run("cancel", queued)[:2] == (0, f"{queued} cancelled\n")
    code, _, err = run("cancel", done)
    assert code == 1
    assert "succeeded" in err


def test_watching_fails_unless_all_jobs_succeeded(run, installation):
    good, bad = (run("submit", BASELINE, "--seed", seed)[1].strip() for seed in "01")
    finish(installation, good, ap=40.0)
    finish(installation, bad, state="failed", cause="no such folder")
    assert run("watch", good)[0] == 0
    code, out, _ = run("watch", good, bad)
    assert code == 1
    assert "demo-baseline seed 0  succeeded  1200/1200  AP 40.0" in out
    assert "demo-baseline seed 1  failed  1200/1200  no such folder" in out


def test_an_unknown_job_is_bad_input(run, installation):
    for command in ("watch", "cancel", "logs", "download"):
        code, _, err = run(command, "job_nope")
        assert (command, code) == (command, 2)
        assert "job_nope" in err


def test_logs_are_printed_as_they_are(run, installation):
    job_id = run("submit", BASELINE)[1].strip()
    finish(installation, job_id, ap=1.0)
    code, out, _ = run("logs", job_id)
    assert code == 0
    assert [line.split(maxsplit=1)[1] for line in out.splitlines()] == ["info    [bold]hello"]


def test_the_result_is_downloaded_into_the_folder(run, installation, tmp_path):
    job_id = run("submit", BASELINE)[1].strip()
    finish(installation, job_id, ap=1.0)
    assert run("download", job_id)[0] == 1  # nothing there yet
    content = b"weights"
    sha256 = hashlib.sha256(content).hexdigest()
    key = f"objects/{sha256[:2]}/{sha256}"
    file = installation.state.settings.storage / key
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    with installation.state.db.write() as session:
        attempt = session.query(models.Attempt).filter_by(job_id=job_id).one()
        session.add_all(
            models.Artifact(
                id=models.new_id("art"),
                job_id=job_id,
                attempt_id=attempt.id,
                type=type,
                name=name,
                step=1,
                sha256=sha256,
                size=len(content),
                key=key,
                created_at=0.0,
            )
            for type, name in (("result", "student.safetensors"), ("predictions", "predictions.npz"))
        )
    code, out, _ = run("download", job_id, "--to", str(tmp_path / "to"))
    assert (code, out.strip()) == (0, str(tmp_path / "to" / "student.safetensors"))
    assert (tmp_path / "to" / "student.safetensors").read_bytes() == content
    code, out, _ = run("download", job_id, "--all", "--to", str(tmp_path / "all"))
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["predictions.npz", "student.safetensors"]


def test_a_comparison_shows_each_seed_and_the_verdict_of_the_service(run, installation):
    teacher = run("submit", str(ROOT / "recipes" / "demo-teacher.yaml"))[1].strip()
    finish(installation, teacher, ap=52.0)
    ids = [teacher]
    for seed, (without, distilled) in enumerate([(40.0, 43.5), (41.0, 45.2), (42.0, 45.8)]):
        for recipe, ap in ((BASELINE, without), (DISTILLED, distilled)):
            given = ["--set", f"teacher.job={teacher}"] if recipe == DISTILLED else []
            ids.append(run("submit", recipe, "--seed", str(seed), *given)[1].strip())
            finish(installation, ids[-1], ap=ap)
    code, out, _ = run("compare", *ids)
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert ["teacher", "gfl-tiny-16", "1", "52.0", "-", "52.0", "-", "-"] in rows
    assert ["baseline", "gfl-tiny-8", "3", "41.0", "1.0", "40.0", "41.0", "42.0"] in rows
    assert ["difference", "3", "+3.8", "+3.5", "+4.2", "+3.8"] in rows
    assert "is better than" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 100


def test_comparing_what_is_no_pair_says_what_to_give(run, installation):
    job_id = run("submit", BASELINE)[1].strip()
    finish(installation, job_id, ap=40.0)
    code, out, err = run("compare", job_id)
    assert code == 0
    assert "40.0" in out
    assert "with and without `teacher` and `methods`" in err


def test_training_that_cannot_begin_leaves_no_folder(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = str(ROOT / "recipes" / "bccd-smoke.yaml")
    code, _, err = run("train", recipe, "--data-root", str(tmp_path / "nowhere"))
    assert code == 1
    assert "no such folder" in err
    assert list(tmp_path.glob("runs/*")) == []


def test_a_service_on_another_home_tells_how_to_find_it(tmp_path, monkeypatch):
    monkeypatch.delenv("BCD_HOME", raising=False)
    here, there = Settings.load(None), Settings.load(tmp_path / "there")
    assert not any("--home" in line for line in serve.addresses(here))
    assert any(f"--home {there.home}" in line for line in serve.addresses(there))


def test_training_a_recipe_of_a_teacher_job_asks_for_a_file(run):
    code, _, err = run("train", DISTILLED)
    assert code == 2
    assert "--teacher FILE" in err


def test_training_with_a_missing_teacher_file_is_bad_input(run, tmp_path):
    code, _, err = run("train", DISTILLED, "--teacher", str(tmp_path / "none.safetensors"))
    assert code == 2
    assert "no such file" in err
