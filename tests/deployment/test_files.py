"""The files of the deployment hold what docs/deployment.md promises: little privilege, nothing published, no secret."""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from service.healthy import CHECKS
from service.processes import PROCESSES
from service.variables import FILES, VARIABLES
from tests.helpers.compose import ROOT, command, compose, instruction

DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
SERVICES: dict[str, Any] = compose()["services"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
PINNED = re.compile(r"^([a-z0-9._-]+)==(\S+)", re.MULTILINE)


def _pins(lock: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, version in PINNED.findall((ROOT / lock).read_text(encoding="utf-8")):
        found.setdefault(name, set()).add(version)
    return found


# ------------------------------------------------------------------------------------------------------ images


def test_hadolint_finds_nothing_in_the_dockerfiles() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, *DOCKERFILES], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_runs_as_a_user_without_rights_and_installs_by_hash_only(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]
    installs = [line for line in text.replace("\\\n", " ").splitlines() if "pip install" in line]
    assert installs
    assert all("--require-hashes" in line and "--no-deps" in line for line in installs)
    assert instruction(f"docker/{path.name}", "CMD")[0] in PROCESSES
    assert instruction(f"docker/{path.name}", "HEALTHCHECK")[:3] == ["python", "-m", "service.healthy"]


def test_nothing_reaches_a_build_but_what_the_images_copy() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    copied = [
        source
        for path in DOCKERFILES
        for source in re.findall(r"^COPY (?!--from)(\S+) ", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert all(any(fnmatch.fnmatch(source, rule) for rule in allowed) for source in copied)
    assert all(any(fnmatch.fnmatch(source, rule) for source in copied) for rule in allowed)


@pytest.mark.parametrize("lock", ["docker/api.lock", "docker/worker.lock"])
def test_an_image_holds_versions_that_were_tested(lock: str) -> None:
    tested, shipped = _pins("requirements.lock"), _pins(lock)
    assert shipped
    assert {name: versions for name, versions in shipped.items() if not versions <= tested.get(name, set())} == {}
    blocks = re.split(r"^(?=[a-z0-9])", (ROOT / lock).read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in block for block in blocks)
    assert "http://" not in "".join(blocks)
    assert "https://" not in "".join(blocks)


def test_the_api_image_holds_what_the_service_needs_without_ray_and_mlflow() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[\[<>=!~; ]", line)[0].lower() for line in requirements}

    extras = project["project"]["optional-dependencies"]
    service = names(extras["service"]) | names(extras["s3"]) | names(extras["otel"])
    library = names(project["project"]["dependencies"])
    assert names(project["dependency-groups"]["api"]) - library == service - {"ray", "mlflow"}
    assert not {"torch", "ray", "mlflow"} & set(_pins("docker/api.lock"))


def test_the_api_starts_with_the_packages_of_its_image_alone(tmp_path: Path) -> None:
    """Everything else that is installed here cannot be imported by this process."""
    allowed = {name.replace("-", "_") for name in _pins("docker/api.lock")}
    refused = sorted(
        module
        for module, owners in packages_distributions().items()
        if not {re.sub(r"[-.]+", "_", owner.lower()) for owner in owners} & allowed and module not in ("bcd", "service")
    )
    program = """
import json, sys
refused = set(json.load(open(sys.argv[1])))

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ModuleNotFoundError(f"{name} is not in the image", name=name)

sys.meta_path.insert(0, Refuse())
from starlette.testclient import TestClient
from service.app import create_app, prepare
from service.auth import owner_token
from service.settings import Settings
settings = Settings.load(sys.argv[2])
prepare(settings)
with TestClient(create_app(settings)) as client:
    client.headers["Authorization"] = f"Bearer {owner_token(settings)}"
    assert client.get("/api/v1/jobs").status_code == 200
    assert client.get("/openapi.json").status_code == 200
    spec = {"data": {"type": "digits-scenes-v1"}, "student": {"backbone": "tiny"}, "schedule": {"steps": 1}}
    assert client.post("/api/v1/jobs", json={"name": "one", **spec}).status_code == 201
"""
    (tmp_path / "refused.json").write_text(json.dumps(refused))
    assert {"torch", "ray", "mlflow", "pytest"} <= set(refused)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "refused.json"), str(tmp_path / "home")],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


# ----------------------------------------------------------------------------------------------------- compose


def test_only_the_api_is_published_and_only_on_loopback() -> None:
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "api": ["127.0.0.1:8765:8765"]
    }
    assert not any("network_mode" in service for service in SERVICES.values())
    assert compose()["networks"]["inside"] == {"internal": True}
    for closed in ("postgres", "mlflow", "ray-head"):
        assert SERVICES[closed]["networks"] == ["inside"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_container_has_no_rights_that_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].partition(":")[0]) > 0
    assert not {"privileged", "cap_add", "devices", "pid", "ipc"} & set(service)
    assert not any("docker.sock" in str(volume) for volume in service.get("volumes", []))
    assert re.fullmatch(r"[a-z-]+:[\w.-]+", service["image"])
    assert not service["image"].endswith(":latest")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_container_is_restarted_watched_and_cannot_fill_the_disk_with_its_log(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    assert "max-size" in service["logging"]["options"]


@pytest.mark.parametrize("name", OURS)
def test_a_container_of_ours_starts_a_process_that_exists_and_asks_after_it(name: str) -> None:
    service = SERVICES[name]
    *start, process = command(service)
    assert start == ["python", "-m", "service.processes"]
    assert process in PROCESSES
    assert service["healthcheck"]["test"] == ["CMD", "python", "-m", "service.healthy", process]
    assert process in CHECKS


@pytest.mark.parametrize("name", OURS)
def test_a_container_is_given_variables_that_are_read_and_the_secrets_that_these_name(name: str) -> None:
    service = SERVICES[name]
    environment = service["environment"]
    assert set(environment) <= {*VARIABLES, *FILES}
    named = {value.removeprefix("/run/secrets/") for key, value in environment.items() if key.endswith("_FILE")}
    assert named == set(service.get("secrets", []))


def test_secrets_are_files_and_no_value_of_one_is_written_anywhere() -> None:
    whole = compose(BCD_SECRETS="/elsewhere")
    assert all(list(secret) == ["file"] for secret in whole["secrets"].values())
    assert all(secret["file"].startswith("/elsewhere/") for secret in whole["secrets"].values())
    for service in whole["services"].values():
        for key, value in service["environment"].items():
            if re.search(r"PASSWORD|TOKEN|KEY|SECRET", key):
                assert key.endswith("_FILE")
                assert value.startswith("/run/secrets/")
            assert not re.search(r"://[^/]*:[^/]*@", str(value)), f"{key} holds a password"


def test_nobody_is_given_a_secret_that_is_not_theirs() -> None:
    holders = {
        secret: {name for name, service in SERVICES.items() if secret in service.get("secrets", [])}
        for secret in compose()["secrets"]
    }
    assert holders == {
        "database-password": {"postgres", "api", "dispatcher"},
        "admin-token": {"api"},
        "attempt-key": {"api", "dispatcher"},
        "ray-token": {"dispatcher", "ray-head", "ray-worker-cpu", "ray-worker-gpu"},
    }


def test_what_is_waited_for_has_a_health_check_and_nobody_waits_in_a_circle() -> None:
    waits = {name: set(service.get("depends_on", {})) for name, service in SERVICES.items()}
    for service in SERVICES.values():
        assert all(how == {"condition": "service_healthy"} for how in service.get("depends_on", {}).values())
    started: set[str] = set()
    while len(started) < len(waits):
        ready = {name for name, needs in waits.items() if name not in started and needs <= started}
        assert ready, f"{sorted(set(waits) - started)} wait for each other"
        started |= ready


def test_what_a_container_writes_is_kept_or_in_memory() -> None:
    named = set(compose()["volumes"])
    for name in OURS:
        service = SERVICES[name]
        memory = {entry.partition(":")[0] for entry in service["tmpfs"]}
        assert memory == {"/tmp", "/var/lib/bcd"}
        for volume in service.get("volumes", []):
            source, target, *mode = volume.split(":")
            assert (source in named and target.startswith("/var/lib/bcd/")) or mode == ["ro"]


if shutil.which("docker") and not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:

    def test_docker_itself_accepts_the_compose_file() -> None:
        for profile in ("cpu", "gpu"):
            done = subprocess.run(
                ["docker", "compose", "--profile", profile, "config", "--quiet"],
                cwd=ROOT,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr


# ----------------------------------------------------------------------------------------------------- secrets


def test_the_script_makes_each_secret_once_and_prints_none(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"

    def run() -> str:
        return subprocess.run(
            [ROOT / "docker" / "secrets.sh", folder], capture_output=True, text=True, check=True
        ).stdout

    told = run()
    made = {path.name: path.read_text() for path in folder.iterdir()}
    assert set(made) == set(compose()["secrets"])
    assert len(set(made.values())) == len(made)
    assert all(re.fullmatch(r"[0-9a-f]{64}\n", text) for text in made.values())
    assert not any(text.strip() in told for text in made.values())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o444}
    assert run() == ""
    assert {path.name: path.read_text() for path in folder.iterdir()} == made


# -------------------------------------------------------------------------------------------------- variables


# Set by our processes for each other, and by tests that crash them.
INTERNAL = {"BCD_TREE", "BCD_CHANNEL", "BCD_CRASH_AT", "BCD_CRASH_ONCE"}


def test_the_documentation_has_a_line_for_each_variable_that_is_read_and_for_no_other() -> None:
    text = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    table = text[text.index("## Variables") :].split("\n## ")[0]
    documented = re.findall(r"^\| `(BCD_\w+)` \|", table, re.MULTILINE)
    read = {
        name
        for room in ("bcd", "service", "workers")
        for path in (ROOT / room).rglob("*.py")
        for name in re.findall(r"[\"'](BCD_[A-Z_]*[A-Z])[\"']", path.read_text(encoding="utf-8"))
    }
    assert {*VARIABLES, *FILES} <= read
    assert sorted(documented) == sorted(read - INTERNAL)
