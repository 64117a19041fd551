"""docker-compose.yml as its readers see it: the services with their defaults filled in, and what an image starts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def compose(**variables: str) -> dict[str, Any]:
    """The file with `${NAME:-default}` replaced by a variable given here or its default."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(_VARIABLE.sub(lambda m: variables.get(m[1], m[2] or ""), text))
    return found


def instruction(dockerfile: str, name: str) -> Any:
    """The value of the last ENTRYPOINT, CMD or HEALTHCHECK of a Dockerfile, which must be in JSON form."""
    text = (ROOT / dockerfile).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.startswith(name)]
    return json.loads(lines[-1][lines[-1].index("[") :])


def command(service: dict[str, Any]) -> list[str]:
    """What a service of ours starts: its image's entry point with the command of the compose file."""
    return [*instruction(service["build"]["dockerfile"], "ENTRYPOINT"), *service["command"]]
