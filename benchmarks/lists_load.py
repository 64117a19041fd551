"""Lists, tables and curves over many jobs in PostgreSQL: `python -m benchmarks.lists_load [--jobs 5000]`.

Starts a PostgreSQL server in a temporary folder, fills it (`benchmarks/many_jobs.py`) and asks through the real API:
one process on loopback, one request after another, each for other runs, pages or words. Ends both servers and removes
the folder. The full size is 75,000 jobs x 20 metrics x 100 points: 150 million points, some 20 GB on the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
from sqlalchemy import make_url

from benchmarks.many_jobs import METRICS, SEEDS, Size, load
from benchmarks.timing import cpu_name
from service import migrations
from tests.helpers.postgres import PostgresServer

OPTIONS = {"shared_buffers": "1GB", "effective_cache_size": "4GB", "max_wal_size": "4GB", "autovacuum": "on"}
RUNS, PAGE = 50, 50
DEEP = 20  # pages
Ask = Callable[[httpx.Client], httpx.Response]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=75_000)
    parser.add_argument("--metrics", type=int, default=20, choices=range(10, len(METRICS) + 1), metavar="10..20")
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=100, help="Requests of each kind.")
    parser.add_argument("--folder", type=Path, help="Where the database is made, on a disk with room for it.")
    parser.add_argument("--out", type=Path, help="Write the figures here as JSON, too.")
    given = parser.parse_args()
    size = Size(given.jobs, given.metrics, given.points)
    with tempfile.TemporaryDirectory(prefix="bcd-lists-", dir=given.folder) as name:
        folder = Path(name)
        folder.chmod(0o755)  # the server runs as another user when we are root
        with PostgresServer(folder, **OPTIONS) as server:
            url = server.create_database()
            migrations.upgrade(url)
            with _connected(url) as connection:
                jobs = load(connection, size, _say)
                (disk,) = connection.execute("SELECT pg_database_size(current_database())").fetchall()[0]
            with _api(folder / "home", url) as client:
                rows = [measure(client, what, ask, given.repeats) for what, ask in questions(jobs, size).items()]
    answer = {
        "jobs": size.jobs, "metrics": size.metrics, "points": size.rows, "gigabytes": round(disk / 1e9, 1),
        "date": str(datetime.now(UTC).date()), "machine": f"{os.cpu_count()} cores of {cpu_name()}", "rows": rows,
    }  # fmt: skip
    print(table(answer))
    if given.out is not None:
        given.out.write_text(json.dumps(answer, indent=1))


# ----------------------------------------------------------------------------------------------- questions


def questions(jobs: list[str], size: Size) -> dict[str, Callable[[random.Random], Ask]]:
    """What is asked, by what the table says of it; each is made anew for every request."""

    def page(**params: Any) -> Callable[[random.Random], Ask]:
        def made(draw: random.Random) -> Ask:
            chosen = {key: draw.choice(value) if isinstance(value, tuple) else value for key, value in params.items()}
            return lambda client: client.get("/api/v1/jobs", params={"limit": PAGE, "metrics": "AP,loss", **chosen})

        return made

    def deep(**params: Any) -> Callable[[random.Random], Ask]:
        def made(draw: random.Random) -> Ask:
            wanted = {"limit": PAGE, "metrics": "AP,loss", **params, "filter": f"seed:0,1,2,3,4,{draw.randrange(99)}"}

            def ask(client: httpx.Client) -> httpx.Response:
                return client.get("/api/v1/jobs", params={**wanted, "cursor": _cursor(client, wanted)})

            return ask

        return made

    def series(path: str, metrics: int, **more: Any) -> Callable[[random.Random], Ask]:
        def made(draw: random.Random) -> Ask:
            keys = draw.sample(METRICS[: size.metrics], metrics)
            body = {"runs": _runs(draw, jobs), "metrics": keys, **more}
            return lambda client: client.post(f"/api/v1/series:{path}", json=body)

        return made

    def count(*filters: str) -> Callable[[random.Random], Ask]:
        return lambda draw: lambda client: client.get("/api/v1/jobs:count", params={"filter": draw.choice(filters)})

    groups = tuple(f"resnet18 voc {number}" for number in range(0, size.jobs // SEEDS, 97))
    common = tuple(f"state:failed method:{name} AP>{n} -tag:old" for name in ("bckd", "none") for n in range(30, 40))
    rare = tuple(f"detector:fcos-tiny-8 seed:{s} tag:topic-{n} AP>35" for s in range(5) for n in range(9, 30))
    return {
        "page of 50, newest": page(),
        "page of 50, newest, page 20": deep(),
        "page of 50, filtered (state, method, AP, tag)": page(filter=common),
        "page of 50, filtered, few found": page(filter=rare),
        "page of 50, part of the name": page(filter=groups),
        "page of 50, by best AP": page(sort="-best.AP"),
        "page of 50, by best AP, page 20": deep(sort="-best.AP"),
        "page of 50, by best AP, filtered": page(sort="-best.AP", filter=common),
        "page of 50, by last loss, then name": page(sort="last.loss,name"),
        "page of 50, by duration": page(sort="-duration"),
        "the same page again, 304": _again,
        "count by state, all": count(""),
        "count by state, filtered": count(*common),
        f"table of {RUNS} runs x 10 metrics": series("table", 10),
        f"curves of {RUNS} runs, 1 metric, 400 buckets": series("query", 1, buckets=400),
        f"curves of {RUNS} runs, 1 metric, 40 buckets": series("query", 1, buckets=40),
        f"curves of {RUNS} runs, mean and deviation over seeds": series("query", 1, group="spec"),
    }


def _again(_: random.Random) -> Ask:
    """What a page that polls asks; only its second request counts."""

    def ask(client: httpx.Client) -> httpx.Response:
        tag = client.get("/api/v1/jobs").headers["ETag"]
        return client.get("/api/v1/jobs", headers={"If-None-Match": tag})

    return ask


def _cursor(client: httpx.Client, wanted: dict[str, Any]) -> str:
    """Where the deep page begins; its way there is not measured."""
    cursor = ""
    for _ in range(DEEP - 1):
        more = {"cursor": cursor} if cursor else {}
        cursor = client.get("/api/v1/jobs", params={**wanted, **more}).json()["next_cursor"]
    return cursor


def _runs(draw: random.Random, jobs: list[str]) -> list[str]:
    """Whole groups of seeds from all over the time."""
    firsts = draw.sample(range(0, len(jobs) // SEEDS), RUNS // SEEDS)
    return [jobs[first * SEEDS + seed] for first in firsts for seed in range(SEEDS)]


# --------------------------------------------------------------------------------------------- measurement


def measure(client: httpx.Client, what: str, made: Callable[[random.Random], Ask], repeats: int) -> dict[str, Any]:
    """Milliseconds from sending to the end of the answer, over `repeats` requests after three to warm up."""
    draw = random.Random(what)
    times, size = [], 0
    for number in range(repeats + 3):
        answer = made(draw)(client)
        if answer.status_code not in (200, 304):
            raise SystemExit(f"{what}: {answer.status_code} {answer.text}")
        if number >= 3:
            times.append(answer.elapsed.total_seconds())
            size += len(answer.content)
    times.sort()
    row = {
        "what": what, "p50_ms": round(1e3 * times[len(times) // 2], 1),
        "p95_ms": round(1e3 * times[int(len(times) * 0.95)], 1), "kilobytes": round(size / len(times) / 1e3),
        "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip
    _say(f"{row['p50_ms']:8.1f} ms p50 {row['p95_ms']:8.1f} ms p95  {what}")
    return row


def table(answer: dict[str, Any]) -> str:
    head = (
        f"{answer['jobs']:,} jobs, {answer['points']:,} points, {answer['gigabytes']} GB in PostgreSQL; "
        f"{answer['machine']}; {answer['date']}\n\n| asked | p50 ms | p95 ms | kB |\n|---|---|---|---|\n"
    )
    rows = (f"| {row['what']} | {row['p50_ms']} | {row['p95_ms']} | {row['kilobytes']} |" for row in answer["rows"])
    return head + "\n".join(rows)


# ------------------------------------------------------------------------------------------------ processes


def _connected(url: str) -> psycopg.Connection[Any]:
    at = make_url(url)
    return psycopg.connect(
        host=at.host, port=at.port, user=at.username, password=at.password, dbname=at.database, autocommit=True
    )


@contextmanager
def _api(home: Path, url: str) -> Iterator[httpx.Client]:
    """The API as its own process, and a client with its first token."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {**os.environ, "BCD_DATABASE_URL": url, "BCD_API_PORT": str(port), "BCD_RATE_LIMIT": "off"}
    process = subprocess.Popen([sys.executable, "-m", "service.app", "--home", str(home)], env=environment)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            _wait_ready(client, process)
            client.headers["Authorization"] = f"Bearer {(home / 'run' / 'api-token').read_text().strip()}"
            yield client
    finally:
        process.terminate()
        process.wait()


def _wait_ready(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        try:
            client.get("/healthz").raise_for_status()
            return
        except httpx.TransportError:
            if process.poll() is not None:
                raise SystemExit("the API did not start") from None
            time.sleep(0.1)
    raise SystemExit("the API did not answer in a minute")


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
