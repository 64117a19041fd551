"""Models and data sets: what is listed, with what, and for whom."""

from __future__ import annotations

from typing import Any

from starlette.testclient import TestClient

from tests.helpers.api import bearer, distilled_spec, make_project, make_user, start, submit, tiny_spec
from tests.helpers.pictures import CLASSES, Drawn, gallery_bytes, predictions_bytes, seen

BIG = {"backbone": "tiny", "width": 8, "fpn_channels": 8, "stacked_convs": 0, "strides": [8, 16]}
DATA = Drawn()
GALLERY = gallery_bytes(DATA)
FACTS = {"device": "cpu", "host": "laptop", "data_version": "v" * 64, "git_commit": "c" * 40}


def finish(
    client: TestClient, spec: dict[str, Any], ap: float, *, gallery: bytes = GALLERY, project: str = "default"
) -> str:
    job, worker = start(client, spec, project=project)
    worker.send(
        worker.record("facts", values=FACTS),
        worker.metric(4, AP=ap, parameters=2000.0, gflops=0.5, latency_ms=4.0),
        worker.artifact("result", "student.safetensors", 4, f"weights {job['id']}".encode()),
        worker.artifact("predictions", "predictions.npz", 4, predictions_bytes(DATA, seen(DATA))),
        worker.artifact("gallery", "validation-images.zip", 4, gallery),
        worker.evaluation(ap),
        worker.ended("succeeded"),
    )
    return str(job["id"])


def get(client: TestClient, path: str, **params: Any) -> Any:
    response = client.get(f"/api/v1{path}", params=params)
    assert response.status_code == 200, response.text
    return response.json()


def test_models_are_finished_students_with_what_belongs_to_them(client: TestClient) -> None:
    teacher = finish(client, tiny_spec(name="teacher", student=BIG), 50.0)
    student = finish(client, distilled_spec(teacher, name="student"), 40.0)
    submit(client, distilled_spec(teacher, name="waits", seed=3))
    items = get(client, "/models")["items"]
    assert [one["job"]["id"] for one in items] == [student, teacher]
    one = items[0]
    assert (one["job"]["name"], one["job"]["evaluation"]["AP"], one["teaches"]) == ("student", 40.0, 0)
    assert (one["parameters"], one["gflops"], one["latency_ms"]) == (2000, 0.5, 4.0)
    assert (one["device"], one["data_version"], one["git_commit"]) == ("CPU of laptop", "v" * 64, "c" * 40)
    assert (one["protocol"], one["file"]["name"], one["file"]["step"]) == ("p", "student.safetensors", 4)
    assert items[1]["teaches"] == 2


def test_models_are_filtered_sorted_and_paged_as_jobs(client: TestClient) -> None:
    ids = [finish(client, tiny_spec(name=f"m{i}", seed=i), ap) for i, ap in enumerate((30.0, 50.0, 40.0))]
    first = get(client, "/models", sort="-best.AP", limit=2)
    assert [one["job"]["id"] for one in first["items"]] == [ids[1], ids[2]]
    rest = get(client, "/models", sort="-best.AP", limit=2, cursor=first["next_cursor"])
    assert [one["job"]["id"] for one in rest["items"]] == [ids[0]]
    assert [one["job"]["id"] for one in get(client, "/models", filter="AP>45")["items"]] == [ids[1]]
    assert client.get("/api/v1/models", params={"filter": "colour:red"}).status_code == 422


def test_a_model_without_weights_says_so(client: TestClient) -> None:
    job, worker = start(client, tiny_spec())
    worker.send(worker.evaluation(1.0), worker.ended("succeeded"))
    (one,) = get(client, "/models")["items"]
    assert (one["job"]["id"], one["file"], one["parameters"], one["device"]) == (job["id"], None, None, None)


def test_equal_validation_sets_are_one(client: TestClient) -> None:
    assert get(client, "/datasets")["items"] == []
    first = [finish(client, tiny_spec(name=f"a{i}", seed=i), 30.0) for i in range(3)]
    other = finish(client, tiny_spec(name="b", seed=9), 30.0, gallery=gallery_bytes(Drawn(seed=1)))
    newest, older = get(client, "/datasets")["items"]
    assert (newest["runs"], newest["job_ids"]) == (1, [other])
    assert older["runs"] == 3
    assert set(older["job_ids"]) == set(first)
    assert older["id"] != newest["id"]
    assert (older["type"], older["where"], older["data_version"]) == ("digits-scenes-v1", None, "v" * 64)


def test_what_is_in_the_data_of_a_run(client: TestClient) -> None:
    answer = get(client, f"/jobs/{finish(client, tiny_spec(), 30.0)}/data", sample=5)
    assert (answer["pictures"], answer["whole"], answer["objects"], answer["ignored"]) == (12, 12, 30, 0)
    labels = [label for record in DATA.records for label in record.labels.tolist()]
    with_class = [sum(c in record.labels for record in DATA.records) for c in range(2)]
    assert answer["classes"] == [
        {"name": name, "objects": labels.count(c), "images": with_class[c]} for c, name in enumerate(CLASSES)
    ]
    assert sum(size["objects"] for size in answer["sizes"]) == 30
    assert answer["sizes"][0]["objects"] == answer["sizes"][-1]["objects"] == 0
    assert answer["sizes"][-1]["below"] is None
    assert [one["image"] for one in answer["sample"]] == [100, 103, 106, 108, 111]
    assert len(answer["sample"][1]["objects"]) == 4


def test_others_see_neither_models_nor_data_sets(client: TestClient) -> None:
    make_project(client, "ours")
    make_project(client, "theirs")
    mine = finish(client, tiny_spec(), 30.0, project="ours")
    stranger = bearer(make_user(client, "sam", "editor", project="theirs"))
    for path in ("/models", "/datasets"):
        assert client.get(f"/api/v1{path}", headers=stranger).json()["items"] == []
    assert client.get(f"/api/v1/jobs/{mine}/data", headers=stranger).status_code == 404
