"""Stored predictions come back as they were, say what they belong to, and damaged files are refused."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from bcd.data.records import Dataset
from bcd.eval import PredictionsError, evaluate, load_predictions, save_predictions
from tests.helpers.detections import NOTHING, dataset, detect, random_case, record


def case() -> tuple[Dataset, list]:
    data, found = random_case(4, 9, 15)
    return Dataset(data.class_names, data.records, content_hash="the data"), found


def test_they_come_back_as_they_were(tmp_path: Path) -> None:
    data, found = case()
    found[3] = NOTHING
    path = save_predictions(tmp_path / "p.npz", data, found, protocol="as always", detector="student")
    loaded = load_predictions(path)
    assert (loaded.protocol, loaded.detector, loaded.class_names) == ("as always", "student", data.class_names)
    again = loaded.of(data)
    assert sum(len(one.scores_N) for one in again) > 50
    for one, other in zip(found, again, strict=True):
        assert torch.equal(one.boxes_N4, other.boxes_N4)
        assert torch.equal(one.scores_N, other.scores_N)
        assert torch.equal(one.labels_N, other.labels_N)
        assert other.labels_N.dtype == torch.int64
    assert evaluate(data, again) == evaluate(data, found)
    assert list(tmp_path.iterdir()) == [path]


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    data, found = case()
    one, other = (save_predictions(tmp_path / name, data, found) for name in ("a.npz", "b.npz"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("images", [0, 2])
def test_without_any_detection(tmp_path: Path, images: int) -> None:
    data = dataset([record([], [])] * images)
    loaded = load_predictions(save_predictions(tmp_path / "p.npz", data, [NOTHING] * images))
    assert [len(one.scores_N) for one in loaded.of(data)] == [0] * images


def test_coco_results_give_the_same_ap_elsewhere(tmp_path: Path) -> None:
    data, found = case()
    loaded = load_predictions(save_predictions(tmp_path / "p.npz", data, found))
    ids = {record.id: i for i, record in enumerate(data.records)}
    assert len(ids) == len(data)
    truth = COCO()
    annotations = [
        {
            "id": n, "image_id": r.id, "category_id": int(c) + 10, "iscrowd": int(g), "area": float(a),
            "bbox": [float(b[0]), float(b[1]), float(b[2] - b[0]), float(b[3] - b[1])],
        }
        for n, (r, b, c, g, a) in enumerate(
            ((r, *rest) for r in data.records for rest in zip(r.boxes, r.labels, r.ignore, r.areas, strict=True)), 1
        )
    ]  # fmt: skip
    truth.dataset = {
        "info": {},
        "images": [{"id": r.id} for r in data.records],
        "annotations": annotations,
        "categories": [{"id": k + 10, "name": name} for k, name in enumerate(data.class_names)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(loaded.coco_results([10, 11, 12])), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    assert run.stats[0] * 100 == pytest.approx(evaluate(data, found)["AP"], abs=1e-4)
    with pytest.raises(ValueError, match="1 category ids for 3 classes"):
        loaded.coco_results([1])


def test_other_data_is_refused(tmp_path: Path) -> None:
    data, found = case()
    loaded = load_predictions(save_predictions(tmp_path / "p.npz", data, found))
    with pytest.raises(PredictionsError, match=r"made on other data .* evaluate the detector on this data instead"):
        loaded.of(Dataset(data.class_names, data.records, content_hash="another"))
    with pytest.raises(PredictionsError, match="the classes"):
        loaded.of(Dataset(("x", "y", "z"), data.records, content_hash="the data"))
    with pytest.raises(PredictionsError, match="other images"):
        loaded.of(Dataset(data.class_names, data.records[::-1], content_hash="the data"))
    with pytest.raises(ValueError, match="8 lists of detections for 9 images"):
        save_predictions(tmp_path / "q.npz", data, found[1:])


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    data, found = case()
    path = save_predictions(tmp_path / "p.npz", data, found)
    with pytest.raises(PredictionsError, match="no such file"):
        load_predictions(tmp_path / "missing.npz")
    cut = tmp_path / "cut.npz"
    cut.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(PredictionsError, match="damaged"):
        load_predictions(cut)
    pickled = tmp_path / "pickled.npz"
    pickled.write_bytes(pickle.dumps({"format": "bcd-predictions-1"}))
    with pytest.raises(PredictionsError, match="damaged or no file of predictions"):
        load_predictions(pickled)
    with np.load(path) as file:
        arrays = dict(file)

    def changed(**more: np.ndarray) -> Path:
        np.savez(tmp_path / "changed.npz", **{**arrays, **more})
        return tmp_path / "changed.npz"

    for more, fault in (
        ({"count": arrays["count"] + 1}, "do not fit each other"),
        ({"label": arrays["label"] + 3}, "outside its 3 classes"),
        ({"score": arrays["score"] * np.nan}, "not finite"),
        ({"box": arrays["box"][:-1]}, "do not fit each other"),
        ({"about": np.frombuffer(json.dumps({"format": "newer"}).encode(), np.uint8)}, "has the form 'newer'"),
    ):
        with pytest.raises(PredictionsError, match=fault):
            load_predictions(changed(**more))


def test_a_flipped_byte_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    data, found = case()
    path = save_predictions(tmp_path / "p.npz", data, found)
    good, content = load_predictions(path).of(data), path.read_bytes()
    refused = 0
    for place in range(0, len(content), 37):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            again = load_predictions(path).of(data)
        except PredictionsError:
            refused += 1
            continue
        for one, other in zip(good, again, strict=True):
            assert torch.equal(one.boxes_N4, other.boxes_N4)
    assert refused > 40


def test_a_header_that_claims_more_than_there_is_memory_is_refused(tmp_path: Path) -> None:
    data, found = case()
    path = save_predictions(tmp_path / "p.npz", data, found)
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**15, 4)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in {**parts, "box.npy": header.getvalue()}.items():
            file.writestr(name, content)
    with pytest.raises(PredictionsError, match="damaged"):
        load_predictions(path)


def test_predictions_of_the_accelerator_or_in_half_precision_are_stored_as_plain_floats(tmp_path: Path) -> None:
    data = dataset([record([[0, 0, 9, 9]], [0])])
    half = detect([[0, 0, 8, 8]], [0.5], [0])
    half = type(half)(half.boxes_N4.bfloat16(), half.scores_N.half(), half.labels_N.int())
    loaded = load_predictions(save_predictions(tmp_path / "p.npz", data, [half]))
    assert loaded.of(data)[0].boxes_N4.dtype == torch.float32
