"""MMDetection's checkpoints as ours: every key is used, and what the file says about itself is obeyed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.swin_transformer import PatchMerging

import bcd
from bcd.models.adapters import AdapterError, Overrides
from bcd.models.adapters.configs import parse_config
from bcd.models.adapters.mmdet import convert_state_dict, read
from bcd.models.adapters.mmdet_backbones import _merged_order
from bcd.models.backbones import build_backbone
from tests.helpers.foreign import ANCHOR_OPTIONS, config, mmdet_state
from tests.helpers.golden import golden_images, golden_model, golden_state_dict

DETECTORS = ["gfl", "atss", "fcos", "retinanet"]
NAMES = ("cat", "dog", "cow")
TYPES = {"gfl": ("GFL", "GFLHead"), "atss": ("ATSS", "ATSSHead"), "fcos": ("FCOS", "FCOSHead"),
         "retinanet": ("RetinaNet", "RetinaHead")}  # fmt: skip
RETINA_OPTIONS = (
    "anchor_generator=dict(type='AnchorGenerator', octave_base_scale=4, scales_per_octave=3, ratios=[0.5, 1.0, 2.0], "
    "strides=[8, 16, 32, 64, 128])"
)


def checkpoint(detector: str, options: str | None = None, *, version: int = 2, **changes) -> dict:
    """As 2.x or 3.x saves it: metadata around the state dict."""
    options = options or {"retinanet": RETINA_OPTIONS, "fcos": "center_sampling=True"}.get(detector, ANCHOR_OPTIONS)
    extra = "on_input" if detector == "retinanet" else "on_output"
    text = config(*TYPES[detector], options, version=version, extra=changes.pop("extra", extra), **changes)
    state = mmdet_state(detector)
    if version == 2:
        return {"state_dict": state, "meta": {"CLASSES": NAMES, "config": text, "mmdet_version": "2.28.2"}}
    meta = {"dataset_meta": {"classes": NAMES, "palette": [(0, 0, 0)]}, "cfg": text}
    return {"state_dict": state, "meta": meta, "message_hub": {}}


@pytest.mark.parametrize("detector", DETECTORS)
def test_every_key_is_used_once_and_loads_strictly(detector: str):
    state = mmdet_state(detector)
    ours = convert_state_dict({"state_dict": state, "meta": {}}, detector=detector, num_classes=3)
    model = bcd.build_detector(detector, backbone="resnet18", num_classes=3)
    model.load_state_dict(ours, strict=True)
    constants = {"bbox_head.integral.project"} if detector == "gfl" else set()
    assert len(ours) == len(set(state) - constants)
    assert {id(v) for v in ours.values()} <= {id(v) for v in state.values()}
    assert torch.equal(model.head.cls_tower[2].conv.weight, state["bbox_head.cls_convs.2.conv.weight"])
    assert torch.equal(model.head.reg_tower[3].conv.weight, state["bbox_head.reg_convs.3.conv.weight"])
    assert torch.equal(model.fpn.laterals[1].bias, state["neck.lateral_convs.1.conv.bias"])
    assert torch.equal(model.fpn.outputs[4].bias, state["neck.fpn_convs.4.conv.bias"])


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("version", [2, 3])
def test_a_checkpoint_of_either_version_says_everything_itself(detector: str, version: int):
    foreign = read(checkpoint(detector, version=version))
    assert foreign.assumed == ()
    assert foreign.class_names == NAMES
    assert foreign.mean == (123.675, 116.28, 103.53)
    model = foreign.build()
    assert model.info.class_names == NAMES
    assert model.info.extra["test"]["nms"]["iou_threshold"] == 0.6
    with torch.no_grad():
        out = model(torch.randn(1, 3, 64, 64))
    assert out.logits_BAC.shape[-1] == 3
    assert out.boxes_BA4.isfinite().all()


def test_gfl_of_the_goldens_is_read_as_it_was():
    foreign = read({"state_dict": golden_state_dict(), "meta": {"CLASSES": tuple(map(str, range(80)))}})
    with torch.no_grad():
        found, expected = (model(golden_images()[:1, :, :96, :96]) for model in (foreign.build(), golden_model()))
    assert torch.equal(found.logits_BAC, expected.logits_BAC)
    assert torch.equal(found.boxes_BA4, expected.boxes_BA4)


def test_caffe_weights_are_turned_to_rgb():
    state = checkpoint("fcos", style="caffe", bgr=True, relu=True)
    foreign = read(state)
    stem = state["state_dict"]["backbone.conv1.weight"]
    assert foreign.mean == (122.7717, 115.9465, 102.9801)
    assert foreign.std == (1.0, 1.0, 1.0)
    assert foreign.arguments["variant"]["style"] == "caffe"
    assert foreign.arguments["variant"]["fpn_relu"] is True
    model = foreign.build()
    rgb = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    theirs = F.conv2d(
        rgb.flip(1).float() - torch.tensor([102.9801, 115.9465, 122.7717]).view(3, 1, 1), stem, None, 2, 3
    )
    torch.testing.assert_close(model.backbone.conv1(model.normalize(rgb)), theirs, atol=1e-3, rtol=1e-4)
    assert torch.equal(convert_state_dict(state, "fcos")["backbone.conv1.weight"], stem.flip(1))
    assert torch.equal(convert_state_dict(state["state_dict"], "fcos")["backbone.conv1.weight"], stem)
    assert torch.equal(convert_state_dict(state, "fcos", bgr=False)["backbone.conv1.weight"], stem)


@pytest.mark.parametrize(
    ("options", "variant"),
    [
        ("center_sampling=True", {"box_code": "exp", "centerness_on": "cls"}),
        ("norm_on_bbox=True, centerness_on_reg=True, conv_bias=True", {"box_code": "relu", "centerness_on": "reg"}),
    ],
)
def test_box_code_and_place_of_centerness_are_the_configurations(options: str, variant: dict):
    saved = checkpoint("fcos", options)
    if "conv_bias" in options:
        biases = {f"bbox_head.{t}_convs.{i}.conv.bias": torch.randn(256) for t in ("cls", "reg") for i in range(4)}
        saved["state_dict"] |= biases
        variant = {**variant, "head_bias": True}
    foreign = read(saved)
    assert variant.items() <= foreign.arguments["variant"].items()
    if "conv_bias" in options:
        found = foreign.build().head.cls_tower[1].conv.bias
        assert torch.equal(found, biases["bbox_head.cls_convs.1.conv.bias"])


def test_anchors_and_codes_are_the_configurations():
    atss = read(checkpoint("atss", ANCHOR_OPTIONS.replace("octave_base_scale=8", "octave_base_scale=6")))
    assert atss.arguments["prior_scale"] == 6.0
    assert atss.arguments["variant"]["box_stds"] == [0.1, 0.1, 0.2, 0.2]
    with pytest.raises(AdapterError, match="box code is TBLRBBoxCoder"):
        read(checkpoint("atss", ANCHOR_OPTIONS.replace("DeltaXYWHBBoxCoder", "TBLRBBoxCoder")))
    retina = read(checkpoint("retinanet"))
    assert (retina.arguments["prior_scale"], retina.arguments["anchors_per_octave"]) == (4.0, 3)
    assert retina.arguments["variant"]["fpn_extra"] == "input"
    shared = {**mmdet_state("retinanet", extra="output")}
    assert read({"state_dict": shared}).arguments["variant"]["fpn_extra"] == "output"


def test_what_a_bare_state_dict_leaves_open_is_told_and_can_be_given():
    foreign = read(mmdet_state("fcos", backbone="resnet50"))
    assert foreign.class_names is None
    text = "; ".join(foreign.assumed)
    assert "BGR" in text
    assert "style caffe" in text
    assert "box code exp" in text
    with pytest.raises(AdapterError, match="does not name its 3 classes"):
        foreign.build()
    given = Overrides(class_names=NAMES, style="pytorch", bgr=False, mean=(1, 2, 3), std=(4, 5, 6),
                      variant={"box_code": "relu"})  # fmt: skip
    foreign = read(mmdet_state("fcos", backbone="resnet50"), given)
    assert (foreign.mean, foreign.std) == ((1, 2, 3), (4, 5, 6))
    model = foreign.build()
    assert model.info.arguments["variant"]["box_code"] == "relu"
    assert "style" not in model.info.arguments["variant"]


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_the_depth_of_a_resnet_comes_from_its_keys(name: str):
    from tests.helpers.foreign import head, resnet

    shapes, widths = resnet(int(name[6:]))
    with torch.device("meta"):
        state = {f"backbone.{k}": torch.empty(s) for k, s in shapes.items()}
        state |= {k: torch.empty(s) for k, s in head("atss", 80).items()}
        for i, width in enumerate(widths):
            state |= {f"neck.lateral_convs.{i}.conv.weight": torch.empty(256, width, 1, 1)}
            state |= {f"neck.lateral_convs.{i}.conv.bias": torch.empty(256)}
        for i in range(5):
            state |= {f"neck.fpn_convs.{i}.conv.weight": torch.empty(256, 256, 3, 3)}
            state |= {f"neck.fpn_convs.{i}.conv.bias": torch.empty(256)}
        foreign = read(state)
    assert foreign.arguments["backbone"] == name
    foreign.check()
    assert foreign.class_names is not None  # 80 classes are COCO's
    assert foreign.class_names[0] == "person"


def test_missing_unknown_and_misshapen_keys_are_all_listed():
    state = mmdet_state("atss")
    with pytest.raises(ValueError, match=r"2 parameters do not belong.*bbox_head\.mask, neck\.extra"):
        convert_state_dict({**state, "bbox_head.mask": torch.zeros(1), "neck.extra": torch.zeros(1)}, "atss")
    with pytest.raises(
        ValueError, match=r"1 parameters do not belong.*backbone\.layer2\.0\.conv2\.conv_offset\.weight"
    ):
        convert_state_dict({**state, "backbone.layer2.0.conv2.conv_offset.weight": torch.zeros(1)}, "atss")
    gone = ("bbox_head.atss_centerness.bias", "backbone.layer4.1.bn2.weight", "bbox_head.scales.3.scale")
    short = {k: v for k, v in state.items() if k not in gone}
    short["bbox_head.atss_reg.weight"] = torch.zeros(4, 128, 3, 3)
    with pytest.raises(ValueError, match="4 faults") as caught:
        convert_state_dict(short, "atss")
    for text in ("missing head.centerness.bias", "missing backbone.layer4.1.bn2.weight", "missing head.scales.3.scale",
                 "head.reg.weight has shape [4, 128, 3, 3], not [4, 256, 3, 3]"):  # fmt: skip
        assert text in str(caught.value)
    with pytest.raises(ValueError, match=r"bbox_head\.retina_cls\.weight is missing"):
        convert_state_dict(state, "retinanet")
    with pytest.raises(ValueError, match="has 3 classes, not 80"):
        convert_state_dict(state, "atss", num_classes=80)


def test_detectors_that_ours_cannot_be_are_refused():
    state = mmdet_state("gfl", backbone="resnet50")
    grouped = {**state, "backbone.layer1.0.conv2.weight": torch.zeros(128, 4, 3, 3)}
    with pytest.raises(AdapterError, match="ResNeXt"):
        read(grouped)
    deep = {**state, **{f"backbone.layer2.{i}.conv1.weight": torch.zeros(1) for i in range(4, 8)}}
    with pytest.raises(AdapterError, match=r"\[3, 8, 6, 3\] bottleneck blocks"):
        read(deep)
    other = {k: v for k, v in state.items() if not k.startswith("backbone.")}
    with pytest.raises(AdapterError, match="its backbone is none that we have"):
        read({**other, "backbone.stem.conv.weight": torch.zeros(1)})
    saved = checkpoint("gfl")
    saved["meta"]["config"] = saved["meta"]["config"].replace("type='FPN'", "type='PAFPN'")
    with pytest.raises(AdapterError, match="PAFPN"):
        read(saved)
    with pytest.raises(AdapterError, match="head is none of ours"):
        read({"bbox_head.fc_cls.weight": torch.zeros(1)})


def test_distilled_and_averaged_checkpoints_give_the_student_and_tell_the_rest():
    state = mmdet_state("gfl")
    averaged = {**state, **{f"ema_{key.replace('.', '_')}": value for key, value in state.items()}}
    foreign = read({"state_dict": averaged, "meta": {"CLASSES": NAMES}})
    assert len([k for k in foreign.left_out if k.startswith("ema_")]) == len(state)
    foreign.build()
    both = {f"{part}.{k}": v for part in ("student", "teacher") for k, v in state.items()}
    foreign = read({"state_dict": both, "meta": {"CLASSES": NAMES}})
    assert len([k for k in foreign.left_out if k.startswith("teacher.")]) == len(state)
    foreign.build()
    beside = {**state, **{f"teacher_model.{k}": v for k, v in state.items()}}
    assert "teacher_model.bbox_head.gfl_cls.weight" in read(beside).left_out
    wrapped = {f"module.{k}": v for k, v in state.items()}
    assert convert_state_dict(wrapped, "gfl").keys() == convert_state_dict(state, "gfl").keys()
    with pytest.raises(AdapterError, match="ema_something"):  # no copy of anything
        read({**state, "ema_something": torch.zeros(1)})


def test_the_head_of_ld_is_that_of_gfl():
    saved = checkpoint("gfl")
    saved["meta"]["config"] = saved["meta"]["config"].replace("GFLHead", "LDHead").replace("'GFL'", "'KnowledgeDistil'")
    assert read(saved).arguments["detector"] == "gfl"


def test_names_of_fcos_before_2_0():
    state = {k.replace("bbox_head.conv_", "bbox_head.fcos_") if "conv_c" in k or "conv_r" in k else k: v
             for k, v in mmdet_state("fcos").items()}  # fmt: skip
    assert "bbox_head.fcos_centerness.weight" in state
    assert convert_state_dict(state, "fcos").keys() == convert_state_dict(mmdet_state("fcos"), "fcos").keys()


@pytest.mark.parametrize("top", [320, 1280])
def test_mobilenet_v2_keeps_its_order_and_its_last_convolution_where_it_is_used(top: int):
    state = mmdet_state("gfl", backbone="mobilenet_v2", top=top)
    foreign = read({"state_dict": state, "meta": {"CLASSES": NAMES}})
    model = foreign.build()
    assert model.backbone.channels == (32, 96, top)
    # Both name modules in the order of the forward pass.
    theirs = [v for k, v in state.items() if k.startswith("backbone.") and (top == 1280 or ".conv2." not in k)]
    ours = list(model.backbone.state_dict().values())
    assert len(ours) == len(theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    left = [k for k in foreign.left_out if k.startswith("backbone.conv2.")]
    assert len(left) == (6 if top == 320 else 0)


def test_the_activation_of_bckds_mobilenet_is_read():
    saved = checkpoint("gfl")
    saved["state_dict"] = mmdet_state("gfl", backbone="mobilenet_v2", top=320)
    text = "backbone=dict(act_cfg=dict(type='LeakyReLU', negative_slope=0.1),"
    saved["meta"]["config"] = saved["meta"]["config"].replace("backbone=dict(type='ResNet',", text)
    model = read(saved).build()
    assert {m.negative_slope for m in model.backbone.modules() if isinstance(m, nn.LeakyReLU)} == {0.1}


def test_swin_merges_patches_as_theirs_does():
    torch.manual_seed(0)
    ours = PatchMerging(8)
    x = torch.randn(2, 6, 10, 8)
    weight, scale, shift = torch.randn(16, 32), torch.randn(32), torch.randn(32)
    ours.load_state_dict(
        {
            "reduction.weight": _merged_order(weight),
            "norm.weight": _merged_order(scale),
            "norm.bias": _merged_order(shift),
        }
    )
    unfolded = F.unfold(x.permute(0, 3, 1, 2), kernel_size=2, stride=2).transpose(1, 2)
    theirs = F.linear(F.layer_norm(unfolded, (32,), scale, shift), weight)
    torch.testing.assert_close(ours(x).flatten(1, 2), theirs)


def test_swin_t_is_read_whole():
    state = mmdet_state("gfl", backbone="swin_t")
    state["backbone.norm0.weight"] = torch.zeros(96)
    # Their rule for the index of relative positions, a constant of both.
    steps = (13 * torch.arange(7)[:, None] + torch.arange(7)).reshape(1, -1)
    for key in [key for key in state if key.endswith("relative_position_index")]:
        state[key] = (steps + steps.T).flip(1)
    model = read({"state_dict": state, "meta": {"CLASSES": NAMES}}).build()
    body, fresh = model.backbone.state_dict(), build_backbone("swin_t").state_dict()
    assert all(torch.equal(body[k], fresh[k]) for k in body if k.endswith("relative_position_index"))
    assert torch.equal(body["features.5.4.mlp.3.weight"], state["backbone.stages.2.blocks.4.ffn.layers.1.weight"])
    assert torch.equal(body["features.3.1.attn.qkv.bias"], state["backbone.stages.1.blocks.1.attn.w_msa.qkv.bias"])
    assert torch.equal(body["norms.2.weight"], state["backbone.norm3.weight"])
    with pytest.raises(AdapterError, match="Swin-T"):
        read({k: v for k, v in state.items() if ".stages.2.blocks.5." not in k})


def test_a_configuration_is_read_and_never_run():
    text = (
        "import os\nx = os.system('false')\nmodel = dict(type='GFL', depth=-3, sizes=(1, 2), other={'a': x})\ny = model"
    )
    found = parse_config(text)
    assert found["model"] == {"type": "GFL", "depth": -3, "sizes": [1, 2], "other": {"a": None}}
    assert found["x"] is None
    assert parse_config("this is no python") == {}
