"""What each process is called with: the same definition for one machine, containers and a cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from service import processes
from service.processes import PROCESSES
from service.settings import Settings


@pytest.fixture
def alone(tmp_path: Path) -> Settings:
    return Settings.load(tmp_path)


@pytest.fixture
def spread(tmp_path: Path) -> Settings:
    """As in a container: everything else is elsewhere."""
    return Settings.load(
        tmp_path, database_url="postgresql+psycopg://u:p@db/d", mlflow_address="http://mlflow:5000",
        ray_address="192.0.2.1:6379",
    )  # fmt: skip


def _value(command: list[str], option: str) -> str:
    return command[command.index(option) + 1]


def test_on_one_machine_everything_listens_on_loopback(alone: Settings) -> None:
    assert _value(processes.mlflow(alone).command, "--host") == "127.0.0.1"
    head = processes.ray_head(alone, cpus=2)
    assert _value(head.command, "--node-ip-address") == "127.0.0.1"
    assert head.environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert alone.api_host == "127.0.0.1"


def test_in_a_cluster_a_node_announces_the_address_from_which_it_reaches_the_head(
    spread: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_own_address", lambda settings: "192.0.2.7")
    node = processes.ray_node(spread)
    assert _value(node.command, "--node-ip-address") == "192.0.2.7"
    assert _value(node.command, "--address") == "192.0.2.1:6379"
    assert node.environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "1"
    assert "--num-cpus" not in node.command


def test_a_head_without_cpus_trains_nothing(alone: Settings) -> None:
    command = processes.ray_head(alone).command
    assert (_value(command, "--num-cpus"), _value(command, "--num-gpus")) == ("0", "0")


def test_mlflow_answers_for_the_name_by_which_the_others_call_it_and_no_other(spread: Settings) -> None:
    command = processes.mlflow(spread).command
    assert (_value(command, "--host"), _value(command, "--port")) == ("0.0.0.0", "5000")
    assert _value(command, "--allowed-hosts").split(",") == ["mlflow:5000", "127.0.0.1:5000", "localhost:5000"]


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_ray_is_used_with_a_token_by_file_only_and_no_dashboard(
    alone: Settings, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "theirs")
    process = PROCESSES[name](alone)
    assert process.environment["RAY_AUTH_MODE"] == "token"
    assert process.environment["RAY_AUTH_TOKEN_PATH"] == str(alone.run / "ray-token")
    assert not {"RAY_ADDRESS", "RAY_AUTH_TOKEN"} & set(process.environment)
    if name == "ray-head":
        assert "--include-dashboard=false" in process.command


@pytest.mark.parametrize("name", ["mlflow", "ray-head", "ray-node"])
def test_those_that_need_no_secret_get_none(alone: Settings, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCD_DATABASE_PASSWORD_FILE", "/run/secrets/database_password")
    environment = PROCESSES[name](alone).environment
    secret = [key for key in environment if key.startswith("BCD_DATABASE") or key.endswith("_FILE")]
    assert secret == ["BCD_RAY_TOKEN_FILE"]
    assert "BCD_DATABASE_PASSWORD_FILE" in PROCESSES["api"](alone).environment


def test_a_head_that_cannot_be_found_is_named(tmp_path: Path) -> None:
    settings = Settings.load(tmp_path, ray_address="no-such-host.invalid:6379")
    with pytest.raises(SystemExit, match=r"BCD_RAY_ADDRESS=no-such-host\.invalid:6379"):
        processes.ray_node(settings)


def test_a_process_that_does_not_exist_is_refused_with_the_names_of_those_that_do() -> None:
    done = subprocess.run([sys.executable, "-m", "service.processes", "apy"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "dispatcher" in done.stderr
