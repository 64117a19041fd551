"""Backbones: every family gives the same grid for images of any size, and refuses what means nothing for it."""

from __future__ import annotations

import builtins
import sys
import types
import urllib.error

import pytest
import torch
import torchvision
from torch import nn

import bcd
from bcd.models.backbones import BACKBONES, Backbone, build_backbone
from bcd.spec import DetectorSpec
from bcd.spec.backbones import BackboneEntry, check_backbone

ONE_OF_EACH = [
    "resnet18",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "convnext_tiny",
    "swin_t",
    "tiny",
]


@pytest.fixture(scope="module")
def built() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {name: build_backbone(name).eval() for name in [*ONE_OF_EACH, "timm:mobilenetv3_small_050"]}


@pytest.mark.parametrize("name", [*ONE_OF_EACH, "timm:mobilenetv3_small_050"])
@pytest.mark.parametrize("size", [(1, 1), (33, 50), (64, 96)])
def test_maps_cover_images_of_any_size(built: dict[str, nn.Module], name: str, size: tuple[int, int]):
    body = built[name]
    with torch.no_grad():
        maps = body(torch.randn(2, 3, *size))
    expected = [(2, c, -(-size[0] // s), -(-size[1] // s)) for c, s in zip(body.channels, (8, 16, 32), strict=True)]
    assert [tuple(m.shape) for m in maps] == expected
    assert body.strides == (8, 16, 32)
    assert all(m.isfinite().all() for m in maps)


@pytest.mark.parametrize("name", sorted(set(BACKBONES) - {"tiny", "resnet34", "resnet101"}))
def test_the_last_map_is_that_of_the_whole_network_and_names_are_torchvisions(name: str):
    torch.manual_seed(0)
    body = build_backbone(name).eval()
    theirs = getattr(torchvision.models, name)(weights=None).eval()
    with torch.no_grad():
        for module in theirs.modules():  # fresh statistics would hide a wrong one
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
    missing, unexpected = body.load_state_dict(theirs.state_dict(), strict=False)
    assert all(key.startswith("norms.") for key in missing)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        last = body(images)[-1]
        if name.startswith("resnet"):
            assert set(unexpected) == {"fc.weight", "fc.bias"}
            torch.testing.assert_close(theirs.fc(last.mean((2, 3))), theirs(images))
        elif name.startswith("mobilenet"):
            assert all(key.startswith(("classifier.", f"features.{len(theirs.features) - 1}.")) for key in unexpected)
            torch.testing.assert_close(theirs.features[-1](last), theirs.features(images))
        else:
            assert all(key.startswith(("classifier.", "norm.", "head.")) for key in unexpected)
            whole = theirs.features(images)
            whole = whole.permute(0, 3, 1, 2) if name == "swin_t" else whole
            standard = (whole - whole.mean(1, keepdim=True)) / whole.std(1, keepdim=True, unbiased=False)
            torch.testing.assert_close(last, standard, atol=1e-2, rtol=1e-2)  # our own LayerNorm, still the identity


@pytest.mark.parametrize("name", ["mobilenet_v2", "swin_t", "convnext_tiny"])
def test_detectors_take_the_new_families_and_train(name: str):
    torch.manual_seed(0)
    model = bcd.build_detector("gfl", backbone=name, num_classes=2, fpn_channels=16, stacked_convs=1)
    out = model(torch.randn(1, 3, 64, 40))
    (out.logits_BAC.sum() + out.boxes_BA4.sum()).backward()
    stuck = [n for n, p in model.backbone.named_parameters() if p.requires_grad and p.grad is None]
    assert not stuck
    assert [f.shape[-2:] for f in out.features][:3] == [(8, 5), (4, 3), (2, 2)]


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "mobilenet_v3_small", "convnext_tiny", "swin_t"])
@pytest.mark.parametrize("stages", [0, 2])
def test_frozen_stages_take_no_gradient_and_the_others_do(name: str, stages: int):
    torch.manual_seed(0)
    body = build_backbone(name, frozen_stages=stages).train()
    parts = body.freezable()
    assert len(parts) == 5
    frozen, free = (
        [p for part in half for p in part.parameters()] for half in (parts[: stages + 1], parts[stages + 1 :])
    )
    assert frozen
    assert not any(p.requires_grad for p in frozen)
    assert all(p.requires_grad for p in free)
    fixed = [b for part in parts[: stages + 1] for b in part.buffers()]
    before = [b.clone() for b in fixed]
    body(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(a, b) for a, b in zip(before, fixed, strict=True))
    leaves = [m for part in parts[: stages + 1] for m in part.modules() if not any(m.children())]
    assert not any(m.training for m in leaves)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "mobilenet_v3_small", "timm:mobilenetv3_small_050"])
def test_norm_eval_keeps_all_statistics(name: str):
    body = build_backbone(name, norm_eval=True).train()
    before = {key: value.clone() for key, value in body.state_dict().items()}
    body(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(value, before[key]) for key, value in body.state_dict().items())
    assert any(p.requires_grad for m in body.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters())
    free = build_backbone(name).train()
    assert any(m.training for m in free.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("swin_t", {"norm_eval": True}, "swin_t has no BatchNorm"),
        ("convnext_tiny", {"norm_eval": True}, "convnext_tiny has no BatchNorm"),
        ("tiny", {"norm_eval": True}, "tiny has no BatchNorm"),
        ("tiny", {"frozen_stages": 0}, "tiny has no stages"),
        ("tiny", {"pretrained": True}, "no pretrained weights for the tiny"),
        ("timm:resnet18", {"frozen_stages": 1}, "timm:resnet18 has no stages"),
        ("vgg", {}, "unknown backbone 'vgg'; known: resnet18.*timm:NAME"),
        ("timm:", {}, "unknown backbone 'timm:'"),
    ],
)
def test_settings_that_mean_nothing_are_refused_by_spec_and_models(name: str, setting: dict, message: str):
    with pytest.raises(ValueError, match=message):
        check_backbone(name, **setting)
    with pytest.raises(ValueError, match=message):
        build_backbone(name, **setting)
    with pytest.raises(ValueError, match=message):
        DetectorSpec(backbone=name, **setting)


@pytest.mark.parametrize(
    ("name", "variant", "message"),
    [
        ("swin_t", {"style": "caffe"}, "swin_t has no style"),
        ("resnet18", {"style": "tensorflow"}, "pytorch or caffe, not 'tensorflow'"),
        ("mobilenet_v3_small", {"top_conv": True}, "no activation or top_conv"),
        ("mobilenet_v2", {"activation": "gelu"}, "relu6 or leaky_relu, not 'gelu'"),
    ],
)
def test_a_variant_that_a_backbone_does_not_have_is_refused(name: str, variant: dict, message: str):
    with pytest.raises(ValueError, match=message):
        build_backbone(name, variant=variant)


def test_adding_a_backbone_is_one_file_and_one_line(monkeypatch: pytest.MonkeyPatch):
    class Mine(Backbone):
        strides, channels = (8, 16, 32), (8, 8, 8)

        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Conv2d(3 if i == 0 else 8, 8, s, s) for i, s in enumerate((8, 2, 2)))

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            out = [images]
            for layer in self.layers:
                out.append(layer(out[-1]))
            return tuple(out[1:])

    file = types.ModuleType("bcd.models.backbones.mine")
    file.VARIANT, file.make = (), lambda name, **_: Mine()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, file.__name__, file)
    monkeypatch.setitem(BACKBONES, "mine", BackboneEntry("mine", batch_norm=False, stages=False, weights=False))
    spec = DetectorSpec(backbone="mine", fpn_channels=8, stacked_convs=0)
    model = bcd.build_detector(**spec.model_dump(), num_classes=2)
    assert len(model(torch.zeros(1, 3, 64, 64)).grid) == 64 + 16 + 4 + 1 + 1
    with pytest.raises(ValueError, match="mine has no BatchNorm"):
        DetectorSpec(backbone="mine", norm_eval=True)


def test_the_schema_names_every_backbone_and_the_pattern_of_timm():
    options = DetectorSpec.model_json_schema()["properties"]["backbone"]["anyOf"]
    assert options[0]["enum"] == list(BACKBONES)
    assert options[1]["pattern"] == "^timm:[A-Za-z0-9_.-]+$"
    assert DetectorSpec(backbone="timm:resnet10t").backbone == "timm:resnet10t"


def test_caffe_style_moves_the_stride_and_nothing_else():
    torch.manual_seed(0)
    plain, caffe = build_backbone("resnet50").eval(), build_backbone("resnet50", variant={"style": "caffe"}).eval()
    assert plain.state_dict().keys() == caffe.state_dict().keys()
    assert [(b.conv1.stride, b.conv2.stride) for b in (plain.layer3[0], caffe.layer3[0])] == [
        ((1, 1), (2, 2)),
        ((2, 2), (1, 1)),
    ]
    assert caffe.layer1[0].conv1.stride == caffe.layer1[0].conv2.stride == (1, 1)
    caffe.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        ours, theirs = plain(images)[0], caffe(images)[0]
    assert ours.shape == theirs.shape
    assert not torch.allclose(ours, theirs)


def test_variants_of_mobilenet_v2():
    body = build_backbone("mobilenet_v2", variant={"top_conv": True, "activation": "leaky_relu", "norm_eps": 1e-3})
    assert body.channels == (32, 96, 1280)
    assert body.eval()(torch.zeros(1, 3, 32, 32))[-1].shape == (1, 1280, 1, 1)
    assert {m.negative_slope for m in body.modules() if isinstance(m, nn.LeakyReLU)} == {0.1}
    assert not any(isinstance(m, nn.ReLU6) for m in body.modules())
    assert {m.eps for m in body.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


def test_pretrained_weights_out_of_reach_are_told_plainly(monkeypatch: pytest.MonkeyPatch):
    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", unreachable)
    for name in ("resnet18", "mobilenet_v3_small"):
        with pytest.raises(RuntimeError, match=rf"ImageNet weights of {name}.*no route to host.*pretrained: false"):
            build_backbone(name, pretrained=True)


class TestTimm:
    def test_channels_last_networks_are_turned(self):
        torch.manual_seed(0)
        body = build_backbone("timm:convnext_atto").eval()
        assert [tuple(m.shape) for m in body(torch.zeros(1, 3, 40, 72))] == [
            (1, 80, 5, 9),
            (1, 160, 3, 5),
            (1, 320, 2, 3),
        ]

    def test_an_unknown_name_is_refused_with_close_ones(self):
        with pytest.raises(ValueError, match=r"timm .* has no model 'resnet8'.*close: resnet"):
            build_backbone("timm:resnet8")

    def test_a_network_without_maps_at_these_strides_is_refused(self):
        with pytest.raises(ValueError, match=r"vit_tiny_patch16_224 cannot serve as a backbone"):
            build_backbone("timm:vit_tiny_patch16_224")

    def test_norm_eval_without_batch_norm_is_refused(self):
        with pytest.raises(ValueError, match="no BatchNorm"):
            build_backbone("timm:convnext_atto", norm_eval=True)

    def test_without_the_library_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch):
        real = builtins.__import__

        def without(name: str, *args: object, **options: object) -> object:
            if name == "timm":
                raise ImportError("No module named 'timm'")
            return real(name, *args, **options)

        monkeypatch.setattr(builtins, "__import__", without)
        with pytest.raises(RuntimeError, match=r"pip install 'bcd\[timm\]'"):
            build_backbone("timm:resnet18")
