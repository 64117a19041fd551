"""What a real run leaves beside the student reaches storage and the service."""

from __future__ import annotations

import json
from pathlib import Path

from bcd.api import run_job
from bcd.detections.gallery import read_gallery, read_picture
from bcd.eval import load_predictions
from bcd.records import StoredObject, Ticket
from bcd.storage import open_store
from tests.helpers.runs import TINY
from workers.attempt import AttemptArgs, run_attempt


def run_two_steps(tmp_path: Path, service) -> AttemptArgs:
    """An attempt that succeeds after two steps of real training."""
    args = AttemptArgs(
        attempt_id="att_1", epoch=1, api_url="http://127.0.0.1:1", storage=str(tmp_path / "storage"),
        work=str(tmp_path / "work"), data_cache=str(tmp_path / "cache"), token="secret",
    )  # fmt: skip
    spec = {**TINY, "schedule": {**TINY["schedule"], "steps": 2, "warmup_steps": 0}}
    service._ticket = Ticket(spec=spec, job_id="job_1", attempt_id="att_1", number=1, epoch=1, lease_seconds=30.0)
    assert run_attempt(args, run=run_job, channel=service, patience=20) == "succeeded"
    return args


def test_predictions_and_report_are_stored_like_the_student(tmp_path: Path, service) -> None:
    args = run_two_steps(tmp_path, service)
    found = {record.name: record for record in service.records if record.kind == "artifact"}
    assert {name: found[name].type for name in ("predictions.npz", "report.json", "student.safetensors")} == {
        "predictions.npz": "predictions", "report.json": "other", "student.safetensors": "result",
    }  # fmt: skip
    assert {found[name].step for name in ("predictions.npz", "report.json", "student.safetensors")} == {2}
    path = {
        name: open_store(args.storage).get(
            StoredObject(key=one.key, sha256=one.sha256, size=one.size), into=tmp_path / "got"
        )
        for name, one in found.items()
    }
    evaluation = next(record for record in service.records if record.kind == "evaluation")
    report = json.loads(path["report.json"].read_text())
    predictions = load_predictions(path["predictions.npz"])
    assert report["protocol"]["hash"] == evaluation.protocol == predictions.protocol
    assert len(predictions.detections) == evaluation.results["images"] == 8
    assert set(evaluation.results) == {"AP", "AP50", "AP75", "APs", "APm", "APl", "per_class", "images", "objects"}
    assert found["validation-images.zip"].type == "gallery"
    with path["validation-images.zip"].open("rb") as file:
        gallery = read_gallery(file)
        assert read_picture(file, 7).startswith(b"\xff\xd8")  # JPEG
    assert gallery.truth.ids == predictions.image_ids
    assert gallery.data_hash == predictions.data_hash


def test_a_run_without_room_for_pictures_succeeds_and_says_so(tmp_path: Path, service, monkeypatch) -> None:
    def full(*_: object, **__: object) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bcd.engine.run.kept_gallery", full)
    run_two_steps(tmp_path, service)
    types = [record.type for record in service.records if record.kind == "artifact"]
    assert "gallery" not in types
    assert {"result", "predictions"} <= set(types)
    texts = [record.text for record in service.records if record.kind == "log"]
    assert any("no pictures" in text and "No space left" in text for text in texts)
