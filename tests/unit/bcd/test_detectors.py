"""What every detector must do: names, options, hard input, no wait for the device, one graph, and learning."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import bcd
from bcd import boxes as B
from bcd.assign import common
from bcd.cost import StorageCounter
from bcd.data.digits import open_digits
from bcd.models.build import DETECTORS
from bcd.models.detector import Detector, without_ignored
from bcd.models.files import load_detector, save_detector
from bcd.models.postprocess import PostprocessOptions, postprocess
from bcd.models.sites import site_grid
from bcd.spec import DetectorSpec, SpecError, parse_spec
from bcd.spec.detectors import DETECTORS as FAMILIES
from bcd.types import DenseOutputs, Targets
from tests.helpers.runs import TINY, tiny_spec

ALL = pytest.mark.parametrize("name", DETECTORS)
TINY_NET: dict[str, Any] = {
    "backbone": "tiny", "width": 8, "fpn_channels": 16, "stacked_convs": 1, "strides": (8, 16), "num_classes": 3,
    "prior_scale": 4,
}  # fmt: skip
TERMS = {
    "gfl": {"qfl", "giou", "dfl"},
    "atss": {"focal", "giou", "centerness"},
    "fcos": {"focal", "log_iou", "centerness"},
    "retinanet": {"focal", "l1"},
}


@pytest.fixture(autouse=True)
def one_thread():
    """The nets are too small for two: waiting for each other would take longer than the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(name: str, **changes: Any) -> Detector:
    torch.manual_seed(0)
    return bcd.build_detector(name, **{**TINY_NET, **changes})


def batch(boxes: list[list[list[float]]], size: tuple[int, int] = (64, 96), classes: int = 3) -> Targets:
    most = max(len(b) for b in boxes)
    padded, valid = torch.zeros(len(boxes), most, 4), torch.zeros(len(boxes), most, dtype=torch.bool)
    for i, of_image in enumerate(boxes):
        if of_image:
            padded[i, : len(of_image)], valid[i, : len(of_image)] = torch.tensor(of_image), True
    labels = torch.arange(most).expand(len(boxes), most) % classes
    return Targets(padded, labels, valid, torch.tensor([size] * len(boxes)))


def images(size: tuple[int, int] = (64, 96), count: int = 2) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


def losses(model: Detector, pixels: Tensor, targets: Targets) -> dict[str, Tensor]:
    out = model(pixels)
    return model.task_loss(out, targets, model.assign(out, targets))


NORMAL = [[[5.0, 5, 30, 30], [40, 10, 60, 50]], [[10.0, 2, 80, 60]]]


@ALL
def test_the_spec_describes_the_detectors_that_are_built(name: str):
    """The spec's list is what a pair is judged by before anything is built."""
    family, out = FAMILIES[name], build(name, prior_scale=None)(images())
    assert family.distributions == (out.dist_BA4R is not None)
    assert family.centerness == (out.centerness_BA is not None)
    side = (out.grid.prior_A4[0, 2:] - out.grid.prior_A4[0, :2]).prod().sqrt() / out.grid.stride_A[0]
    assert side.item() == pytest.approx(family.prior_scale)
    assert set(family.options) <= set(DetectorSpec.model_fields)


def test_an_unknown_detector_is_refused_with_the_known_ones():
    with pytest.raises(SpecError, match="/student/detector: unknown detector 'yolo'; known: gfl, atss, fcos"):
        parse_spec({**TINY, "student": {"detector": "yolo"}})


@ALL
def test_every_detector_names_its_parts_as_the_converters_expect(name: str):
    model = build(name, strides=(8, 16, 32, 64), stacked_convs=2)
    names = set(model.state_dict())
    assert {"head.cls.weight", "head.reg.bias", "head.cls_tower.1.conv.weight", "fpn.outputs.3.weight"} <= names
    assert ("head.centerness.weight" in names) == (name in ("atss", "fcos"))
    assert ("head.scales.3.scale" in names) == (name != "retinanet")
    assert ("head.reg_tower.0.gn.weight" in names) == (name != "retinanet")
    assert ("head.reg_tower.0.conv.bias" in names) == (name == "retinanet")
    anchors = 9 if name == "retinanet" else 1
    assert model.head.cls.out_channels == anchors * 3


@ALL
def test_a_spec_builds_it_and_a_file_brings_it_back(name: str, tmp_path):
    spec = DetectorSpec(detector=name, **{k: v for k, v in TINY_NET.items() if k != "num_classes"})
    options = {"centre_offset": 0.25, "gn_eps": 1e-3, "head_bias": True, "score": "sqrt"}
    torch.manual_seed(0)
    model = bcd.build_detector(**spec.model_dump(), class_names=["a", "b"], variant=options).eval()
    again = load_detector(save_detector(model, tmp_path / "student.safetensors"))
    assert again.info == model.info
    assert again.options == model.options
    with torch.no_grad():
        one, other = model(images()), again(images())
    assert torch.equal(one.boxes_BA4, other.boxes_BA4)
    assert torch.equal(one.logits_BAC, other.logits_BAC)
    assert again.info.arguments["variant"] == options
    assert one.grid.offset == 0.25


def test_options_of_another_detector_are_refused():
    for option, value, owner in [
        ("centre_sampling", 1.0, "fcos"), ("anchor_ratios", [1.0], "retinanet"), ("negative_iou", 0.3, "retinanet"),
    ]:  # fmt: skip
        assert getattr(DetectorSpec(detector=owner, **{option: value}), option) is not None
        with pytest.raises(SpecError, match=f"{option} is an option of {owner}; gfl has no use for it"):
            parse_spec({**TINY, "student": {**TINY["student"], option: value}})
    with pytest.raises(SpecError, match=r"negative_iou 0\.45 must not be above positive_iou 0\.42"):
        parse_spec({**TINY, "student": {"detector": "retinanet", "negative_iou": 0.45, "positive_iou": 0.42}})
    with pytest.raises(SpecError, match="box_loss l1 is RetinaNet's"):
        parse_spec({**TINY, "student": {"detector": "fcos", "box_loss": "l1"}})


def test_unknown_variants_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown key 'norm'.*head_norm"):
        build("fcos", variant={"norm": "gn"})
    with pytest.raises(ValueError, match="box_code must be one of exp, relu, not 'log'"):
        build("fcos", variant={"box_code": "log"})
    with pytest.raises(ValueError, match="box_stds must be four numbers"):
        build("atss", variant={"box_stds": [1, 2]})
    with pytest.raises(ValueError, match="fpn_relu must be true or false"):
        build("atss", variant={"fpn_relu": 1})
    with pytest.raises(ValueError, match="gn_groups 3 does not divide the 16 channels"):
        build("atss", variant={"gn_groups": 3})


@ALL
def test_boxes_are_fp32_and_the_same_bits_when_a_head_goes_on_from_a_trace(name: str):
    model = build(name, stacked_convs=2).eval()
    with torch.no_grad():
        out = model(images(), (0, 1, 2))
        for depth in range(3):
            again = model.continue_from(out.trace_at(depth), out)
            assert torch.equal(again.boxes_BA4, out.boxes_BA4)
            assert torch.equal(again.logits_BAC, out.logits_BAC)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert model(images()).boxes_BA4.dtype == torch.float32


@ALL
def test_all_terms_are_there_and_reach_every_parameter(name: str):
    model = build(name)
    terms = losses(model, images(), batch(NORMAL))
    assert set(terms) == TERMS[name]
    assert all(value.ndim == 0 and value.dtype == torch.float32 and value > 0 for value in terms.values())
    sum(terms.values()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


HARD: dict[str, tuple[list[list[list[float]]], tuple[int, int], int]] = {
    "no box": ([[], []], (64, 96), 3),
    "one image without": ([NORMAL[0], []], (64, 96), 3),
    "a thousand": ([[[i % 80, i % 50, i % 80 + 3 + i % 13, i % 50 + 4 + i % 9] for i in range(1000)], []], (64, 96), 3),
    "a tenth of a pixel": ([[[5.0, 5, 5.1, 5.1], [16, 16, 16.1, 16.1]], [[90, 60, 90.1, 60.1]]], (64, 96), 3),
    "without area": ([[[5.0, 5, 5, 30], [0, 0, 0, 0]], [[90, 60, 90, 60]]], (64, 96), 3),
    "one row": ([[[10.0, 0, 900, 1], [3000, 0, 4000, 1]], []], (1, 4000), 3),
    "one class": (NORMAL, (64, 96), 1),
    "a thousand classes": (NORMAL, (64, 96), 1000),
}


@pytest.mark.parametrize("case", HARD)
@ALL
def test_hard_input_trains(name: str, case: str):
    boxes, size, classes = HARD[case]
    model = build(name, num_classes=classes)
    targets = batch(boxes, size, classes)
    height = max(size[0], 32)
    terms = losses(model, images((height, size[1])), targets)
    total = sum(terms.values())
    total.backward()
    assert torch.isfinite(total)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert model.head.cls.weight.grad.abs().sum() > 0  # at least the background is learnt


@ALL
def test_no_padded_box_counts_and_empty_batches_are_all_alike(name: str):
    model = build(name)
    none = losses(model, images(), batch([[], []]))
    three = batch([[[0.0, 0, 0, 0]] * 3] * 2)
    padded = losses(model, images(), replace(three, valid_BG=torch.zeros_like(three.valid_BG)))
    assert {k: v.item() for k, v in none.items()} == {k: v.item() for k, v in padded.items()}
    assert sum(v.item() > 0 for v in none.values()) == 1  # classification alone


@ALL
def test_images_without_labels_take_no_part_in_the_task_loss(name: str):
    model = build(name).eval()
    both = batch([NORMAL[0], NORMAL[1]])
    unlabelled = Targets(both.boxes_BG4, both.labels_BG, both.valid_BG, both.sizes_B2,
                         torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.5]))  # fmt: skip
    alone = Targets(*(t[:1] for t in (both.boxes_BG4, both.labels_BG, both.valid_BG, both.sizes_B2)))
    expected, found = losses(model, images()[:1], alone), losses(model, images(), unlabelled)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value)
    assigned = model.assign(model(images()), unlabelled)
    assert not assigned.positive_BA[1].any()
    assert assigned.site_weight_BA[1].max() == 0.5
    torch.testing.assert_close(assigned.distill_divisor, 2 * assigned.positives)


def test_many_ignored_objects_take_memory_that_is_linear_in_sites(monkeypatch: pytest.MonkeyPatch):
    model, targets = build("retinanet"), batch(NORMAL)
    out = model(images())
    assigned = model.assign(out, targets)
    monkeypatch.setattr(common, "CPU_PAIRS", 50 * len(out.grid))
    corner = torch.rand(2, 1000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([90.0, 60.0])
    crowd = torch.cat([corner, corner + 3], -1)
    peaks = {}
    for count in (100, 1000):
        with StorageCounter() as counter:
            found = without_ignored(assigned, out.grid, replace(targets, ignored_BI4=crowd[:, :count]))
        peaks[count] = counter.peak
    assert peaks[1000] < 1.5 * peaks[100]
    centre_A12, crowd_B1I4 = out.grid.centre_A2[:, None], crowd[:, None]
    inside_BA = ((centre_A12 > crowd_B1I4[..., :2]) & (centre_A12 < crowd_B1I4[..., 2:])).all(-1).any(-1)
    assert inside_BA.any()
    assert torch.equal(found.task_weight == 0, (assigned.task_weight == 0) | (inside_BA & ~assigned.positive_BA))


@ALL
def test_distillation_divides_alike_however_labelled_images_are_shared_out(name: str, monkeypatch: pytest.MonkeyPatch):
    """Two processes, one with two labelled images of three, one with one of three, against one process with all."""
    model, boxes = build(name), [NORMAL[0], NORMAL[1], [], NORMAL[1], [], []]
    whole = replace(batch(boxes), labelled_B=torch.tensor([1.0, 1, 0, 1, 0, 0]))
    parts = [replace(batch(boxes[i : i + 3]), labelled_B=whole.labelled_B[i : i + 3]) for i in (0, 3)]
    expected = model.assign(model(images(count=6)), whole)
    sent: list[list[Tensor]] = []

    def record(value: Tensor, least: float | None = None) -> Tensor:
        sent[-1].append(value)
        return value

    monkeypatch.setattr("bcd.models.detector.mean_over_processes", record)
    for part in parts:
        sent.append([])
        model.assign(model(images(count=3)), part)
    means = iter([sum(pair) / 2 for pair in zip(*sent, strict=True)])
    monkeypatch.setattr("bcd.models.detector.mean_over_processes", lambda value, least=None: next(means))
    found = model.assign(model(images(count=3)), parts[0])
    torch.testing.assert_close(2 * found.distill_divisor, expected.distill_divisor)
    torch.testing.assert_close(2 * found.positives, expected.positives)


@ALL
def test_without_any_labelled_image_distillation_divides_by_the_images(name: str):
    model = build(name)
    none = replace(batch([[], [], []]), labelled_B=torch.zeros(3), distill_B=torch.ones(3))
    assert model.assign(model(images(count=3)), none).distill_divisor == 3


@ALL
def test_positives_count_an_empty_image_as_one_except_fcos(name: str):
    model = build(name)
    assigned = model.assign(model(images()), batch([NORMAL[0], []]))
    extra = 0 if name == "fcos" else 1
    assert assigned.positives == assigned.positive_BA.sum() + extra
    assert model.assign(model(images()), batch([[], []])).positives == 1 + extra


def test_the_centerness_of_a_box_is_its_weight_in_the_box_loss():
    for name, weight in (("atss", 2.0), ("fcos", 1.0)):
        model = build(name, box_loss="giou")
        out = model(images())
        assigned = model.assign(out, batch(NORMAL))
        found = model.task_loss(out, batch(NORMAL), assigned)["giou"].item()
        total = divisor = 0.0
        for b, a in assigned.positive_BA.nonzero().tolist():
            left, top, right, bottom = B.to_distances(out.grid.centre_A2[a], assigned.box_BA4[b, a]).tolist()
            share = (min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom)) ** 0.5
            total += share * (1 - B.giou(out.boxes_BA4[b, a], assigned.box_BA4[b, a]).item())
            divisor += share
        assert found == pytest.approx(weight * total / (max(divisor, 1) if name == "atss" else divisor), rel=1e-4)


@pytest.mark.parametrize("kind", ["iou", "log_iou", "giou", "diou", "ciou"])
@ALL
def test_every_box_loss_can_be_chosen(name: str, kind: str):
    terms = losses(build(name, box_loss=kind), images(), batch(NORMAL))
    assert kind in terms
    assert torch.isfinite(terms[kind])


def test_a_ranking_by_product_chooses_by_class_and_one_by_root_by_both():
    out = build("fcos")(images())
    logits = torch.full_like(out.logits_BAC, -9.0)
    logits[0, 0, 1], logits[0, 1, 2] = 0.0, 2.0
    centerness = torch.full_like(out.centerness_BA, -3.0)
    centerness[0, 0] = 3.0
    one = DenseOutputs(logits, out.boxes_BA4, None, centerness, (), out.grid)
    options = PostprocessOptions(score_threshold=0.4, nms_iou=1.0)
    product = postprocess(one, torch.tensor([[64, 96]] * 2), options)[0]
    p = [torch.tensor(v).sigmoid().item() for v in (0.0, 3.0, 2.0, -3.0)]
    assert product.scores_N.tolist() == pytest.approx([p[0] * p[1], p[2] * p[3]])  # 0.042 is below the threshold
    root = postprocess(replace(one, score="sqrt"), torch.tensor([[64, 96]] * 2), options)[0]
    assert root.scores_N.tolist() == pytest.approx([(p[0] * p[1]) ** 0.5])


class NoSync(TorchDispatchMode):
    """Refuses operators whose result the host must wait for, and tensors made from the host's numbers."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().split(".")[0]
        waits = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::unique_dim",
                 "aten::_unique2", "aten::equal", "aten::lift_fresh", "aten::is_nonzero", "aten::bincount"}  # fmt: skip
        if name in ("aten::index", "aten::index_put", "aten::index_put_"):
            masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
            assert not masks, f"{name} with a mask"
        assert name not in waits, name
        return func(*args, **(kwargs or {}))


@ALL
def test_nothing_from_images_to_losses_waits_for_the_device(name: str):
    model, targets, none = build(name), batch(NORMAL), batch([[], []])
    pixels = (images() * 50 + 100).clamp(0, 255).to(torch.uint8)
    model(model.normalize(pixels))  # grids and constants are made once
    with NoSync():
        losses(model, model.normalize(pixels), targets)
        losses(model, model.normalize(pixels), none)
    mask = torch.tensor([True, False, True])
    for wait in (lambda: mask.nonzero(), lambda: mask[mask], lambda: mask.any().item(), lambda: torch.tensor(1.0)):
        with NoSync(), pytest.raises(AssertionError):
            wait()


def test_a_new_size_is_copied_to_the_device_without_waiting():
    waits: list[bool] = []

    class Copies(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if func.name() == "aten::_to_copy" and args[0].device != kwargs.get("device", args[0].device):
                waits.append(not kwargs.get("non_blocking"))
            return func(*args, **kwargs)

    model, meta = build("retinanet"), torch.device("meta")
    model.info = replace(model.info, mean=(1.0, 2.0, 3.5))  # neither was asked for before
    with Copies():
        site_grid([(3, 5), (2, 3)], model.strides, meta, model.priors)
        model.normalize(torch.zeros(1, 3, 24, 40, dtype=torch.uint8, device=meta))
    assert waits == [False] * 6


@ALL
def test_images_to_losses_trace_as_one_graph_and_give_the_same_numbers(name: str):
    model, targets = build(name), batch(NORMAL)

    def step(pixels: Tensor) -> dict[str, Tensor]:
        return losses(model, model.normalize(pixels), targets)

    pixels = (images() * 50 + 100).clamp(0, 255).to(torch.uint8)
    torch.compiler.reset()
    found = torch.compile(step, fullgraph=True, backend="eager")(pixels)
    for key, value in step(pixels).items():
        torch.testing.assert_close(found[key], value)


@pytest.fixture(scope="module")
def scenes() -> tuple[Tensor, Targets]:
    """Four scenes of digits."""
    data = open_digits(tiny_spec(**{"data.train_images": 4, "data.val_images": 1}).data).train
    pixels = torch.stack([torch.from_numpy(data.load_image(i).copy()) for i in range(4)]).permute(0, 3, 1, 2)
    targets = batch([record.boxes.tolist() for record in data.records], (64, 64))
    for i, record in enumerate(data.records):
        targets.labels_BG[i, : len(record.labels)] = torch.from_numpy(record.labels)
    return pixels, targets


@ALL
def test_each_detector_learns_a_few_images_by_heart(name: str, scenes: tuple[Tensor, Targets]):
    pixels, targets = scenes
    model = build(name, num_classes=10, prior_scale=2 if name == "retinanet" else 4)  # digits are small
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    history = []
    for _ in range(30):
        terms = losses(model, model.normalize(pixels), targets)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        history.append({k: v.item() for k, v in terms.items()})
    first, last = history[0], history[-1]
    boxes = next(key for key in first if key in ("giou", "log_iou", "l1"))
    assert last[boxes] < 0.6 * first[boxes]
    if "focal" in first:
        assert last["focal"] < 0.6 * first["focal"]
    with torch.no_grad():
        out = model(model.normalize(pixels))
    assigned = model.assign(out, targets)
    score_BA = out.logits_BAC.sigmoid().gather(-1, assigned.label_BA.clamp(max=9)[..., None])[..., 0]
    assert score_BA[assigned.positive_BA].mean() > 3 * out.logits_BAC[~assigned.positive_BA].sigmoid().mean()
