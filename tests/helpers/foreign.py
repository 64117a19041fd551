"""MMDetection's state dicts by the rule of their documented names and shapes, without MMDetection."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

RESNETS = {18: ((2, 2, 2, 2), False), 34: ((3, 4, 6, 3), False), 50: ((3, 4, 6, 3), True), 101: ((3, 4, 23, 3), True)}
Shapes = dict[str, tuple[int, ...]]

CONFIG = """
model = dict(
    type='{type}',
    {preprocessor}
    backbone=dict(type='ResNet', depth={depth}, num_stages=4, out_indices=(0, 1, 2, 3), frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad={requires}), norm_eval=True, style='{style}'),
    neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], out_channels=256, start_level=1,
        add_extra_convs='{extra}', num_outs=5, relu_before_extra_convs={relu}),
    bbox_head=dict(type='{head}', num_classes={classes}, in_channels=256, stacked_convs=4, feat_channels=256,
        {options}),
    test_cfg=dict(nms_pre=1000, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.6), max_per_img=100))
{tail}
"""


def config(
    type: str,
    head: str,
    options: str,
    *,
    classes: int = 3,
    depth: int = 18,
    style: str = "pytorch",
    extra: str = "on_output",
    relu: bool = False,
    bgr: bool = False,
    version: int = 2,
) -> str:
    """A configuration as 2.x or 3.x stores it, with published normalisation."""
    numbers = (
        "mean=[102.9801, 115.9465, 122.7717], std=[1.0, 1.0, 1.0]"
        if bgr
        else "mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]"
    )
    preprocessor = f"data_preprocessor=dict(type='DetDataPreprocessor', {numbers}, bgr_to_rgb={not bgr}),"
    tail = f"img_norm_cfg = dict({numbers}, to_rgb={not bgr})\nlr = 0.01 * 2\nhooks = [Hook() for _ in range(2)]"
    return CONFIG.format(
        type=type, head=head, options=options, classes=classes, depth=depth, style=style, extra=extra, relu=relu,
        requires=not bgr, preprocessor=preprocessor if version == 3 else "", tail=tail if version == 2 else "",
    )  # fmt: skip


ANCHOR_OPTIONS = (
    "anchor_generator=dict(type='AnchorGenerator', ratios=[1.0], octave_base_scale=8, scales_per_octave=1, "
    "strides=[8, 16, 32, 64, 128]), bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[.0, .0, .0, .0], "
    "target_stds=[0.1, 0.1, 0.2, 0.2])"
)


@cache
def _values(shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    out = {}
    for key, shape in shapes:
        if key.endswith("num_batches_tracked"):
            out[key] = torch.tensor(0)
        elif key.endswith("running_var") or key.endswith(".scale"):
            out[key] = torch.rand(shape, generator=random) + 0.5
        else:
            out[key] = torch.randn(shape, generator=random) * (0.05 if len(shape) > 1 else 0.1)
    return out


def mmdet_state(
    detector: str, *, classes: int = 3, backbone: str = "resnet18", top: int | None = None, extra: str | None = None
) -> dict[str, Tensor]:
    """Random parameters of a detector on a backbone: "resnetN", "mobilenet_v2" or "swin_t".

    `top`: width of the backbone's last map that the pyramid takes; `extra`: "input" or "output".
    """
    if backbone.startswith("resnet"):
        shapes, widths = resnet(int(backbone[6:]))
    elif backbone == "mobilenet_v2":
        shapes, widths = mobilenet(), (32, 96, 1280)
    else:
        shapes, widths = swin(), (192, 384, 768)
    widths = (*widths[:2], top or widths[2])
    first = widths[2] if (extra or ("input" if detector == "retinanet" else "output")) == "input" else 256
    shapes = {f"backbone.{key}": shape for key, shape in shapes.items()}
    for i, width in enumerate(widths):
        shapes |= _conv(f"neck.lateral_convs.{i}.conv", 256, width, 1)
    for i in range(5):
        shapes |= _conv(f"neck.fpn_convs.{i}.conv", 256, first if i == 3 else 256, 3)
    return dict(_values(tuple((shapes | head(detector, classes)).items())))


def head(detector: str, classes: int) -> Shapes:
    out: Shapes = {}
    for tower in ("cls_convs", "reg_convs"):
        for i in range(4):
            name = f"bbox_head.{tower}.{i}"
            if detector == "retinanet":
                out |= _conv(f"{name}.conv", 256, 256, 3)
            else:
                out |= {f"{name}.conv.weight": (256, 256, 3, 3), f"{name}.gn.weight": (256,), f"{name}.gn.bias": (256,)}
    layers = {
        "gfl": {"gfl_cls": classes, "gfl_reg": 68},
        "atss": {"atss_cls": classes, "atss_reg": 4, "atss_centerness": 1},
        "fcos": {"conv_cls": classes, "conv_reg": 4, "conv_centerness": 1},
        "retinanet": {"retina_cls": 9 * classes, "retina_reg": 36},
    }[detector]
    for name, width in layers.items():
        out |= _conv(f"bbox_head.{name}", width, 256, 3)
    if detector != "retinanet":
        out |= {f"bbox_head.scales.{i}.scale": () for i in range(5)}
    if detector == "gfl":
        out["bbox_head.integral.project"] = (17,)
    return out


def resnet(depth: int) -> tuple[Shapes, tuple[int, int, int]]:
    blocks, bottleneck = RESNETS[depth]
    out: Shapes = {"conv1.weight": (64, 3, 7, 7), **_norm("bn1", 64)}
    inside, grow = 64, 4 if bottleneck else 1
    for stage, count in enumerate(blocks):
        width = 64 * 2**stage
        for i in range(count):
            name = f"layer{stage + 1}.{i}"
            sizes = [(width, inside, 1), (width, width, 3), (4 * width, width, 1)] if bottleneck else [
                (width, inside, 3), (width, width, 3)]  # fmt: skip
            for n, (outside, before, kernel) in enumerate(sizes, 1):
                out |= {f"{name}.conv{n}.weight": (outside, before, kernel, kernel), **_norm(f"{name}.bn{n}", outside)}
            if i == 0 and inside != grow * width:
                out |= {f"{name}.downsample.0.weight": (grow * width, inside, 1, 1)}
                out |= _norm(f"{name}.downsample.1", grow * width)
            inside = grow * width
    return out, (128 * grow, 256 * grow, 512 * grow)


def mobilenet() -> Shapes:
    """MobileNetV2 in the order of the forward pass, with the last convolution that every checkpoint of it has."""
    out: Shapes = {"conv1.conv.weight": (32, 3, 3, 3), **_norm("conv1.bn", 32)}
    inside = 32
    settings = [(1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)]
    for layer, (factor, width, count) in enumerate(settings, 1):
        for i in range(count):
            name, middle = f"layer{layer}.{i}", inside * factor
            if factor > 1:
                out |= {f"{name}.expand_conv.conv.weight": (middle, inside, 1, 1)}
                out |= _norm(f"{name}.expand_conv.bn", middle)
            out |= {f"{name}.depthwise_conv.conv.weight": (middle, 1, 3, 3)}
            out |= _norm(f"{name}.depthwise_conv.bn", middle)
            out |= {f"{name}.linear_conv.conv.weight": (width, middle, 1, 1)}
            out |= _norm(f"{name}.linear_conv.bn", width)
            inside = width
    return {**out, "conv2.conv.weight": (1280, 320, 1, 1), **_norm("conv2.bn", 1280)}


def swin() -> Shapes:
    """Swin-T with the norms of the maps at strides 8, 16 and 32."""
    out: Shapes = {"patch_embed.projection.weight": (96, 3, 4, 4), "patch_embed.projection.bias": (96,)}
    out |= _affine("patch_embed.norm", 96)
    for stage, (count, heads) in enumerate(zip((2, 2, 6, 2), (3, 6, 12, 24), strict=True)):
        width = 96 * 2**stage
        for i in range(count):
            name = f"stages.{stage}.blocks.{i}"
            out |= _affine(f"{name}.norm1", width)
            out[f"{name}.attn.w_msa.relative_position_bias_table"] = (169, heads)
            out[f"{name}.attn.w_msa.relative_position_index"] = (49, 49)
            out |= _linear(f"{name}.attn.w_msa.qkv", 3 * width, width)
            out |= _linear(f"{name}.attn.w_msa.proj", width, width)
            out |= _affine(f"{name}.norm2", width)
            out |= _linear(f"{name}.ffn.layers.0.0", 4 * width, width)
            out |= _linear(f"{name}.ffn.layers.1", width, 4 * width)
        if stage < 3:
            out |= _affine(f"stages.{stage}.downsample.norm", 4 * width)
            out[f"stages.{stage}.downsample.reduction.weight"] = (2 * width, 4 * width)
    for stage in (1, 2, 3):
        out |= _affine(f"norm{stage}", 96 * 2**stage)
    return out


def _conv(name: str, outside: int, inside: int, kernel: int) -> Shapes:
    return {f"{name}.weight": (outside, inside, kernel, kernel), f"{name}.bias": (outside,)}


def _affine(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _linear(name: str, outside: int, inside: int) -> Shapes:
    return {f"{name}.weight": (outside, inside), f"{name}.bias": (outside,)}


def _norm(name: str, width: int) -> Shapes:
    statistics = {f"{name}.running_mean": (width,), f"{name}.running_var": (width,), f"{name}.num_batches_tracked": ()}
    return {**_affine(name, width), **statistics}
