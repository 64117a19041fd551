"""Answers that make no sense are no answers: the worker tries again instead of losing its delivery thread."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import httpx
import pytest

from workers.channel import HttpChannel, SequenceGap, Unreachable, this_process


def channel(status: int, body: Any) -> HttpChannel:
    made = HttpChannel("http://127.0.0.1:1", "att_1", 1, "secret")
    transport = httpx.MockTransport(lambda request: httpx.Response(status, json=body))
    made._http = httpx.Client(base_url="http://127.0.0.1:1", transport=transport)
    return made


@pytest.mark.parametrize(
    ("status", "body"), [(200, {}), (200, ["hello"]), (404, "nothing"), (409, {"type": "urn:bcd:sequence-gap"})]
)
def test_an_answer_of_somebody_else_counts_as_unreachable(status, body):
    with pytest.raises(Unreachable):
        channel(status, body).deliver([])
    with pytest.raises(Unreachable):
        channel(status, body).ticket()


def test_a_gap_names_the_record_that_is_expected():
    with pytest.raises(SequenceGap) as caught:
        channel(409, {"type": "urn:bcd:sequence-gap", "expected_seq": 7}).deliver([])
    assert caught.value.expected == 7


def test_a_process_names_itself_the_same_way_each_time_and_no_other_one_does():
    code = "from workers.channel import this_process; print(this_process())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert re.fullmatch(r"[A-Za-z0-9._-]+/\d+/\d+\.\d\d", other)
    assert this_process() == this_process() != other
    assert HttpChannel("http://127.0.0.1:1", "att_1", 1, "secret")._http.headers["X-Process"] == this_process()
