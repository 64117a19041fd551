"""The filter language: what it finds, what it refuses and how it says so."""

from __future__ import annotations

import operator
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from service.db import Database
from service.errors import Problem
from service.filters import parse_filter
from service.filters.fields import FIELDS, METRICS
from service.filters.language import MAX_DEPTH, MAX_LENGTH, MAX_TERMS
from service.models import Job
from tests.helpers.jobs import add_job

DAY = 86400.0
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC).timestamp()

# A small set in which every field has several values, and most of them are missing somewhere.
JOBS: list[dict[str, Any]] = [
    {"id": "job_0", "name": "cells run", "state": "failed", "methods": ",bckd,", "seed": 0, "created_at": NOON,
     "cause": "out of memory", "tags": ["night"], "metrics": {"AP": 30.0, "loss": 1.0}},
    {"id": "job_1", "name": "Cells 50%_off", "state": "running", "methods": ",bckd,ld,", "seed": 1, "group": "g",
     "created_at": NOON + DAY, "started_at": NOON + DAY, "tags": ["night", "old"], "metrics": {"AP": 31.5}},
    {"id": "job_2", "name": "a \"quoted\" \\ name", "state": "queued", "methods": ",", "seed": 3, "priority": 2,
     "created_at": NOON - DAY, "wait_reason": "quota of project", "dataset": "digits-scenes-v1"},
    {"id": "job_3", "name": "or", "state": "succeeded", "methods": ",ld,", "seed": 1, "group": "h", "priority": -1,
     "created_at": NOON + 40, "started_at": NOON + 50, "ended_at": NOON + 50 + 3 * 3600, "step": 100,
     "teacher_job_id": "job_2", "detector": "gfl-resnet18", "metrics": {"AP": 29.9, "AP/red cell": 50.0, "loss": 0.5}},
    {"id": "job_4", "name": "cells", "state": "succeeded", "methods": ",softmax_kd,", "seed": 2, "project_id": "cells",
     "created_at": NOON + 2 * DAY, "started_at": NOON + 2 * DAY, "ended_at": NOON + 2 * DAY + 60, "step": 7,
     "created_by": "ann", "parent_id": "job_3", "tags": ["old"], "metrics": {"AP": 30.0, "loss": 2.0}},
]  # fmt: skip


@pytest.fixture(scope="module", params=os.environ.get("BCD_TEST_DATABASES", "sqlite,postgresql").split(","))
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """The jobs in a database that all tests of this file read."""
    if request.param == "sqlite":
        path = shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path_factory.mktemp("jobs"))
        url = f"sqlite:///{path}"
    else:
        url = request.getfixturevalue("postgres").create_database(request.getfixturevalue("migrated_postgres"))
    db = Database(url)
    with db.write() as session:
        for job in JOBS:
            add_job(session, **job)
    with db.read() as session:
        yield session
    db.close()


def found(session: Session, text: str) -> list[str]:
    """The numbers of the jobs that a filter finds."""
    ids = session.scalars(select(Job.id).where(parse_filter(text).condition()).order_by(Job.id))
    return [id[4:] for id in ids]


def refusal(text: str) -> Problem | None:
    """Why a filter is refused; None: it is not."""
    try:
        parse_filter(text)
    except Problem as problem:
        return problem
    return None


def fault(text: str) -> Problem:
    with pytest.raises(Problem) as caught:
        parse_filter(text)
    assert caught.value.status == 422
    assert caught.value.errors is not None
    assert caught.value.errors[0][0] == "?filter"
    return caught.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "01234"),
        ("   ", "01234"),
        ("state:failed", "0"),
        ("state:FAILED", "0"),
        ("STATE:failed", "0"),
        ("state:running,queued", "12"),
        ("state:running, queued", "12"),
        ("state!=succeeded", "012"),
        ("(state:running or state:queued)", "12"),
        ("method:bckd", "01"),
        ("method:ld", "13"),
        ("method:none", "2"),
        ("method:none,ld", "123"),
        ("method:*", "0134"),
        ("cells", "014"),
        ("CELLS run", "0"),
        ('"cells run"', "0"),
        ('name:"cells run"', "0"),
        ("name=cells", "4"),
        ('name="cells run"', "0"),
        ("name:run,quoted", "02"),
        ("%", "1"),
        ("50%_", "1"),
        ("_", "1"),
        ("0%", "1"),
        ('"\\"quoted\\" \\\\"', "2"),
        ('"or"', "3"),
        ("name:or", "3"),
        ("tag:night", "01"),
        ("tag:night -tag:old", "0"),
        ("tag:night,old", "014"),
        ("-tag:*", "23"),
        ("seed:3", "2"),
        ("seed:0,3", "02"),
        ("seed>=1 seed<3", "134"),
        ("priority>=1", "2"),
        ("priority:-1", "3"),
        ("-priority>=0", "3"),
        ("project:cells", "4"),
        ("detector:gfl-tiny-8", "0124"),
        ("dataset:digits-scenes-v1", "2"),
        ("group:g", "1"),
        ("-group:g", "0234"),
        ("group!=g", "0234"),
        ("group:*", "13"),
        ("not group:*", "024"),
        ("teacher:job_2", "3"),
        ("parent:job_3", "4"),
        ("id:job_1,job_2", "12"),
        ("created_by:ann", "4"),
        ('cause:"of mem"', "0"),
        ("cause:OUT", "0"),
        ("wait:quota", "2"),
        ("step>50", "3"),
        ("created:2026-11-01", "03"),
        ("created>2026-11-01", "14"),
        ("created>=2026-11-01", "0134"),
        ("created<2026-11-01", "2"),
        ("created<=2026-11-01", "023"),
        ("created:2026-11-01T12:00", "03"),
        ("created:2026-11-01T12:00:40Z", "3"),
        ("created!=2026-11-01", "124"),
        ("started:*", "134"),
        ("-ended>2026-11-01", "0123"),
        ("duration>2h", "3"),
        ("duration<=60s", "4"),
        ("-duration>0s", "012"),
        ("ap>30", "1"),
        ("AP>=30", "014"),
        ("ap > 30", "1"),
        ("AP:30", "04"),
        ("-AP>=30", "23"),
        ("AP:*", "0134"),
        ("-AP:*", "2"),
        ("best.AP<30", "3"),
        ("last.loss<2", "03"),
        ("loss<=1", "03"),
        ('best."AP/red cell">=50', "3"),
        ("AP/nothing>1", ""),
        ("best.unknown>1", ""),
        ("state:succeeded cells or seed:3", "24"),
        ("state:succeeded (cells or seed:1)", "34"),
        ("state:succeeded and not cells", "3"),
        ("-(cells or seed:3)", "3"),
        ("NOT (cells OR seed:3)", "3"),
        ("--cells", "014"),
        ("not(cells)or(seed:0)", "023"),
    ],
)
def test_a_filter_finds(session: Session, text: str, expected: str) -> None:
    assert "".join(found(session, text)) == expected


def test_an_age_is_compared_with_now(session: Session) -> None:
    assert found(session, "age>1s") == ["0", "1", "2", "3", "4"]
    assert found(session, "age<1s or age>999w") == []


@pytest.mark.parametrize(
    "text",
    [
        "' OR 1=1 --", '"; DROP TABLE jobs; --"', "name:' UNION SELECT sha256 FROM tokens --", "tag:x') OR ('1'='1",
        'name:"\\"; DELETE FROM jobs; --"', "id:job_0' OR 'a'='a", "seed:0;1", "best.x'||(SELECT 1)||'>0",
        'best."k\' OR 1=1 --">0', "name:${jndi:x}", "name:{{7*7}}", 'name:"%\' ESCAPE \'x"', "__import__('os')",
        "name:%s", "name::param", "state:failed/*", "name:\\'",
    ],
)  # fmt: skip
def test_shapes_of_injection_find_nothing_or_are_refused(session: Session, text: str) -> None:
    refused = refusal(text)
    assert refused is not None or found(session, text) == []
    assert len(session.scalars(select(Job.id)).all()) == len(JOBS)


def test_values_are_parameters_and_never_part_of_the_statement() -> None:
    text = 'name:"va\'l1" state:failed tag:val2 seed:7777 AP>8888 created>2026-11-01 best."ke\'y">1 group:val3'
    statement = str(select(Job.id).where(parse_filter(text).condition()))
    for value in ("va'l", "val2", "7777", "8888", "ke'y", "val3", "failed"):
        assert value not in statement


@pytest.mark.parametrize(
    ("text", "position", "said", "suggestions"),
    [
        ("stat:failed", 1, "there is no field 'stat'", ["state", "started"]),
        ("tag:x prioritty>1", 7, "there is no field 'prioritty'", ["priority"]),
        ("state:runing", 7, "'runing' is none of", ["running"]),
        ("method:bkd", 8, "'bkd' is none of", ["bckd"]),
        ("seed:x", 6, "'x' is no number", []),
        ("seed:1.5", 6, "no whole number", []),
        ("seed:99999999999", 6, "no whole number", []),
        ("AP>nan", 4, "'nan' is no number", []),
        ("AP>1e999", 4, "is no number", []),
        ("state>failed", 7, "state takes : = !=, not >", []),
        ("seed>1,2", 6, "> compares with one value; 2 are given", []),
        ("created>yesterday", 9, "is no time", []),
        ("created>2026-02-30", 9, "is no time", []),
        ("age<7", 5, "is no length of time", []),
        ("age:7d", 5, "age takes < <= > >=, not :", []),
        ("(state:failed", 14, "close the parenthesis", []),
        ("state:failed)", 13, "')' is not expected here", []),
        ("state:", 7, "ends too early", []),
        ('name:"open', 6, "does not end", []),
        ("a,b", 2, "',' is not expected here", []),
        (":x", 1, "needs a field before it", []),
        ("a or", 5, "ends too early", []),
        ("or a", 1, "quote the word", []),
        ("a\0b", 2, "NUL", []),
        ("()", 2, "')' is not expected here", []),
    ],
)
def test_a_fault_is_named_with_its_place_and_what_may_have_been_meant(
    text: str, position: int, said: str, suggestions: list[str]
) -> None:
    problem = fault(text)
    assert said in problem.detail
    assert problem.extra["position"] == position
    assert set(suggestions) <= set(problem.extra["suggestions"])
    assert bool(suggestions) == bool(problem.extra["suggestions"])


def test_length_terms_and_depth_are_limited() -> None:
    assert "characters" in fault("a" * (MAX_LENGTH + 1)).detail
    parse_filter("a" * MAX_LENGTH)
    assert f"more than {MAX_TERMS} terms" in fault("a " * (MAX_TERMS + 1)).detail
    assert f"more than {MAX_TERMS} terms" in fault("a or " * MAX_TERMS + "a").detail
    parse_filter("a " * MAX_TERMS)
    for opening, closing in (("(", ")"), ("-", ""), ("not ", ""), ("-(", ")")):
        many = (MAX_DEPTH + 1) // (2 if opening == "-(" else 1)
        assert "deeper than" in fault(opening * (many + 1) + "a" + closing * (many + 1)).detail
    parse_filter("(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH)
    assert "ends too early" in fault("(" * MAX_LENGTH).detail


def test_the_place_of_the_filter_in_the_request_can_be_given() -> None:
    with pytest.raises(Problem) as caught:
        parse_filter("stat:x", pointer="/filter")
    assert caught.value.errors is not None
    assert caught.value.errors[0][0] == "/filter"


@pytest.mark.parametrize("name", [*FIELDS, *METRICS])
def test_the_example_of_every_field_can_be_used(session: Session, name: str) -> None:
    parse_filter(f"{name}:*") if name not in ("age", "duration") else None
    if name in FIELDS:
        found(session, FIELDS[name].example)


@given(st.text(max_size=60) | st.text(alphabet="ab:=<>!(),\"-*. \\%_'", max_size=30))
def test_any_text_is_parsed_or_refused_with_a_place_in_it(text: str) -> None:
    refused = refusal(text)
    if refused is None:
        assert str(select(Job.id).where(parse_filter(text).condition()))
    else:
        assert refused.status == 422
        assert 1 <= refused.extra["position"] <= len(text) + 1


# ------------------------------------------------------- random filters against an evaluation in Python


@dataclass
class Asked:
    """A filter and what it means, said in Python."""

    text: str
    holds: Callable[[dict[str, Any]], bool]


def _word(field: str, column: str, values: list[str], missing: Any = None) -> st.SearchStrategy[Asked]:
    def made(given: tuple[str, list[str]]) -> Asked:
        sign, chosen = given
        return Asked(
            f"{field}{sign}{','.join(chosen)}",
            lambda job: (job.get(column, missing) in chosen) != (sign == "!="),
        )

    return st.tuples(st.sampled_from([":", "=", "!="]), st.lists(st.sampled_from(values), min_size=1, max_size=3)).map(
        made
    )


_SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, ":": operator.eq, "=": operator.eq}


def _number(field: str, get: Callable[[dict[str, Any]], float | None], values: list[float]) -> st.SearchStrategy[Asked]:
    def made(given: tuple[str, float]) -> Asked:
        sign, value = given

        def holds(job: dict[str, Any]) -> bool:
            mine = get(job)
            return mine is not None and bool(_SIGNS[sign](mine, value))

        return Asked(f"{field}{sign}{value}", holds)

    return st.tuples(st.sampled_from(sorted(_SIGNS)), st.sampled_from(values)).map(made)


def _part(text: str) -> Asked:
    return Asked(f'"{text}"', lambda job: text.lower() in job["name"].lower())


_leaf = st.one_of(
    _word("state", "state", ["failed", "running", "queued", "succeeded", "paused"]),
    _word("group", "group", ["g", "h", "i"]),
    _word("dataset", "dataset", ["voc", "digits-scenes-v1"], missing="voc"),
    _word("project", "project_id", ["default", "cells"], missing="default"),
    st.sampled_from(["night", "old", "none"]).map(
        lambda tag: Asked(f"tag:{tag}", lambda job: tag in job.get("tags", []))
    ),
    st.sampled_from(["bckd", "ld", "softmax_kd"]).map(
        lambda name: Asked(f"method:{name}", lambda job: name in job["methods"].split(","))
    ),
    _number("seed", lambda job: job["seed"], [0, 1, 2, 3]),
    _number("priority", lambda job: job.get("priority", 0), [-1, 0, 2]),
    _number("AP", lambda job: job.get("metrics", {}).get("AP"), [29.9, 30, 31.5, 40]),
    _number("last.loss", lambda job: job.get("metrics", {}).get("loss"), [0.5, 1, 2]),
    st.sampled_from(["cells", "run", "%", "_", "50%", "name", "xyz"]).map(_part),
)


def _joined(parts: list[Asked], word: str) -> Asked:
    way = any if word == " or " else all
    return Asked(f"({word.join(part.text for part in parts)})", lambda job: way(part.holds(job) for part in parts))


def _negated(one: Asked, sign: str) -> Asked:
    return Asked(f"{sign}{one.text}", lambda job: not one.holds(job))


_asked = st.recursive(
    _leaf,
    lambda inner: st.one_of(
        st.builds(_joined, st.lists(inner, min_size=1, max_size=3), st.sampled_from([" ", " and ", " or "])),
        st.builds(_negated, inner, st.sampled_from(["-", "not "])),
    ),
    max_leaves=6,
)


@hypothesis_settings(deadline=None, max_examples=200)
@given(asked=_asked)
def test_random_filters_find_what_the_same_filter_in_python_finds(session: Session, asked: Asked) -> None:
    refused = refusal(asked.text)
    assume(refused is None or "deeper than" not in refused.detail)
    assert found(session, asked.text) == [job["id"][4:] for job in JOBS if asked.holds(job)]
