"""A tree that was killed as a whole, parent and all, is cleaned up by the next start, and its jobs are finished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from service.up import Tree, UpError, ray_folder

from .conftest import PATIENCE, Installation, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

UP = """
import sys, time
from service.settings import Settings
from service.up import Tree
with Tree(Settings.load(sys.argv[1])) as tree:
    tree.wait_ready(150)
    print("ready", flush=True)
    time.sleep(3600)
"""


@pytest.fixture
def killed(tmp_path):
    """An installation with a job that was running when everything was killed."""
    installation = Installation(tmp_path / "home")
    environment = {**os.environ, **installation.settings.environment()}
    parent = subprocess.Popen(
        [sys.executable, "-c", UP, str(installation.settings.home)], env=environment, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    try:
        assert parent.stdout.readline() == b"ready\n"
        with pytest.raises(UpError, match="already running"):
            Tree(installation.settings).start()
        job_id = installation.submit(200)
        installation.wait(job_id, lambda _: installation.artifacts(job_id, "checkpoint"))
    finally:
        children = psutil.Process(parent.pid).children()
        parent.kill()
        parent.wait()
        parent.stdout.close()
    # The direct children die; what they had started themselves is left behind.
    for child in children:
        child.send_signal(signal.SIGKILL)
    return installation, job_id


def test_a_killed_tree_starts_again_and_finishes_its_job(killed):
    installation, job_id = killed
    left = installation.tree.processes()
    with installation.tree as tree:
        assert not any(process.is_running() for process in left)
        tree.wait_ready(PATIENCE)
        job = installation.finished(job_id)
        assert job["state"] == "succeeded"
        assert [attempt["state"] for attempt in job["attempts"]] == ["lost", "succeeded"]
        assert installation.series(job_id, "loss")["steps"] == list(range(1, 201))
    assert tree.processes() == []
    assert not ray_folder(installation.settings).exists()
    assert eventually(lambda: list(installation.settings.run.glob("*.pid")), lambda files: files == []) == []
