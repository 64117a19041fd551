"""Images on which runs differ: what is ranked, what is shown, and every reason why it cannot be."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from service.storage import of as store_of
from tests.helpers.api import FakeWorker, distilled_spec, start, tiny_spec
from tests.helpers.pictures import CLASSES, Drawn, gallery_bytes, predictions_bytes, seen

BIG = {"backbone": "tiny", "width": 8, "fpn_channels": 8, "stacked_convs": 0, "strides": [8, 16]}
DATA = Drawn()
GALLERY = gallery_bytes(DATA)


def finish(client: TestClient, spec: dict[str, Any], files: dict[tuple[str, str], bytes]) -> str:
    job, worker = start(client, spec)
    worker.send(*(worker.artifact(type, name, 4, content) for (type, name), content in files.items()))
    worker.send(worker.evaluation(30.0), worker.ended("succeeded"))
    return str(job["id"])


def shown(client: TestClient, spec: dict[str, Any], data: Drawn = DATA, gallery: bytes = GALLERY, **what: Any) -> str:
    predictions = predictions_bytes(data, seen(data, **what))
    files = {("predictions", "predictions.npz"): predictions, ("gallery", "validation-images.zip"): gallery}
    return finish(client, spec, files)


@pytest.fixture
def pair(client: TestClient) -> tuple[str, str]:
    """A teacher that invents something on image 2, and a student that misses an object on image 3 and one on 7."""
    teacher = shown(client, tiny_spec(name="teacher", student=BIG), made_up={2})
    student = shown(client, distilled_spec(teacher, name="student"), missed={(3, 0), (7, 1)})
    return teacher, student


def rank(client: TestClient, first: str, second: str | None = None, status: int = 200, **params: Any) -> dict[str, Any]:
    params = {"first": first, **({"second": second} if second else {}), **params}
    response = client.get("/api/v1/compare/images", params=params)
    assert response.status_code == status, response.text
    answer: dict[str, Any] = response.json()
    return answer


def look(client: TestClient, image: int, *ids: str, status: int = 200, **params: Any) -> dict[str, Any]:
    response = client.get(f"/api/v1/compare/images/{image}", params={"ids": ",".join(ids), **params})
    assert response.status_code == status, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_images_are_ranked_by_what_one_sees_and_the_other_does_not(client: TestClient, pair: tuple[str, str]) -> None:
    answer = rank(client, *pair, kind="first right")
    assert [one["image"] for one in answer["items"]] == [103, 107]
    assert answer["items"][0]["file_name"] == "field-03.png"
    assert answer["items"][0]["reasons"] == ["teacher finds 1 object that student misses: cells (0.90)"]
    assert (answer["pictures"], answer["whole"], answer["class_names"]) == (12, 12, list(CLASSES))
    assert [one["image"] for one in rank(client, *pair, kind="second right")["items"]] == [102]
    assert rank(client, *pair, kind="both wrong")["items"] == []
    assert {one["image"] for one in rank(client, *pair, kind="largest gap")["items"]} == {102, 103, 107}
    assert len(rank(client, *pair, kind="largest gap", limit=1)["items"]) == 1


def test_one_run_alone_has_mistakes(client: TestClient, pair: tuple[str, str]) -> None:
    answer = rank(client, pair[0])
    assert answer["items"] == [
        {"image": 102, "file_name": "field-02.png", "score": 0.8, "reasons": ["has 1 false positive: cells (0.80)"]}
    ]
    assert answer["second"] is None
    assert (answer["first"]["right"], answer["first"]["wrong"], answer["first"]["missed"]) == (30, 1, 0)
    assert answer["first"]["errors"]["background"] == 1


def test_counts_are_those_of_each_run(client: TestClient, pair: tuple[str, str]) -> None:
    second = rank(client, *pair)["second"]
    assert (second["job_id"], second["name"]) == (pair[1], "student")
    assert (second["right"], second["wrong"], second["missed"]) == (28, 0, 2)
    assert second["errors"]["missed"] == 2
    assert rank(client, *pair, iou=0.75)["second"]["errors"] is None  # types are defined at 0.5


def test_a_class_alone(client: TestClient, pair: tuple[str, str]) -> None:
    answer = rank(client, *pair, kind="first right", label="platelets")
    assert [one["image"] for one in answer["items"]] == [107]
    objects = look(client, 103, *pair, label="platelets")["objects"]
    assert [(one["label"], one["ignore"]) for one in objects] == [("cells", True), ("platelets", False)] * 2
    assert {one["label"] for one in look(client, 103, *pair, label="platelets")["views"][0]["detections"]} == {
        "platelets"
    }
    assert "no class 'dogs'" in rank(client, *pair, label="dogs", status=422)["detail"]


def test_a_threshold_hides_what_is_below_it(client: TestClient, pair: tuple[str, str]) -> None:
    assert rank(client, pair[0], score=0.85)["first"]["wrong"] == 0
    assert rank(client, pair[0], score=0.85)["first"]["missed"] > 0


def test_an_image_with_what_each_run_sees(client: TestClient, pair: tuple[str, str]) -> None:
    answer = look(client, 103, *pair)
    assert (answer["file_name"], answer["width"], answer["height"]) == ("field-03.png", 160, 160)
    assert len(answer["objects"]) == 4
    teacher, student = answer["views"]
    assert (teacher["job_id"], teacher["found"]) == (pair[0], [True] * 4)
    assert student["found"] == [False, True, True, True]
    assert [one["verdict"] for one in student["detections"]] == ["right"] * 3
    wrong = look(client, 102, *pair)["views"][0]["detections"]
    assert sorted(one["verdict"] for one in wrong) == ["background", "right", "right", "right"]
    assert "wrong" in {one["verdict"] for one in look(client, 102, *pair, iou=0.6)["views"][0]["detections"]}


def test_the_picture_itself(client: TestClient, pair: tuple[str, str]) -> None:
    path = f"/api/v1/jobs/{pair[1]}/images/104/content"
    response = client.get(path)
    assert response.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(response.content)).size == (160, 160)
    again = client.get(path, headers={"If-None-Match": response.headers["etag"]})
    assert again.status_code == 304
    assert "no picture of image 5: 12 of 12" in client.get(f"/api/v1/jobs/{pair[1]}/images/5/content").json()["detail"]


def test_runs_on_other_images_are_not_shown_together(client: TestClient, pair: tuple[str, str]) -> None:
    other = Drawn(seed=1)
    foreign = shown(client, tiny_spec(name="foreign", seed=5), other, gallery_bytes(other))
    assert "judged on different images" in rank(client, pair[0], foreign, kind="first right", status=409)["detail"]


def test_a_run_without_pictures_says_why(client: TestClient, pair: tuple[str, str]) -> None:
    old = finish(client, tiny_spec(name="old", seed=6), {("result", "student"): b"w"})
    assert "it stored none" in rank(client, old, status=404)["detail"]
    running, _ = start(client, tiny_spec(name="running", seed=7))
    assert "they come with its result" in rank(client, running["id"], status=404)["detail"]
    rank(client, "job_none", status=404)


@pytest.mark.parametrize(
    ("params", "field"),
    [({"kind": "first right"}, "?second"), ({"kind": "best"}, "?kind"), ({"score": 2}, "?score"), ({"iou": 0}, "?iou")],
)
def test_what_makes_no_sense_is_refused(client: TestClient, pair: tuple[str, str], params: Any, field: str) -> None:
    answer = rank(client, pair[0], status=422, **params)
    assert field in str(answer["errors"])


def test_too_many_runs_at_once_are_refused(client: TestClient, pair: tuple[str, str]) -> None:
    look(client, 103, *(f"job_{i}" for i in range(7)), status=422)
    look(client, 103, status=422)
    look(client, 5, *pair, status=404)


def test_a_file_that_is_lost_or_damaged_is_told(client: TestClient, settings: Any) -> None:
    damaged = shown(client, tiny_spec(name="damaged", seed=8), gallery=b"PK no archive")
    assert "damaged" in rank(client, damaged, status=410)["detail"]
    lost = finish(
        client,
        tiny_spec(name="lost", seed=9),
        {("predictions", "predictions.npz"): b"only here", ("gallery", "validation-images.zip"): GALLERY},
    )
    key = next(
        row for row in client.get(f"/api/v1/jobs/{lost}/artifacts").json()["items"] if row["type"] == "predictions"
    )
    store_of(settings).delete(f"objects/{key['sha256'][:2]}/{key['sha256']}")
    assert "gone from storage" in rank(client, lost, status=410)["detail"]


def test_pictures_stay_out_of_mlflow(client: TestClient, pair: tuple[str, str]) -> None:
    from service.mirror import wanted

    with client.app.state.db.read() as session:  # type: ignore[attr-defined]
        assert [row.type for row in wanted.files_of(session, pair[0])] == ["predictions"]


def test_a_worker_may_store_a_gallery(client: TestClient) -> None:
    job, worker = start(client, tiny_spec())
    assert isinstance(worker, FakeWorker)
    worker.send(worker.artifact("gallery", "validation-images.zip", 4, GALLERY))
    (row,) = client.get(f"/api/v1/jobs/{job['id']}/artifacts").json()["items"]
    assert row["type"] == "gallery"
