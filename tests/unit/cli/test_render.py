"""Tables and lines say what the API said."""

from __future__ import annotations

import pytest

from service.cli import render
from tests.unit.cli.helpers import job_json, text_of, words


@pytest.mark.parametrize(
    ("value", "text"), [(3.14, "+3.1"), (-0.66, "-0.7"), (0.04, "0.0"), (-0.04, "0.0"), (None, "-"), (12.0, "+12.0")]
)
def test_a_difference_carries_its_sign(value, text):
    assert render.signed(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7620, "2 h 07 min"), (400000, "4 d")],
)
def test_a_duration_reads_like_speech(seconds, text):
    assert render.duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(812, "812 B"), (213_000, "213 kB"), (1_234_000_000, "1.2 GB")])
def test_a_size_has_a_fitting_unit(count, text):
    assert render.size(count) == text


def test_the_jobs_table_shows_each_job_in_one_row():
    jobs = [
        job_json("job_b", name="bckd", state="succeeded", step=100, evaluation={"AP": 44.66}, methods=["bckd"], seed=2),
        job_json("job_a", name="teacher"),
    ]
    assert words(text_of(render.jobs_table(jobs, now=1185.0))) == [
        ["id", "name", "state", "progress", "AP", "methods", "seed", "age"],
        ["job_b", "bckd", "succeeded", "100/100", "44.7", "bckd", "2", "3", "min"],
        ["job_a", "teacher", "running", "40/100", "-", "none", "0", "3", "min"],
    ]


def test_a_failed_job_tells_its_cause_in_the_table():
    text = text_of(render.jobs_table([job_json(state="failed", cause="the loss is not finite")], now=1001.0))
    assert "the loss is not finite" in text


def test_a_long_cause_keeps_the_table_within_100_columns():
    job = job_json("job_0123456789abcd", state="failed", cause="no such folder: " + "x" * 300)
    lines = text_of(render.jobs_table([job], now=1001.0)).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 100
    assert any("job_0123456789abcd" in line for line in lines)


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (100, ["id", "name", "state", "progress", "AP", "methods", "seed", "age"]),
        (80, ["id", "name", "state", "progress", "AP", "seed"]),
        (60, ["id", "name", "state", "AP"]),
    ],
)
def test_a_narrow_terminal_loses_columns_and_not_letters(width, shown):
    job = job_json("job_0123456789abcd", name="demo-baseline", state="succeeded", step=1200, total_steps=1200)
    head, row, *_ = words(text_of(render.jobs_table([job], now=1185.0, width=width), width=width))
    assert head == shown
    assert row[:3] == ["job_0123456789abcd", "demo-baseline", "succeeded"]


def test_the_cause_stands_below_the_table_and_does_not_widen_its_rows():
    job = job_json("job_0123456789abcd", state="failed", cause="the job needs 1 GPU and there is none")
    text = text_of(render.jobs_table([job], now=1001.0))
    assert "job_0123456789abcd failed: the job needs 1 GPU and there is none\n" in text


def test_markup_in_a_name_is_shown_and_not_obeyed():
    assert "[red]x[/nothing]" in text_of(render.jobs_table([job_json(name="[red]x[/nothing]")], now=1001.0))


def test_live_progress_shows_steps_losses_and_ap():
    values = {"loss": 1.234, "loss/qfl": 0.5, "loss/bckd_cls": 0.25, "AP": 12.34, "lr": 0.1}
    text = text_of(render.board([(job_json(), values)], now=1070.0, detail=True))
    assert "40/100" in text
    assert "AP 12.3" in text
    assert "1 min 00 s" in text
    assert "run: loss 1.23 (bckd_cls 0.25, qfl 0.50)" in text


@pytest.mark.parametrize("detail", [True, False])
def test_on_a_narrow_terminal_the_bar_gives_way_to_the_figures(detail):
    job = job_json(name="demo-baseline seed 0", step=1200, total_steps=1200, evaluation={"AP": 33.3})
    text = text_of(render.board([(job, {"loss": 1.2})], now=1170.0, detail=detail, width=60), width=60)
    assert "1200/1200 2 min 40 s AP 33.3" in text


def test_live_progress_tells_of_a_second_attempt():
    attempts = [
        {"number": 1, "state": "lost", "cause": "the worker is gone"},
        {"number": 2, "state": "running", "cause": None},
    ]
    text = text_of(render.board([(job_json(attempts=attempts), {})], now=1070.0, detail=True))
    assert "attempt 1 lost: the worker is gone" in text
    assert "attempt 2 running" in text


def test_a_plain_line_tells_the_same():
    assert render.progress_line(job_json(), {"loss": 2.0}) == "run  running  40/100  loss 2.00"
    failed = job_json(state="failed", cause="no data")
    assert render.progress_line(failed, {"loss": 2.0}) == "run  failed  40/100  no data"


def test_the_final_ap_replaces_the_last_one_seen():
    done = job_json(state="succeeded", evaluation={"AP": 40.0})
    assert render.progress_line(done, {"AP": 30.0}).endswith("AP 40.0")
