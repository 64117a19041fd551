"""Downloads: the right bytes, by id only, and a clear answer when storage has lost them."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from service.artifacts.service import download_name
from service.models import Artifact
from service.settings import Settings
from service.storage import BadKey, object_key, resolve
from tests.helpers.api import start

CONTENT = b"0123456789" * 10


@pytest.fixture
def artifact(client: TestClient) -> dict[str, str]:
    job, worker = start(client)
    worker.send(worker.artifact("result", "student.safetensors", 4, CONTENT))
    (row,) = client.get(f"/api/v1/jobs/{job['id']}/artifacts").json()["items"]
    return {**row, "job_id": job["id"], "url": f"/api/v1/artifacts/{row['id']}/content"}


def test_the_whole_file_with_its_hash_and_a_safe_name(client: TestClient, artifact: dict[str, str]) -> None:
    response = client.get(artifact["url"])
    assert (response.status_code, response.content) == (200, CONTENT)
    assert response.headers["ETag"] == f'"{artifact["sha256"]}"'
    name = f'attachment; filename="{artifact["job_id"]}-student.safetensors"'
    assert response.headers["Content-Disposition"] == name
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_a_range_of_the_file(client: TestClient, artifact: dict[str, str]) -> None:
    response = client.get(artifact["url"], headers={"Range": "bytes=5-12"})
    assert (response.status_code, response.content) == (206, CONTENT[5:13])
    assert response.headers["Content-Range"] == "bytes 5-12/100"
    assert client.get(artifact["url"], headers={"Range": "bytes=500-"}).status_code == 416


def test_what_the_client_has_already_is_not_sent_again(client: TestClient, artifact: dict[str, str]) -> None:
    response = client.get(artifact["url"], headers={"If-None-Match": f'"{artifact["sha256"]}"'})
    assert (response.status_code, response.content) == (304, b"")


def test_an_unknown_artifact_is_404(client: TestClient) -> None:
    for id in ("art_nope", "..%2f..%2fbcd.db", "%2e%2e"):
        assert client.get(f"/api/v1/artifacts/{id}/content").status_code == 404


def test_a_file_that_is_gone_or_damaged_is_410(
    client: TestClient, artifact: dict[str, str], settings: Settings
) -> None:
    path = settings.storage / object_key(artifact["sha256"])
    path.write_bytes(CONTENT[:50])
    response = client.get(artifact["url"])
    assert (response.status_code, response.headers["content-type"]) == (410, "application/problem+json")
    assert "damaged" in response.json()["detail"]
    path.unlink()
    assert "gone" in client.get(artifact["url"]).json()["detail"]


def test_a_key_from_a_tampered_database_leads_nowhere(
    client: TestClient, artifact: dict[str, str], settings: Settings
) -> None:
    with client.app.state.db.write() as session:
        session.get(Artifact, artifact["id"]).key = "../bcd.db"
    assert client.get(artifact["url"]).status_code == 410


@pytest.mark.parametrize(
    "key",
    ["", "/etc/passwd", "../x", "objects/ab/../../x", "objects/ab/" + "g" * 64, "objects/ab/" + "a" * 64 + "\n", "x\0"],
)
def test_only_storage_keys_resolve(settings: Settings, key: str) -> None:
    with pytest.raises(BadKey):
        resolve(settings, key)


def test_a_link_that_leads_out_of_storage_is_refused(settings: Settings) -> None:
    key = object_key("a" * 64)
    (settings.storage / key).parent.mkdir(parents=True)
    (settings.storage / key).symlink_to(settings.token_file)
    with pytest.raises(BadKey):
        resolve(settings, key)


@pytest.mark.parametrize(
    ("name", "safe"),
    [("student.pt", "job_1-student.pt"), ('a"b\r\nc/d', "job_1-a_b__c_d"), ("ü", "job_1-_"), ("x" * 300, None)],
)
def test_download_names_are_harmless(name: str, safe: str | None) -> None:
    made = download_name("job_1", name)
    assert made == safe if safe is not None else len(made) == 200
