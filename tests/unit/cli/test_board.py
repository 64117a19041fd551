"""The board: what events do to what is shown."""

from __future__ import annotations

import io

from rich.console import Console

from service.cli.board import Board, shown
from service.client import Event
from tests.unit.cli.helpers import job_json, text_of


def test_metrics_move_the_bar_ahead_of_the_job_row():
    board = Board(["job_a"])
    board.on_event(Event("job", "job_a", job_json(step=40)))
    board.on_event(Event("job.metrics", "job_a", {"step": 60, "values": {"loss": 1.5}}))
    board.on_event(Event("job", "job_a", job_json(step=50)))
    assert "60/100" in text_of(board)
    assert "1.50" in text_of(board)


def test_the_length_of_a_run_comes_with_its_metrics_where_only_its_data_tells():
    board = Board(["job_a"])
    board.on_event(Event("job", "job_a", job_json(step=0, total_steps=0)))
    assert "0/?" in text_of(board)
    board.on_event(Event("job.metrics", "job_a", {"step": 0, "values": {"total_steps": 750.0}}))
    board.on_event(Event("job", "job_a", job_json(step=10, total_steps=0)))  # a row from before the metrics
    assert "10/750" in text_of(board)


def test_a_new_attempt_may_go_back_to_its_checkpoint():
    board = Board(["job_a"])
    board.on_event(Event("job", "job_a", job_json(step=60, attempts=[{"number": 1, "state": "running"}])))
    again = [{"number": 1, "state": "lost"}, {"number": 2, "state": "running"}]
    board.on_event(Event("job", "job_a", job_json(step=50, attempts=again)))
    assert "50/100" in text_of(board)


def test_an_event_without_values_makes_the_board_ask():
    asked = []

    def fetch(job_id, after_step):
        asked.append((job_id, after_step))
        return {"loss": {"steps": [20, 80], "values": [2.0, 1.25], "times": [0, 0]}}

    board = Board(["job_a"], fetch=fetch, clock=lambda: 1100.0)
    board.on_event(Event("job", "job_a", job_json(state="queued", step=0)))
    board.on_event(Event("job.metrics", "job_a", {}))
    board.on_event(Event("job.metrics", "job_a", {}))  # the same second: no second question
    assert asked == [("job_a", None)]
    assert "80/100" in text_of(board)
    assert "1.25" in text_of(board)


def test_events_of_other_jobs_are_ignored():
    board = Board(["job_a"])
    assert board.on_event(Event("job", "job_z", job_json("job_z"))) is None
    assert board.rows() == []


def test_without_a_terminal_each_change_of_state_is_a_line_and_metrics_are_rationed():
    moment = [0.0]
    console = Console(file=io.StringIO(), width=100)
    board = Board(["job_a"])
    with shown(board, console, clock=lambda: moment[0]) as take:
        take(Event("job", "job_a", job_json(state="queued", step=0)))
        take(Event("job", "job_a", job_json(state="running", step=0)))
        for step in (1, 2, 3):
            take(Event("job.metrics", "job_a", {"step": step, "values": {"loss": 1.0}}))
        moment[0] = 60.0
        take(Event("job.metrics", "job_a", {"step": 50, "values": {"loss": 1.0}}))
        take(Event("job", "job_a", job_json(state="succeeded", step=100)))
    lines = [line.split("  ", 1)[0].split()[-1] + " " + line.split("  ")[1] + " " + line.split("  ")[2]
             for line in console.file.getvalue().splitlines()]  # fmt: skip
    assert lines == ["run queued 0/100", "run running 0/100", "run running 50/100", "run succeeded 100/100"]


def test_runs_of_one_name_are_told_apart_by_their_seeds():
    board = Board(["job_a", "job_b", "job_c"])
    for job_id, name, seed in (("job_a", "bckd", 0), ("job_b", "bckd", 1), ("job_c", "teacher", 0)):
        board.on_event(Event("job", job_id, job_json(job_id, name=name, seed=seed)))
    assert [job["name"] for job, _ in board.rows()] == ["bckd seed 0", "bckd seed 1", "teacher"]
