"""`bcd up` finds and ends exactly its own processes, and says what to change when it cannot start."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from service.processes import ray_folder
from service.settings import Settings
from service.up import Tree, UpError, end_leftovers, find_processes

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


@pytest.fixture
def settings(tmp_path: Path):
    ports = iter(free_ports(3))
    given = Settings.load(tmp_path / "home", api_port=next(ports), mlflow_port=next(ports), ray_port=next(ports))
    given.run.mkdir(parents=True)
    return given


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture
def spawn():
    started: list[subprocess.Popen[bytes]] = []

    def start(**environment: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            SLEEP, env={**os.environ, **environment}, stdout=subprocess.PIPE, start_new_session=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_leftovers_of_this_home_are_ended_and_nothing_else(settings, spawn):
    ours = spawn(BCD_HOME=str(settings.home), BCD_TREE="t")
    others = [spawn(), spawn(BCD_HOME=str(settings.home) + "2", BCD_TREE="t"), spawn(BCD_HOME=str(settings.home))]
    assert [process.pid for process in find_processes(settings)] == [ours.pid]
    assert end_leftovers(settings) == 1
    assert not psutil.pid_exists(ours.pid)
    assert [process.poll() for process in others] == [None, None, None]


def test_a_helper_that_wiped_its_environment_is_found_by_its_session(settings, spawn):
    child = spawn()
    record = {"pid": child.pid, "born": psutil.Process(child.pid).create_time(), "tree": "t"}
    (settings.run / "ray.pid").write_text(json.dumps(record))
    assert [process.pid for process in find_processes(settings)] == [child.pid]


def test_a_pid_that_was_given_to_somebody_else_is_left_alone(settings, spawn):
    stranger = spawn()
    record = {"pid": stranger.pid, "born": psutil.Process(stranger.pid).create_time() - 100.0, "tree": "t"}
    (settings.run / "ray.pid").write_text(json.dumps(record))
    assert find_processes(settings) == []
    assert end_leftovers(settings) == 0
    assert stranger.poll() is None


@pytest.mark.parametrize("name", ["api", "mlflow", "ray"])
def test_a_taken_port_is_named_together_with_the_variable_that_changes_it(settings, name):
    port = getattr(settings, f"{name}_port")
    with socket.create_server(("127.0.0.1", port)), pytest.raises(UpError) as caught:
        Tree(settings).start()
    assert f"port {port} ({name}) is not free" in str(caught.value)
    assert f"BCD_{name.upper()}_PORT" in str(caught.value)
    assert find_processes(settings) == []


def test_a_second_tree_on_the_same_home_is_refused(settings):
    first, second = Tree(settings), Tree(settings)
    first._lock()
    with pytest.raises(UpError, match="already running"):
        second.start()
    first.stop()
    second._lock()
    second.stop()


def test_a_home_that_cannot_be_made_is_told_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UpError, match=r"cannot make the folder .*file.*choose another --home"):
        Tree(Settings.load(tmp_path / "file" / "home")).start()


def test_storage_that_cannot_be_used_is_told_before_anything_is_started(settings, s3_uri):
    settings = replace(settings, storage_uri="s3://no-such-bucket")
    with pytest.raises(UpError, match=r"the bucket no-such-bucket .* does not exist .*BCD_STORAGE"):
        Tree(settings).start()
    (settings.home / "file").touch()
    settings = replace(settings, storage_uri=str(settings.home / "file"))
    with pytest.raises(UpError, match=r"file cannot be written.*BCD_STORAGE"):
        Tree(settings).start()
    assert find_processes(settings) == []


def test_the_watch_survives_a_child_that_cannot_be_started(settings, monkeypatch):
    told: list[str] = []
    tree = Tree(settings, status=told.append)
    tries = iter([OSError(28, "No space left on device")])

    def look_after(child):
        error = next(tries, None)
        if error is not None:
            raise error
        tree._stopping.set()

    monkeypatch.setattr(tree, "_look_after", look_after)
    tree._watch()
    assert [text for text in told if "No space left" in text]
    assert tree._stopping.is_set()


def test_the_socket_folder_is_short_and_belongs_to_one_home(settings):
    folder = ray_folder(settings)
    longest = folder / "session_2026-01-01_00-00-00_000000_4194304" / "sockets" / "plasma_store.1234"
    assert len(str(longest)) < 107
    assert folder != ray_folder(Settings.load(settings.home / "other"))


def test_a_tree_has_a_ray_of_its_own_whatever_cluster_the_environment_names(settings, monkeypatch):
    monkeypatch.setenv("BCD_RAY_ADDRESS", "10.0.0.1:6379")
    tree = Tree(Settings.load(settings.home))
    assert tree.settings.ray_head[0] == "127.0.0.1"
    for process in tree._processes().values():
        assert process.environment["BCD_RAY_ADDRESS"] == ""


def test_an_mlflow_server_elsewhere_is_used_and_none_is_started(settings):
    assert "mlflow" in Tree(settings)._processes()
    elsewhere = Tree(replace(settings, mlflow_address="http://mlflow.example.org"))
    assert "mlflow" not in elsewhere._processes()
    assert elsewhere.settings.mlflow_url == "http://mlflow.example.org"
