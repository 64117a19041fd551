"""A detector judged on a data set: original pixels, other class lists, what the protocol hash covers, the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import bcd
from bcd.data import Dataset, open_data
from bcd.engine.evaluate import detect, evaluate_detector, final_report, protocol_hash
from bcd.eval import evaluate, load_predictions
from bcd.methods.match import ClassMap
from bcd.models.detector import Detector, DetectorInfo
from bcd.spec import EvaluationSpec, parse_spec
from tests.helpers.runs import tiny_spec
from tests.helpers.tiny_sets import write_tiny_coco

CPU = torch.device("cpu")
CLASSES = ("green", "red", "blue")  # in the order of the data set's category ids
EVALUATION = EvaluationSpec(score_threshold=0.0, max_detections=20, batch_size=2)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Dataset]:
    """A set of files whose images are halved for the model."""
    root = tmp_path_factory.mktemp("coco")
    data = {**write_tiny_coco(root, n_val=5, size=(128, 96)), "image_size": [48, 64]}
    spec = parse_spec({"data": data, "student": {}}).data
    val = open_data(spec).val
    assert val.class_names == CLASSES
    return spec, val


def detector(names: tuple[str, ...] = CLASSES) -> Detector:
    """Weights that say something: large class logits everywhere."""
    torch.manual_seed(3)
    model = bcd.build_detector(**tiny_spec().student.model_dump(), class_names=names)
    torch.nn.init.normal_(model.head.cls.weight, std=0.5)
    return model.eval()


def same(one: list, other: list) -> None:
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a.boxes_N4, b.boxes_N4)
        torch.testing.assert_close(a.scores_N, b.scores_N)
        assert torch.equal(a.labels_N, b.labels_N)


def test_detections_are_in_pixels_of_the_original_images_and_in_their_order(case: Any) -> None:
    spec, data = case
    model = detector()
    found = detect(model, data, spec, EVALUATION, device=CPU)
    assert len(found) == 5
    assert max(float(one.boxes_N4[:, 2].max()) for one in found) == pytest.approx(128)  # clipped to 64, doubled
    again = detect(model, data, spec, EVALUATION.model_copy(update={"batch_size": 1}), device=CPU)
    same(found, again)
    results = evaluate_detector(model, data, spec, EVALUATION, device=CPU, autocast=torch.no_grad)
    assert results == evaluate(data, found, max_detections=20)


def test_training_mode_is_restored_also_after_a_fault(case: Any) -> None:
    spec, data = case
    model = detector().train()
    detect(model, data, spec, EVALUATION, device=CPU)
    assert model.training

    def fail(done: int, total: int) -> None:
        raise KeyboardInterrupt

    big, classes = more_classes(model)
    big.train()
    with pytest.raises(KeyboardInterrupt):
        detect(big, data, spec, EVALUATION, device=CPU, progress=fail, classes=classes)
    assert big.training
    assert big(torch.zeros(1, 3, 64, 64)).logits_BAC.shape[-1] == 5  # all its classes are there again


def more_classes(model: Detector) -> tuple[Detector, ClassMap]:
    """The same detector with two classes more and the shared ones in another order."""
    names = ("sun", "blue", "red", "moon", "green")
    big = detector(names)
    state = dict(model.state_dict())
    for part in ("head.cls.weight", "head.cls.bias"):
        ours = state[part]
        theirs = torch.full((5, *ours.shape[1:]), 3.0)  # sure of sun and moon everywhere
        theirs[[1, 2, 4]] = ours[[CLASSES.index(name) for name in ("blue", "red", "green")]]
        state[part] = theirs
    big.load_state_dict(state)
    return big, ClassMap.by_name(CLASSES, names)


def test_a_detector_with_more_classes_is_judged_as_if_it_knew_only_the_datas(case: Any) -> None:
    spec, data = case
    model = detector()
    big, classes = more_classes(model)
    plain = detect(model, data, spec, EVALUATION, device=CPU)
    mapped = detect(big, data, spec, EVALUATION, device=CPU, classes=classes)
    same(plain, mapped)
    assert sum(len(one.scores_N) for one in mapped) == 5 * 20
    assert len({int(label) for one in mapped for label in one.labels_N}) == 3


def test_a_detector_that_knows_only_some_of_the_classes(case: Any) -> None:
    spec, data = case
    names = ("blue", "red")
    small = detector(names)
    classes = ClassMap.by_name(CLASSES, names)
    found = detect(small, data, spec, EVALUATION, device=CPU, classes=classes)
    own = detect(small, data, spec, EVALUATION, device=CPU)
    for one, other in zip(found, own, strict=True):
        assert [CLASSES[i] for i in one.labels_N] == [names[i] for i in other.labels_N]
    assert evaluate(data, found)["per_class"]["green"] in (0, None)


def test_the_protocol_hash_covers_all_that_makes_ap_comparable(case: Any) -> None:
    spec, data = case
    plain = {"ema": True, "precision": "fp32"}
    hashes = [
        protocol_hash(data, spec, EVALUATION, **plain),
        protocol_hash(data, spec, EVALUATION, ema=False, precision="fp32"),
        protocol_hash(data, spec, EVALUATION, ema=True, precision="bf16"),
        protocol_hash(data, spec, EVALUATION, **plain, weights="best"),
        protocol_hash(data, spec, EvaluationSpec(), **plain),
        protocol_hash(data, spec.model_copy(update={"image_size": (96, 128)}), EVALUATION, **plain),
        protocol_hash(Dataset(CLASSES, data.records, content_hash="other"), spec, EVALUATION, **plain),
        protocol_hash(
            Dataset(("x", "y", "z"), data.records, content_hash=data.content_hash), spec, EVALUATION, **plain
        ),
        protocol_hash(data, spec, EVALUATION, **plain, classes=ClassMap.by_name(CLASSES, ("red",))),
    ]
    assert len(set(hashes)) == len(hashes)
    same_for_ap = EVALUATION.model_copy(update={"batch_size": 7, "every": 3})
    assert protocol_hash(data, spec, same_for_ap, **plain, weights="last") == hashes[0]
    known = ClassMap.by_name(CLASSES, ("sun", *CLASSES))
    assert protocol_hash(data, spec, EVALUATION, **plain, classes=known) == hashes[0]


def test_a_new_code_version_is_another_protocol(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, data = case
    before = protocol_hash(data, spec, EVALUATION, ema=True, precision="fp32")
    monkeypatch.setattr("bcd.engine.evaluate.PROTOCOL_VERSION", 99)
    assert protocol_hash(data, spec, EVALUATION, ema=True, precision="fp32") != before


def test_the_final_report_leaves_predictions_that_give_its_figures_again(case: Any, tmp_path: Path) -> None:
    spec, data = case
    model, told = detector(("red", "blue")), []
    classes = ClassMap.by_name(CLASSES, ("red", "blue"))
    final = final_report(
        model, data, spec, EVALUATION, folder=tmp_path, device=CPU, ema=True, precision="fp32", weights="best",
        classes=classes, progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told == [(2, 5), (4, 5), (5, 5)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.npz", "report.json"]
    plain = json.loads(final.report_path.read_text())
    assert plain["ap"]["AP"] == pytest.approx(final.results["AP"], abs=1e-4)
    assert plain["notes"] == ["student does not know these classes of the data: green"]
    assert plain["protocol"]["parts"]["weights"] == "best"
    stored = load_predictions(final.predictions_path)
    assert plain["protocol"]["hash"] == stored.protocol == final.protocol
    assert evaluate(data, stored.of(data), max_detections=20) == final.results


def test_names_and_normalisation_are_the_detectors_own(case: Any) -> None:
    spec, data = case
    model = detector()
    before = detect(model, data, spec, EVALUATION, device=CPU)
    model.info = DetectorInfo(model.info.arguments, CLASSES, (0.0, 0.0, 0.0), (255.0, 255.0, 255.0))
    after = detect(model, data, spec, EVALUATION, device=CPU)
    assert not torch.allclose(before[0].scores_N, after[0].scores_N)
