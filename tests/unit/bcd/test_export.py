"""Every detector in every format says what the detector itself says, at sizes and batches it was not traced with."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch

import bcd
from bcd.api import run_job
from bcd.export import ExportError, MissingExtra, export_detector, read_metadata
from bcd.export.graph import detect
from bcd.export.onnx_file import OnnxSession, write_onnx
from bcd.export.parity import as_detections, compare, partners
from bcd.export.program import Program, export_program, read_program, write_program
from bcd.models.detector import Detector
from bcd.models.files import save_detector
from bcd.models.postprocess import PostprocessOptions
from bcd.types import Detections
from tests.helpers.runs import MemorySink, tiny_spec

pytest.importorskip("onnxruntime")

DETECTORS = ("gfl", "atss", "fcos", "retinanet")
OPTIONS = PostprocessOptions(score_threshold=0.3, candidates_per_level=60, max_detections=20)
IMAGES = [(1, 64, 64), (3, 96, 160)]  # batch, height, width: none of them that of the trace


def make(name: str = "gfl", classes: int = 4) -> Detector:
    """A small detector whose class scores are spread over (0, 1)."""
    torch.manual_seed(0)
    model = bcd.build_detector(
        name, backbone="tiny", width=8, fpn_channels=8, stacked_convs=1, strides=(8, 16), reg_max=4,
        class_names=[f"class {n}" for n in range(classes)],
    ).eval()  # fmt: skip
    # RetinaNet's towers have no norm: what they give is small.
    for layer, spread in ((model.head.cls, 2.0 if name == "retinanet" else 0.5), (model.head.reg, 0.2)):
        torch.nn.init.normal_(layer.weight, std=spread)
    return model


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    draw = torch.Generator().manual_seed(5)
    return [
        (torch.rand(b, 3, h, w, generator=draw) * 255, torch.tensor([[h - 9.0 * i, w - 3.0] for i in range(b)]))
        for b, h, w in IMAGES
    ]


# Each costs seconds. A graph up to detections holds the raw one; of these, one has a centerness and one has not.
GRAPHS = [(name, True) for name in DETECTORS] + [("gfl", False), ("atss", False)]


@pytest.fixture(scope="module", params=GRAPHS, ids=str)
def program(request: pytest.FixtureRequest) -> Program:
    name, nms = request.param
    made = export_program(make(name), nms=OPTIONS if nms else None, size=None, example=(64, 96))
    assert made.remark is None  # height and width stay open
    return made


def test_an_onnx_file_says_what_torch_says(program, tmp_path):
    path = tmp_path / "model.onnx"
    write_onnx(
        program.exported, path, inputs=program.inputs, outputs=program.graph.outputs, axes=program.axes, metadata={}
    )
    session = OnnxSession(path, 1)
    assert session.inputs == list(program.inputs)
    assert session.outputs == list(program.graph.outputs)
    _assert_same(program, session)
    assert str(Path(bcd.__file__).parent).encode() not in path.read_bytes()  # nothing of this machine


def test_a_torch_program_says_what_torch_says(program, tmp_path):
    write_program(program, tmp_path / "model.pt2", {})
    _assert_same(program, read_program(tmp_path / "model.pt2"))


def _assert_same(program: Program, run) -> None:
    parity = compare(program, run, batches())
    assert parity.passed, parity
    assert parity.images == 4
    if "sizes" in program.inputs:
        assert parity.detections > 20
    else:
        assert set(parity.differences) == set(program.graph.outputs)

    def wrong(*inputs):
        return tuple(value * 1.01 if value.is_floating_point() else value for value in run(*inputs))

    assert not compare(program, wrong, batches()).passed


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("limit", [5, 20, 1000])
def test_the_graphs_detections_are_those_of_bcd_as_sets(name, limit):
    model, options = make(name), PostprocessOptions(0.3, 60, 0.5, limit)
    for images, sizes in batches():
        pixels = model.normalize(images)
        with torch.no_grad():
            ours = as_detections(detect(model(pixels), sizes, options, model.options.variant.score))
        theirs = model.predict(pixels, sizes, options)
        for mine, other in zip(ours, theirs, strict=True):
            assert len(mine.scores_N) == len(other.scores_N) > 0
            same = partners(mine, other, longest=1.0)
            assert same.any(0).all()
            assert same.any(1).all()


def test_partners_need_class_score_and_box():
    one = Detections(torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([0.5]), torch.tensor([1]))
    for box, score, label, same in (
        ([0.0, 0, 10, 10], 0.5, 1, True), ([0.0, 0, 10, 10.2], 0.5, 1, False), ([0.0, 0, 10, 10], 0.51, 1, False),
        ([0.0, 0, 10, 10], 0.5, 2, False),
    ):  # fmt: skip
        other = Detections(torch.tensor([box]), torch.tensor([score]), torch.tensor([label]))
        assert bool(partners(one, other, longest=100.0)[0, 0]) is same


def test_parity_does_not_pass_with_values_that_are_no_numbers():
    program = export_program(make(), nms=None, size=(64, 64), example=(64, 64))
    nothing = compare(program, lambda x: [v * float("nan") for v in program.graph(x)], [batches()[0]])
    assert not nothing.passed


# --- whole exports -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    return run_job(tiny_spec(), workdir=tmp_path_factory.mktemp("run"), sink=MemorySink(), data_cache=cache).path


def test_an_eight_bit_model_runs_and_its_change_of_ap_is_told(student, cache, tmp_path):
    spec = tiny_spec()
    report = export_detector(
        student, int8=True, nms=True, out=tmp_path, data=spec.data, evaluation=spec.evaluation, images=4,
        data_cache=cache, repeats=2,
    )  # fmt: skip
    values = json.loads((tmp_path / "student.nms.int8.onnx.json").read_text())
    assert values == json.loads(json.dumps(report.as_dict()))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["student.nms.int8.onnx", "student.nms.int8.onnx.json"]
    assert set(values["latency"]["runs"]) == {"torch", "onnxruntime", "int8"}
    assert values["accuracy"]["images"] == 4
    assert "; sizes: float32 (batch, 2)" in values["input"]
    assert "AP_change" in values["accuracy"]["int8"]
    assert values["parity"]["passed"]
    assert values["parity"]["images"] > 6  # noise and real images
    assert len(values["int8"]["kept_in_fp32"]) >= 2
    assert values["int8"]["difference_from_torch"]["scores"] >= 0
    onnx = importlib.import_module("onnx")
    graph = onnx.load(str(report.path)).graph
    assert sum(node.op_type == "QuantizeLinear" for node in graph.node) > 3
    assert [
        len(output) for output in OnnxSession(report.path)(torch.zeros(2, 3, 64, 64), torch.full((2, 2), 64.0))
    ] == [2] * 4
    assert read_metadata(report.path)["int8"] is True


def test_a_file_carries_all_that_is_needed_to_use_it(student, tmp_path):
    report = export_detector(student, size=(64, 96), out=tmp_path, repeats=1)
    found, model = read_metadata(report.path), bcd.load_detector(student)
    assert found["class_names"] == list(model.info.class_names)
    assert found["normalisation"] == {"in_graph": True, "mean": list(model.info.mean), "std": list(model.info.std)}
    assert found["size"] == [64, 96]
    assert found["nms"] is None
    assert len(found["source_sha256"]) == 64
    assert found["outputs"] == ["logits", "boxes"]
    session = OnnxSession(report.path)
    image = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    logits, boxes = session(image.float())
    with torch.no_grad():
        expected = model(model.normalize(image))
    torch.testing.assert_close(logits, expected.logits_BAC, atol=1e-4, rtol=0)
    torch.testing.assert_close(boxes, expected.boxes_BA4, atol=1e-3, rtol=0)


def test_a_file_that_differs_is_not_written(student, tmp_path, monkeypatch):
    class Wrong(OnnxSession):
        def __call__(self, *tensors):
            return tuple(value + 1 for value in super().__call__(*tensors))

    monkeypatch.setattr("bcd.export.run.OnnxSession", Wrong)
    with pytest.raises(ExportError, match=r"differs from the detector.*nothing was written"):
        export_detector(student, size=(64, 64), out=tmp_path, repeats=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"int8": True}, "give --data SPEC"),
        ({"int8": True, "format": "torch"}, "need ONNX"),
        ({"size": (100, 64)}, "multiples of 32"),
        ({"format": "caffe"}, "unknown format"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(tmp_path, given, message):
    with pytest.raises(ExportError, match=message):
        export_detector(save_detector(make(), tmp_path / "m.safetensors"), **given)


def test_without_the_extra_the_message_says_what_to_install(tmp_path, monkeypatch):
    path, real = save_detector(make(), tmp_path / "m.safetensors"), importlib.import_module

    def without_onnx(name: str, *rest):
        if name.startswith("onnx"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without_onnx)
    with pytest.raises(MissingExtra, match=r"pip install 'bcd\[export\]'"):
        export_detector(path, out=tmp_path)
    report = export_detector(path, format="torch", size=(64, 64), out=tmp_path, repeats=1)
    assert report.path.name == "m.pt2"
