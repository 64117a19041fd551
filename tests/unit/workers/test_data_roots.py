"""A worker follows links before it reads what a spec names: outside of the configured folders it reads nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bcd.records import Ticket
from workers.attempt import AttemptArgs, run_attempt


def attempt(tmp_path: Path, service: Any, spec: dict[str, Any], roots: list[Path]) -> tuple[str, list[str]]:
    """Run one attempt whose training only notes the data folder that it was given; the final state and the notes."""
    seen: list[str] = []

    def train(spec: Any, *, workdir: Path, **_: Any) -> Any:
        seen.append(spec.data.root)
        result = workdir / "student.safetensors"
        result.write_bytes(b"weights")
        return SimpleNamespace(path=result, steps=4)

    service._ticket = Ticket(
        job_id="job_1", attempt_id="att_1", number=1, epoch=1, lease_seconds=30.0, spec=spec,
        data_roots=[str(root) for root in roots],
    )  # fmt: skip
    args = AttemptArgs(
        attempt_id="att_1", epoch=1, api_url="http://127.0.0.1:1", storage=str(tmp_path / "storage"),
        work=str(tmp_path / "work"), data_cache=str(tmp_path / "cache"), token="secret",
    )  # fmt: skip
    return run_attempt(args, run=train, channel=service, patience=20), seen


def spec_of(root: Path, **more: Any) -> dict[str, Any]:
    data = {"type": "voc", "root": str(root), "classes": ["a"]}
    student = {"backbone": "tiny", "width": 8, "fpn_channels": 16, "stacked_convs": 1, "strides": [8, 16]}
    return {"data": data, "student": student, "schedule": {"steps": 4}, **more}


def test_a_link_out_of_the_folders_is_refused_before_anything_is_read(tmp_path: Path, service: Any) -> None:
    data, secret = tmp_path / "data", tmp_path / "secret"
    data.mkdir()
    secret.mkdir()
    (data / "voc").symlink_to(secret)
    state, seen = attempt(tmp_path, service, spec_of(data / "voc"), [data])
    last = service.records[-1]
    assert (state, seen, last.retryable) == ("failed", [], False)
    assert (
        last.cause == f"/data/root: '{data}/voc' is not in a folder that may be used; give an absolute path in {data}"
    )


def test_a_teacher_behind_a_link_is_refused_too(tmp_path: Path, service: Any) -> None:
    data = tmp_path / "data"
    (data / "voc").mkdir(parents=True)
    (tmp_path / "shadow").write_text("root:x")
    (data / "teacher.safetensors").symlink_to(tmp_path / "shadow")
    spec = spec_of(data / "voc", teacher={"path": str(data / "teacher.safetensors")}, methods=[{"type": "bckd"}])
    state, seen = attempt(tmp_path, service, spec, [data])
    assert (state, seen) == ("failed", [])
    assert service.records[-1].cause.startswith("/teacher/path: ")


def test_what_lies_in_the_folders_is_read_also_through_links_between_them(tmp_path: Path, service: Any) -> None:
    data, disk = tmp_path / "data", tmp_path / "disk"
    (disk / "voc").mkdir(parents=True)
    data.mkdir()
    (data / "voc").symlink_to(disk / "voc")
    assert attempt(tmp_path, service, spec_of(data / "voc"), [data, disk]) == ("succeeded", [f"{data}/voc"])


def test_without_configured_folders_everything_may_be_read(tmp_path: Path, service: Any) -> None:
    assert attempt(tmp_path, service, spec_of(tmp_path), []) == ("succeeded", [str(tmp_path)])
