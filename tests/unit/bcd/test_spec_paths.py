"""Which files a spec names, and which of them lie where they may, by their text or with links followed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from bcd.spec import parse_spec, path_faults

STUDENT = {"backbone": "tiny", "width": 4}


def spec_of(data: dict[str, Any], **more: Any) -> Any:
    return parse_spec({"data": data, "student": STUDENT, "schedule": {"steps": 4}, **more})


def coco(**data: Any) -> Any:
    names = {"train_annotations": "t.json", "train_folder": "t", "val_annotations": "v.json", "val_folder": "v"}
    return spec_of({"type": "coco", "root": "/data/coco", **names, **data})


def pointers(spec: Any, *roots: str, **more: Any) -> list[str]:
    return [pointer for pointer, _ in path_faults(spec, roots, **more)]


def test_without_roots_every_path_may_be_used() -> None:
    assert pointers(coco(root="relative/../anywhere")) == []


def test_generated_scenes_name_no_file() -> None:
    assert pointers(spec_of({"type": "digits-scenes-v1"}), "/data") == []


@pytest.mark.parametrize("key", ["train_annotations", "train_folder", "val_annotations", "val_folder"])
def test_every_path_of_a_data_set_is_looked_at(key: str) -> None:
    assert pointers(coco(), "/data") == []
    for path in ("../../etc", "/etc/passwd", "~/x", "http://10.0.0.1/x"):
        assert pointers(coco(**{key: path}), "/data") == [f"/data/{key}"]


@pytest.mark.parametrize("key", ["data_file", "train", "val"])
def test_every_path_of_a_yolo_set_is_looked_at(key: str) -> None:
    names = {"data_file": "data.yaml", "classes": ["a"], "train": "t", "val": "v"}
    assert pointers(spec_of({"type": "yolo", "root": "/data", **names}), "/data") == []
    assert pointers(spec_of({"type": "yolo", "root": "/data", **names, key: "../etc"}), "/data") == [f"/data/{key}"]


@pytest.mark.parametrize("key", ["folder", "list"])
def test_unlabelled_images_may_lie_beside_the_data_set_but_not_outside_of_the_roots(key: str) -> None:
    def spec(path: str) -> Any:
        more = {"teacher": {"path": "/models/t.safetensors"}, "methods": [{"type": "bckd"}]}
        return spec_of({"type": "voc", "root": "/data/voc", "classes": ["a"], "unlabeled": {key: path}}, **more)

    for path in ("more", "/data/other", "../other"):
        assert pointers(spec(path), "/data", "/models") == []
    for path in ("/etc", "../../etc", "~/x"):
        assert pointers(spec(path), "/data", "/models") == [f"/data/unlabeled/{key}"]


def test_a_root_is_a_folder_not_the_beginning_of_a_name() -> None:
    assert pointers(coco(root="/database"), "/data") != []
    assert pointers(coco(root="/data"), "/data/") == []
    assert pointers(coco(root="//data/x"), "/data") == []
    assert pointers(coco(root="/x"), "/") == []


def test_links_are_followed_where_the_files_are(tmp_path: Path) -> None:
    data, secret = tmp_path / "data", tmp_path / "secret"
    (data / "set").mkdir(parents=True)
    secret.mkdir()
    (data / "out").symlink_to(secret)
    (data / "set" / "t").symlink_to("../../secret")
    out = coco(root=str(data / "out"))
    assert pointers(out, str(data)) == []  # by its text it is inside
    assert "/data/root" in pointers(out, str(data), resolve=os.path.realpath)
    assert pointers(coco(root=str(data / "set")), str(data), resolve=os.path.realpath) == ["/data/train_folder"]
    (tmp_path / "alias").symlink_to(data)  # a root may itself be a link
    assert pointers(coco(root=str(tmp_path / "alias")), str(tmp_path / "alias"), resolve=os.path.realpath) == []


def test_the_message_says_what_to_give() -> None:
    ((_, message),) = path_faults(spec_of({"type": "voc", "root": "/etc", "classes": ["a"]}), ["/data", "/sets"])
    assert message == "'/etc' is not in a folder that may be used; give an absolute path in /data, /sets"
