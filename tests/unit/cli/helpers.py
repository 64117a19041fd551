"""What the command line's tests share: a job as the API shows it, a service made of a function, text of tables."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import httpx
from rich.console import Console, RenderableType

from service.client import Client

Answer = Callable[[httpx.Request], httpx.Response]


def job_json(id: str = "job_a", **changes: Any) -> dict[str, Any]:
    job: dict[str, Any] = {
        "id": id, "name": "run", "state": "running", "cause": None, "spec": {}, "step": 40, "total_steps": 100,
        "teacher_job_id": None, "created_at": 1000.0, "started_at": 1010.0, "ended_at": None, "attempts": [],
        "evaluation": None, "seed": 0, "methods": [],
    }  # fmt: skip
    return {**job, **changes}


def text_of(*parts: RenderableType, width: int = 100) -> str:
    """What a person reads, without colours."""
    console = Console(width=width, no_color=True, highlight=False, file=io.StringIO())
    for part in parts:
        console.print(part)
    return console.file.getvalue()


def words(text: str) -> list[list[str]]:
    """The words of each line that holds any: contents without widths and box drawing."""
    return [found for line in text.splitlines() if (found := line.replace("─", " ").replace("━", " ").split())]


def client_of(answer: Answer) -> Client:
    """A client whose service is the given function."""
    http = httpx.Client(base_url="http://127.0.0.1:8765", transport=httpx.MockTransport(answer))
    return Client("http://127.0.0.1:8765", "the-token", http=http)


def stream(*events: dict[str, Any]) -> httpx.Response:
    """An event stream that ends after these events."""
    text = "".join(f"id: {event['id']}\nevent: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, text=": hello\n\n" + text)
