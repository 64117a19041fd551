"""Crash points kill as told and are not there otherwise."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from bcd import crash

PASS = "from bcd import crash; crash.point('claim.written'); crash.point('submit.committed'); print('alive')"


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("BCD_CRASH")}
    return subprocess.run(
        [sys.executable, "-c", PASS], env={**clean, **environment}, capture_output=True, text=True, check=False
    )


def test_a_process_dies_at_the_point_that_its_environment_names_as_if_killed():
    ended = run(BCD_CRASH_AT="submit.committed")
    assert ended.returncode == -signal.SIGKILL
    assert (ended.stdout, ended.stderr) == ("", "BCD_CRASH_AT: dying at submit.committed\n")


@pytest.mark.parametrize("plan", [{}, {"BCD_CRASH_AT": "ticket.fetched"}, {"BCD_CRASH_AT": "submit.committed:0"}])
def test_it_passes_all_others(plan):
    assert run(**plan).stdout == "alive\n"


def test_with_a_folder_each_point_kills_once_over_all_processes(tmp_path):
    plan = {"BCD_CRASH_AT": "submit.committed,claim.written", "BCD_CRASH_ONCE": str(tmp_path)}
    assert [run(**plan).returncode for _ in range(3)] == [-signal.SIGKILL, -signal.SIGKILL, 0]


@pytest.mark.parametrize("text", ["no.such.point", "submit.committed:2", "submit.committed:often"])
def test_a_plan_that_cannot_be_is_refused_with_the_points_there_are(text):
    with pytest.raises(SystemExit, match=r"is no point with a probability; points: submit\.inserted"):
        crash.read_plan({"BCD_CRASH_AT": text})


def test_nothing_can_arm_a_process_that_was_started_without(monkeypatch):
    monkeypatch.setenv("BCD_CRASH_AT", "submit.committed")
    crash.point("submit.committed")
    assert len(set(crash.POINTS)) == len(crash.POINTS) >= 12
