"""The doctor refuses teachers that would spoil a run, lets sound ones pass, and names what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import bcd
from bcd.api import JobError, run_job
from bcd.data import open_data
from bcd.doctor import Finding, Report, diagnose, preflight
from bcd.doctor.pair import check_memory, check_positives
from bcd.doctor.teacher import (
    Judged,
    check_accuracy,
    check_image_size,
    check_memorised,
    check_normalisation,
    check_shuffled,
)
from bcd.methods.match import ClassMap
from bcd.sample import Known, pick
from bcd.spec import parse_spec
from bcd.types import Detections
from tests.helpers.runs import MemorySink, tiny_spec
from tests.helpers.tiny_sets import write_tiny_coco
from tests.helpers.trained import EASY, changed, shuffled, train_teacher, untrained

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    return train_teacher(tmp_path_factory.mktemp("teacher"), cache)


def job(path: Path | str = "given", **changes):
    given = {"teacher.path": str(path), "methods": [{"type": "bckd"}], "schedule.steps": 2}
    return tiny_spec(**{**EASY, **given, **changes})


def look(path: Path, cache: Path, **changes) -> Report:
    spec = job(path, **changes)
    model = bcd.load_detector(path)
    val = open_data(spec.data, cache_dir=cache).val
    return preflight(spec, model, ClassMap.by_name(val.class_names, model.info.class_names), val, CPU)


def one(report: Report, check: str) -> Finding:
    return next(finding for finding in report.findings if finding.check == check)


# --- verdicts on real teachers -----------------------------------------------------------------------------------


def test_a_sound_teacher_passes_and_its_claim_is_confirmed(teacher, cache):
    report = look(teacher, cache)
    assert report.verdict == "ok", [f for f in report.findings if f.verdict not in ("ok", "info")]
    values = one(report, "teacher.accuracy").values
    assert values["claimed_on_same_data"] is True
    assert values["AP"] == pytest.approx(values["claimed_AP"], abs=1e-6)  # all 64 images, the same way


def test_an_untrained_teacher_is_refused(teacher, cache, tmp_path):
    report = look(untrained(teacher, tmp_path / "t.safetensors"), cache)
    assert report.failed
    assert one(report, "teacher.accuracy").verdict == "fail"
    assert "finds next to nothing" in report.reason()


def test_an_untrained_teacher_that_claims_nothing_is_refused(teacher, cache, tmp_path):
    path = changed(untrained(teacher, tmp_path / "t.safetensors"), tmp_path / "u.safetensors", extra={})
    assert look(path, cache).failed


@pytest.mark.parametrize("order", [None, [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]])
def test_a_class_shuffled_teacher_is_refused_and_told_from_a_bad_one(teacher, cache, tmp_path, order):
    report = look(shuffled(teacher, tmp_path / "t.safetensors", order), cache)
    assert report.failed
    finding = one(report, "teacher.classes")
    assert finding.verdict == "fail"
    assert "look shuffled" in finding.found
    assert "teacher.classes" in finding.advice
    assert finding.values["right_class_if_renamed"] > 2 * finding.values["right_class"]


def test_a_class_shuffled_teacher_that_claims_nothing_is_refused(teacher, cache, tmp_path):
    path = changed(shuffled(teacher, tmp_path / "t.safetensors"), tmp_path / "u.safetensors", extra={})
    assert look(path, cache).failed


def test_renaming_the_classes_as_advised_makes_a_shuffled_teacher_pass(teacher, cache, tmp_path):
    path = shuffled(teacher, tmp_path / "t.safetensors")  # what it calls n is n + 1
    model, val = bcd.load_detector(path), open_data(job().data, cache_dir=cache).val
    renamed = {str((n + 1) % 10): str(n) for n in range(10)}
    classes = ClassMap.by_name(val.class_names, model.info.class_names, renamed)
    assert not preflight(job(path), model, classes, val, CPU).failed


def test_a_wrong_normalisation_is_named_with_one_that_does_better(teacher, cache, tmp_path):
    path = changed(teacher, tmp_path / "t.safetensors", mean=(-2000.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    report = look(path, cache)
    finding = one(report, "teacher.normalisation")
    assert finding.verdict == "fail"
    assert "'ImageNet, RGB'" in finding.found
    assert report.failed


def test_a_teacher_that_knows_some_of_the_classes_is_judged_on_these(teacher, cache, tmp_path):
    names = ("0", "1", "2", "3", "4", "x", "y", "z", "u", "v")
    path = changed(teacher, tmp_path / "t.safetensors", class_names=names, extra={})
    report = look(path, cache)
    assert not report.failed
    values = one(report, "teacher.accuracy").values
    val = open_data(job().data, cache_dir=cache).val
    assert values["objects"] == sum(int((r.labels < 5).sum()) for r in val.records)


# --- a run ---------------------------------------------------------------------------------------------------------


def test_a_job_whose_teacher_fails_is_refused_before_the_first_step(teacher, cache, tmp_path):
    path, sink = untrained(teacher, tmp_path / "t.safetensors"), MemorySink()
    with pytest.raises(JobError, match=r"finds next to nothing.*set teacher\.preflight: warn") as caught:
        run_job(job(path), workdir=tmp_path, sink=sink, data_cache=cache)
    assert caught.value.code == "teacher-failed-preflight"
    assert not sink.values
    assert not list(tmp_path.glob("checkpoints/*"))


def test_the_override_trains_and_says_so_and_off_does_not_look(teacher, cache, tmp_path):
    path = untrained(teacher, tmp_path / "t.safetensors")
    lines = {}
    for mode in ("warn", "off"):
        sink = MemorySink()
        run_job(job(path, **{"teacher.preflight": mode}), workdir=tmp_path / mode, sink=sink, data_cache=cache)
        lines[mode] = [text for level, text in sink.lines if "finds next to nothing" in text and level == "warning"]
    assert len(lines["warn"]) == 1
    assert not lines["off"]


def test_the_check_of_a_sound_teacher_is_logged_and_changes_no_bit_of_the_student(teacher, cache, tmp_path):
    files = {}
    for mode in ("refuse", "off"):
        sink, before = MemorySink(), torch.random.get_rng_state()
        spec = job(teacher, **{"teacher.preflight": mode})
        files[mode] = load_file(run_job(spec, workdir=tmp_path / mode, sink=sink, data_cache=cache).path)
        assert any("teacher checked in" in text for _, text in sink.lines) is (mode == "refuse")
        torch.random.set_rng_state(before)
    assert all(torch.equal(files["refuse"][name], files["off"][name]) for name in files["off"])


def test_a_resumed_run_does_not_check_again(teacher, cache, tmp_path):
    spec = job(teacher, **{"schedule.checkpoint_every": 1})
    run_job(spec, workdir=tmp_path, sink=MemorySink(), data_cache=cache)
    saved, sink = sorted((tmp_path / "checkpoints").iterdir()), MemorySink()
    run_job(spec, workdir=tmp_path / "again", sink=sink, data_cache=cache, resume_from=saved[:1])
    assert any("resumed at step 1" in text for _, text in sink.lines)
    assert not any("teacher checked" in text for _, text in sink.lines)


def test_the_check_draws_no_random_number_and_leaves_the_models_mode(teacher, cache):
    before = torch.random.get_rng_state()
    first, second = look(teacher, cache), look(teacher, cache)
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.findings == second.findings


# --- the whole examination -----------------------------------------------------------------------------------------


def test_everything_is_looked_at_and_the_report_is_json(teacher, cache):
    report = diagnose(job(teacher), data_cache=cache, images=16)
    assert {f.check for f in report.findings} == {
        "data", "student.positives", "classes", "teacher.accuracy", "teacher.classes", "teacher.normalisation",
        "teacher.image_size", "teacher.memorised", "pair", "agreement", "loss.terms", "memory",
    }  # fmt: skip
    assert not report.failed
    answer = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert set(answer) == {"version", "verdict", "seconds", "findings"}
    assert all(set(f) == {"check", "verdict", "found", "advice", "values"} for f in answer["findings"])
    assert all(f["verdict"] in ("ok", "info", "warn", "fail") for f in answer["findings"])
    assert all(f["advice"] for f in answer["findings"] if f["verdict"] in ("warn", "fail"))
    assert set(one(report, "loss.terms").values["terms"]) == {"qfl", "giou", "dfl", "bckd_cls", "bckd_loc"}


def test_a_teacher_that_is_the_student_itself_has_dead_terms(cache, tmp_path):
    spec = job(tmp_path / "same.safetensors")
    torch.manual_seed(spec.seed)
    same = bcd.build_detector(**spec.student.model_dump(), class_names=list("0123456789"))
    bcd.models.files.save_detector(same, tmp_path / "same.safetensors")
    report = diagnose(spec, data_cache=cache, images=8)
    terms = one(report, "loss.terms")
    assert terms.verdict == "warn"
    assert set(terms.values["dead"]) == {"bckd_cls", "bckd_loc"}
    assert "bckd_cls" in terms.found
    assert "nothing to distil" in one(report, "agreement").found


def test_a_pair_without_what_a_method_needs_fails_with_the_reason(teacher, cache):
    spec = job(teacher, **{"methods": [{"type": "ld"}], "student.detector": "fcos"})
    report = diagnose(spec, data_cache=cache, images=8)
    assert one(report, "pair").verdict == "fail"
    assert "distributions" in report.reason()


def test_files_and_classes_that_cannot_be_used_are_findings(cache, tmp_path):
    assert one(diagnose(job(tmp_path / "nowhere"), data_cache=cache, images=8), "teacher.file").verdict == "fail"
    cats = bcd.build_detector(**tiny_spec().student.model_dump(), class_names=["cat", "dog"])
    path = bcd.models.files.save_detector(cats, tmp_path / "cats.safetensors")
    report = diagnose(job(path), data_cache=cache, images=8)
    assert one(report, "classes").verdict == "fail"
    assert "no name in common" in report.reason()


def test_without_a_teacher_student_and_data_are_looked_at(cache):
    report = diagnose(tiny_spec(), data_cache=cache, images=8)
    assert {f.check for f in report.findings} == {"data", "student.positives", "memory"}


def test_boxes_that_no_site_learns_are_counted(cache):
    """Digits of 20 to 40 px against priors of 256 px and cells of 64: nearly no centre lies inside a box."""
    spec = job(**{"student.strides": [32, 64], "student.prior_scale": 4})
    torch.manual_seed(0)
    student = bcd.build_detector(**spec.student.model_dump(), num_classes=10).eval()
    from bcd.data import train_batch

    train = open_data(spec.data, cache_dir=cache).train
    batches = [train_batch(train, spec.data, step=n, batch_size=8, seed=0) for n in range(2)]
    finding = check_positives(student, batches)
    assert finding.verdict == "warn"
    assert 0 < finding.values["boxes_without_a_site"] <= finding.values["boxes"]
    assert "prior_scale" in finding.advice
    by_hand = 0
    for batch in batches:
        assigned = student.assign(student(student.normalize(batch.images_B3HW)), batch.targets)
        for i, boxes in enumerate(batch.targets.boxes_BG4):
            mine = {tuple(b.tolist()) for b in assigned.box_BA4[i][assigned.positive_BA[i]]}
            by_hand += sum(tuple(b.tolist()) not in mine for b in boxes[batch.targets.valid_BG[i]])
    assert finding.values["boxes_without_a_site"] == by_hand


def test_memory_grows_with_the_batch_and_fails_when_nothing_is_free(cache, monkeypatch):
    from bcd.data import train_batch

    student = bcd.build_detector(**tiny_spec().student.model_dump(), num_classes=10).eval()
    totals = {}
    for size in (4, 8):
        spec = tiny_spec(**{"schedule.batch_size": size})
        train = open_data(spec.data, cache_dir=cache).train
        batch = train_batch(train, spec.data, step=0, batch_size=2, seed=0)
        totals[size] = check_memory(spec, student, None, batch).values
    each = totals[4]["activations_per_image"]
    assert totals[8]["total"] - totals[4]["total"] == 4 * each
    assert each >= 64 * 64 * 3 * 4  # at least the image itself
    monkeypatch.setattr("bcd.doctor.pair._free_bytes", lambda device: 1000)
    finding = check_memory(spec, student, None, batch)
    assert finding.verdict == "fail"
    assert "batch_size" in finding.advice


def test_a_few_images_of_a_file_data_set_are_enough_to_run_and_too_few_to_refuse(tmp_path):
    data = write_tiny_coco(tmp_path / "set", 4, 2)
    student = tiny_spec().student.model_dump()
    model = bcd.build_detector(**student, class_names=["green", "red", "blue"])
    path = bcd.models.files.save_detector(model, tmp_path / "t.safetensors")
    values = {"data": data, "student": student, "teacher": {"path": str(path)}, "methods": [{"type": "bckd"}]}
    spec = parse_spec(values)
    val = open_data(spec.data).val
    report = preflight(spec, model, ClassMap.by_name(val.class_names, model.info.class_names), val, CPU)
    assert one(report, "teacher.accuracy").verdict == "warn"
    assert "cannot be judged" in one(report, "teacher.accuracy").found


# --- rules ---------------------------------------------------------------------------------------------------------


def judged(ap: float, ap50: float | None = None, objects: int = 200, counts: np.ndarray | None = None) -> Judged:
    table = np.stack([np.diag([10] * 10)] * 2) if counts is None else counts
    return Judged(64, objects, ap, 1.6 * ap if ap50 is None else ap50, table)


@pytest.mark.parametrize(
    ("ap", "claim", "same", "verdict"),
    [
        (40, 41, True, "ok"), (33, 41, True, "ok"), (31, 41, True, "warn"), (20, 41, True, "fail"),
        (20, 41, False, "warn"), (20, None, False, "ok"), (4, None, False, "warn"), (1, None, False, "fail"),
        (8, 10, True, "ok"), (0.0, 0.5, True, "fail"),
    ],
)  # fmt: skip
def test_accuracy_is_held_to_the_claim_and_to_a_floor(ap, claim, same, verdict):
    said = None if claim is None else {"AP": claim, "data": "hash" if same else "another"}
    assert check_accuracy(judged(ap), said, "hash").verdict == verdict


@pytest.mark.parametrize("claim", [{}, {"AP": None}, {"AP": "41"}, {"AP": True}, [1], "x"])
def test_a_claim_that_is_none_is_passed_over(claim):
    assert "claims nothing" in check_accuracy(judged(30), claim if isinstance(claim, dict) else None, "h").found


def test_a_weak_teacher_that_confuses_classes_is_not_called_shuffled():
    random = np.random.default_rng(0)
    for _ in range(50):
        counts = np.zeros((2, 10, 10), np.int64)
        for half, label in random.integers(0, (2, 10), (120, 2)):  # right in 3 of 10 cases, else anything
            counts[half, label, label if random.random() < 0.3 else random.integers(0, 10)] += 1
        assert check_shuffled(judged(5, counts=counts), list("0123456789")).verdict == "ok"


def test_two_rare_classes_taken_for_each_other_are_a_warning():
    counts = np.stack([np.diag([20] * 10)] * 2)
    counts[:, :2, :2] = [[0, 6], [6, 0]]
    finding = check_shuffled(judged(30, counts=counts), list("abcdefghij"))
    assert finding.verdict == "warn"
    assert finding.values["looks_like"] == {"a": "b", "b": "a"}


def test_a_teacher_that_finds_nothing_gets_no_ok_for_normalisation_and_memory():
    model = bcd.build_detector("gfl", backbone="tiny", num_classes=2, fpn_channels=16, stacked_convs=1)
    finding = check_normalisation(model, {"": judged(0), "another": judged(0)}, (0.1, 1.0))
    assert (finding.verdict, "any normalisation" in finding.found) == ("info", True)
    assert check_normalisation(model, {"": judged(30), "another": judged(0)}, (0.1, 1.0)).verdict == "ok"
    assert check_memorised(judged(0), judged(0)).verdict == "info"


def test_a_memorised_teacher_is_a_warning():
    assert check_memorised(judged(86), judged(47)).verdict == "warn"  # EVIDENCE: such a teacher taught little
    assert check_memorised(judged(70), judged(61)).verdict == "ok"


def test_image_sizes_are_compared_as_shorter_and_longer_side():
    model = bcd.build_detector(**tiny_spec().student.model_dump(), num_classes=3)
    data = tiny_spec().data
    for theirs, verdict in ((64, "ok"), ([80, 64], "ok"), ([800, 1333], "warn"), (None, "info"), ("large", "info")):
        model.info.extra["image_size"] = theirs
        assert check_image_size(model, data).verdict == verdict


def test_a_usual_normalisation_is_named_and_pixels_far_off_are_a_warning():
    from dataclasses import replace

    model = bcd.build_detector(**tiny_spec().student.model_dump(), num_classes=3)
    assert check_normalisation(model, {}, (0.1, 1.0)).found.startswith("ImageNet")
    model.info = replace(model.info, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    finding = check_normalisation(model, {}, (518.0, 280.0))
    assert finding.verdict == "warn"
    assert "518" in finding.found


def test_detections_are_mapped_into_the_datas_classes_and_others_left_out():
    known = Known.of(ClassMap.by_name(["a", "b", "c"], ["z", "c", "a"]), 3, 3)
    found = Detections(torch.zeros(4, 4), torch.ones(4), torch.tensor([0, 1, 2, 1]))
    assert known.in_data(found).labels_N.tolist() == [2, 0, 2]


def test_the_same_images_are_picked_every_time_and_evenly(cache):
    val = open_data(job().data, cache_dir=cache).val
    assert pick(val, 64).indices == tuple(range(64))
    assert pick(val, 8).indices == pick(val, 8).indices
    gaps = np.diff(pick(val, 8).indices)
    assert (gaps == 8).all()
    with_nines = pick(val, 4, classes={9})
    assert all(9 in record.labels for record in with_nines.records)
