"""An API on a temporary home, without any process: settings, client and the smallest spec."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from service.app import create_app, prepare
from service.auth import owner_token
from service.settings import Settings

TINY_SPEC: dict[str, Any] = {
    "name": "tiny",
    "data": {"type": "digits-scenes-v1", "train_images": 8, "val_images": 4, "image_size": 64},
    "student": {"backbone": "tiny", "width": 4, "fpn_channels": 8, "stacked_convs": 0, "strides": [8, 16]},
    "schedule": {"steps": 4, "batch_size": 2, "warmup_steps": 0, "checkpoint_every": 2, "log_every": 1},
    "seed": 0,
}


def tiny_spec(**changes: Any) -> dict[str, Any]:
    """`TINY_SPEC` with top-level keys replaced."""
    return {**deepcopy(TINY_SPEC), **changes}


def make_settings(tmp_path: Path, **overrides: Any) -> Settings:
    """A prepared installation (secrets, migrated SQLite database) under `tmp_path/home`."""
    settings = Settings.load(tmp_path / "home", **overrides)
    prepare(settings)
    return settings


def make_client(settings: Settings, *, token: str | None = "owner", raise_errors: bool = False) -> TestClient:
    """A client of the API as its owner; `token=None` sends no token, another text is sent as it is."""
    client = TestClient(create_app(settings), raise_server_exceptions=raise_errors)
    if token is not None:
        sent = owner_token(settings) if token == "owner" else token
        client.headers["Authorization"] = f"Bearer {sent}"
    return client
