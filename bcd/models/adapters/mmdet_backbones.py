"""MMDetection's backbones: how they are recognised by their parameters, and their names with us."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bcd.models.adapters.checkpoint import AdapterError

RESNETS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
}
_RESNET = re.compile(r"(conv1|bn1|layer[1-4]\.\d+\.(conv[123]|bn[123]|downsample\.[01]))\.\w+")
# Blocks of MobileNetV2's stages; torchvision counts them through, from 1.
_MOBILE_BLOCKS = (1, 2, 3, 4, 3, 3, 1)
_MOBILE_LAST_BLOCK = 320  # channels; its last convolution, which every checkpoint holds, has 1280
SUPPORTED = "ResNet 18, 34, 50 and 101, MobileNetV2 and Swin-T"


@dataclass(frozen=True)
class ForeignBackbone:
    """Our name of the backbone, our parameters, its stem's weight, what of `variant` shapes tell, and what of the
    file is left out."""

    name: str
    tensors: dict[str, Tensor]
    stem: str
    variant: dict[str, Any]
    left_out: dict[str, str]


def read_backbone(state: Mapping[str, Tensor], top_channels: int) -> ForeignBackbone:
    """The backbone of a state dict whose names begin with "backbone."; `top_channels` is the width of its last map.

    Raises:
        AdapterError: none of ours, or parameters that do not belong to it (all are listed).
    """
    inner = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
    if "patch_embed.projection.weight" in inner:
        return _swin(inner)
    if any(key.startswith("layer1.0.depthwise_conv") for key in inner):
        return _mobilenet(inner, top_channels)
    if "conv1.weight" in inner and any(key.startswith("layer1.0.conv1") for key in inner):
        return _resnet(inner)
    first = ", ".join(list(inner)[:3]) or "no key begins with 'backbone.'"
    raise AdapterError(f"its backbone is none that we have ({SUPPORTED}): {first}")


def _resnet(inner: Mapping[str, Tensor]) -> ForeignBackbone:
    _refuse([key for key in inner if not _RESNET.fullmatch(key)], "ResNet", "deformable convolution and deep stems are")
    blocks = tuple(
        1 + max(int(found[1]) for key in inner if (found := re.match(rf"layer{stage}\.(\d+)\.", key)))
        if any(key.startswith(f"layer{stage}.") for key in inner)
        else 0
        for stage in range(1, 5)
    )
    bottleneck = "layer1.0.conv3.weight" in inner
    if (blocks, bottleneck) not in RESNETS:
        kind = "bottleneck" if bottleneck else "basic"
        raise AdapterError(f"its ResNet has {list(blocks)} {kind} blocks, which is none that we have ({SUPPORTED})")
    second = inner.get("layer1.0.conv2.weight")
    if bottleneck and second is not None and (second.shape[1] != second.shape[0] or second.shape[0] != 64):
        raise AdapterError("its backbone is a ResNeXt or a wide ResNet (convolutions in groups), which we do not have")
    return ForeignBackbone(
        RESNETS[(blocks, bottleneck)], {f"backbone.{k}": v for k, v in inner.items()}, "backbone.conv1.weight", {}, {}
    )


def _mobilenet(inner: Mapping[str, Tensor], top_channels: int) -> ForeignBackbone:
    tensors, unknown, left_out = {}, [], {}
    for key, value in inner.items():
        name = _mobilenet_name(key)
        if name is None:
            unknown.append(key)
        elif name.startswith("features.18.") and top_channels == _MOBILE_LAST_BLOCK:
            left_out[f"backbone.{key}"] = "the pyramid does not use MobileNetV2's last convolution"
        else:
            tensors[f"backbone.{name}"] = value
    _refuse(unknown, "MobileNetV2", "other widths and norms are")
    variant = {"top_conv": True} if any(name.startswith("backbone.features.18.") for name in tensors) else {}
    return ForeignBackbone("mobilenet_v2", tensors, "backbone.features.0.0.weight", variant, left_out)


def _mobilenet_name(key: str) -> str | None:
    if found := re.fullmatch(r"(conv1|conv2)\.(conv|bn)\.(\w+)", key):
        return f"features.{0 if found[1] == 'conv1' else 18}.{0 if found[2] == 'conv' else 1}.{found[3]}"
    found = re.fullmatch(r"layer([1-7])\.(\d+)\.(expand|depthwise|linear)_conv\.(conv|bn)\.(\w+)", key)
    if not found or int(found[2]) >= _MOBILE_BLOCKS[int(found[1]) - 1]:
        return None
    block = 1 + sum(_MOBILE_BLOCKS[: int(found[1]) - 1]) + int(found[2])
    first = found[1] == "1"  # its only block does not expand
    place = {"expand": 0, "depthwise": 0 if first else 1, "linear": 1 if first else 2}[found[3]]
    norm = found[4] == "bn"
    inside = f"{place + int(norm)}" if found[3] == "linear" else f"{place}.{int(norm)}"
    return f"features.{block}.conv.{inside}.{found[5]}"


def _swin(inner: Mapping[str, Tensor]) -> ForeignBackbone:
    tensors, unknown, left_out = {}, [], {}
    for key, value in inner.items():
        name = _swin_name(key)
        if key.startswith("norm0."):
            left_out[f"backbone.{key}"] = "the norm of Swin's stride-4 map, which the pyramid does not use"
        elif name is None:
            unknown.append(key)
        elif key.endswith("relative_position_index"):
            tensors[f"backbone.{name}"] = value.flatten()
        elif ".downsample." in key:
            tensors[f"backbone.{name}"] = _merged_order(value)
        else:
            tensors[f"backbone.{name}"] = value
    _refuse(unknown, "Swin", "absolute position embeddings are")
    blocks = tuple(len({k.split(".")[3] for k in inner if k.startswith(f"stages.{s}.blocks.")}) for s in range(4))
    width, kernel = inner["patch_embed.projection.weight"].shape[0], inner["patch_embed.projection.weight"].shape[2]
    if (blocks, width, kernel) != ((2, 2, 6, 2), 96, 4):
        raise AdapterError(f"its Swin has {list(blocks)} blocks and width {width}; we have Swin-T (2, 2, 6, 2; 96)")
    return ForeignBackbone("swin_t", tensors, "backbone.features.0.0.weight", {}, left_out)


def _swin_name(key: str) -> str | None:
    rules = (
        (r"patch_embed\.projection\.(\w+)", r"features.0.0.\1"),
        (r"patch_embed\.norm\.(\w+)", r"features.0.2.\1"),
        (r"norm1\.(\w+)", r"norms.0.\1"),
        (r"norm2\.(\w+)", r"norms.1.\1"),
        (r"norm3\.(\w+)", r"norms.2.\1"),
    )
    for pattern, ours in rules:
        if re.fullmatch(pattern, key):
            return re.sub(pattern, ours, key)
    if found := re.fullmatch(r"stages\.([0-2])\.downsample\.(norm|reduction)\.(\w+)", key):
        return f"features.{2 * int(found[1]) + 2}.{found[2]}.{found[3]}"
    if found := re.fullmatch(r"stages\.([0-3])\.blocks\.(\d+)\.(.+)", key):
        inside = found[3].replace("attn.w_msa.", "attn.").replace("ffn.layers.0.0.", "mlp.0.")
        inside = inside.replace("ffn.layers.1.", "mlp.3.")
        return f"features.{2 * int(found[1]) + 1}.{found[2]}.{inside}"
    return None


def _merged_order(value: Tensor) -> Tensor:
    """Patch merging takes its four pixels channel by channel there (unfold), pixel by pixel here, and these in the
    order top left, bottom left, top right, bottom right."""
    *lead, last = value.shape
    by_channel = value.reshape(*lead, last // 4, 4)[..., torch.tensor([0, 2, 1, 3])]
    return by_channel.transpose(-1, -2).reshape(*lead, last).contiguous()


def _refuse(unknown: list[str], kind: str, what: str) -> None:
    if unknown:
        names = ", ".join(f"backbone.{key}" for key in unknown)
        raise AdapterError(
            f"{len(unknown)} parameters do not belong to a {kind} that we have ({what} not supported): {names}"
        )
