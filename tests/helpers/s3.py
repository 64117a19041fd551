"""An S3 server for tests: moto's, on a free port of loopback, spoken to over HTTP like any other."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

_NUMBERS = itertools.count(1)
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",  # else a test without credentials would ask the network for some
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "NO_PROXY": "127.0.0.1",
}


@contextmanager
def s3_server(port: int = 0) -> Iterator[str]:
    """The address of a server that is there until the block ends."""
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


def use_server(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Let everything that knows the AWS environment speak to this server."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL_S3": endpoint}.items():
        monkeypatch.setenv(name, value)


def s3_client() -> Any:
    """A client of the server in use."""
    return _client(os.environ["AWS_ENDPOINT_URL_S3"])


@cache  # making one takes most of a second
def _client(endpoint: str) -> Any:
    return boto3.session.Session().client("s3", endpoint_url=endpoint)


def new_bucket() -> str:
    """The address of a prefix in a bucket that no other test has."""
    name = f"bcd-test-{os.getpid()}-{next(_NUMBERS)}"
    s3_client().create_bucket(Bucket=name)
    return f"s3://{name}/some/place"


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Inside:
    """What lies in a store, seen and changed behind its back."""

    def __init__(self, uri: str):
        self._s3 = s3_client() if uri.startswith("s3://") else None
        self._root = Path(uri)
        _, _, self._bucket, *rest = [*uri.split("/"), ""]
        self._prefix = "".join(f"{part}/" for part in rest if part)

    def names(self) -> list[str]:
        """Every file, also half-written ones."""
        if self._s3 is None:
            return [str(path.relative_to(self._root)) for path in self._root.rglob("*") if path.is_file()]
        found = self._s3.list_objects_v2(Bucket=self._bucket).get("Contents", [])
        parts = self._s3.list_multipart_uploads(Bucket=self._bucket).get("Uploads", [])
        return [entry["Key"].removeprefix(self._prefix) for entry in [*found, *parts]]

    def write(self, key: str, content: bytes) -> None:
        if self._s3 is None:
            (self._root / key).parent.mkdir(parents=True, exist_ok=True)
            (self._root / key).write_bytes(content)
        else:
            self._s3.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=content)

    def remove(self, key: str) -> None:
        if self._s3 is None:
            (self._root / key).unlink()
        else:
            self._s3.delete_object(Bucket=self._bucket, Key=self._prefix + key)
