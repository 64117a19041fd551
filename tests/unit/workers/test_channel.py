"""Answers that make no sense are no answers: the worker tries again instead of losing its delivery thread."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from workers.channel import HttpChannel, SequenceGap, Unreachable


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
