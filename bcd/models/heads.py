"""Parts that dense heads share: convolution towers, prediction layers and the learnable scale of each level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bcd.models.norms import group_norm
from bcd.models.options import DetectorOptions, Variant
from bcd.types import HeadTrace

# Initial score of every class, so that the first steps are not drowned in background (focal loss paper, 4.1).
PRIOR_PROBABILITY = 0.01


class ConvNorm(nn.Module):
    """3x3 convolution, GroupNorm or none, ReLU. The convolution has a bias where no norm follows, or when asked."""

    def __init__(self, inside: int, outside: int, variant: Variant = Variant()):
        super().__init__()
        norm = variant.head_norm == "gn"
        self.conv = nn.Conv2d(inside, outside, 3, padding=1, bias=variant.head_bias or not norm)
        self.gn = _norm(outside, variant) if norm else None
        self.relu = nn.ReLU(inplace=True)
        nn.init.normal_(self.conv.weight, std=0.01)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def before_activation(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out if self.gn is None else self.gn(out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.before_activation(x))
        return out


def tower(channels: int, depth: int, variant: Variant = Variant()) -> nn.ModuleList:
    """`depth` ConvNorm blocks."""
    return nn.ModuleList(ConvNorm(channels, channels, variant) for _ in range(depth))


def _norm(channels: int, variant: Variant) -> nn.GroupNorm:
    if not variant.gn_groups:
        return group_norm(channels, most=32, eps=variant.gn_eps)  # 32 as published
    if channels % variant.gn_groups:
        raise ValueError(f"variant gn_groups {variant.gn_groups} does not divide the {channels} channels of the head")
    return nn.GroupNorm(variant.gn_groups, channels, variant.gn_eps)


class Scale(nn.Module):
    """One learnable factor (FCOS)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def prediction(inside: int, outside: int, prior: float | None = None) -> nn.Conv2d:
    """A 3x3 prediction layer, N(0, 0.01), whose bias starts at the logit of `prior`."""
    conv = nn.Conv2d(inside, outside, 3, padding=1)
    nn.init.normal_(conv.weight, std=0.01)
    assert conv.bias is not None
    nn.init.constant_(conv.bias, 0.0 if prior is None else -math.log((1 - prior) / prior))
    return conv


@dataclass(frozen=True)
class HeadMaps:
    """What a head's prediction layers give, level by level (B, channels, H, W): class logits, box numbers (fp32, in
    the head's own code, per-level scale applied), centerness logits where the head has them."""

    cls: list[Tensor]
    reg: list[Tensor]
    centerness: list[Tensor] | None = None
    trace: tuple[HeadTrace, ...] = ()


class Head(nn.Module):
    """Two towers shared by all levels. Subclasses add prediction layers and implement `predict`."""

    def __init__(self, options: DetectorOptions):
        super().__init__()
        self.cls_tower, self.reg_tower = (
            tower(options.fpn_channels, options.stacked_convs, options.variant) for _ in range(2)
        )

    def predict(self, cls: Tensor, reg: Tensor, level: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Class, box and centerness maps of one level from the towers' last maps."""
        raise NotImplementedError

    def forward(self, features: tuple[Tensor, ...], trace: tuple[int, ...] = ()) -> HeadMaps:
        """Maps of all levels, and the towers' maps at the depths of `trace`."""
        cls = [self._run(self.cls_tower, f, trace) for f in features]
        reg = [self._run(self.reg_tower, f, trace) for f in features]
        kept = tuple(HeadTrace(tuple(k[d] for _, k in cls), tuple(k[d] for _, k in reg), d) for d in trace)
        return self._predict_all([x for x, _ in cls], [x for x, _ in reg], kept)

    def continue_from(self, trace: HeadTrace) -> HeadMaps:
        """Maps of all levels when the towers go on from `trace`."""
        return self._predict_all(
            [self._rest(self.cls_tower, m, trace.depth) for m in trace.cls],
            [self._rest(self.reg_tower, m, trace.depth) for m in trace.reg],
            (trace,),
        )

    def _predict_all(self, cls: list[Tensor], reg: list[Tensor], trace: tuple[HeadTrace, ...]) -> HeadMaps:
        found = [self.predict(c, r, level) for level, (c, r) in enumerate(zip(cls, reg, strict=True))]
        centerness = [extra for _, _, extra in found if extra is not None]
        return HeadMaps([c for c, _, _ in found], [r for _, r, _ in found], centerness or None, trace)

    @staticmethod
    def _run(blocks: nn.ModuleList, x: Tensor, depths: tuple[int, ...]) -> tuple[Tensor, dict[int, Tensor]]:
        """What the tower gives, and what its blocks give before their activation, by depth."""
        kept = {0: x} if 0 in depths else {}
        for depth, block in enumerate(blocks, 1):
            if depth in depths:
                assert isinstance(block, ConvNorm)
                kept[depth] = block.before_activation(x)
                x = kept[depth].relu()
            else:
                x = block(x)
        if missing := [d for d in depths if d not in kept]:
            raise ValueError(f"a tower of {len(blocks)} blocks has no depth {missing[0]}")
        return x, kept

    @staticmethod
    def _rest(blocks: nn.ModuleList, x: Tensor, depth: int) -> Tensor:
        if depth > 0:
            x = x.relu()
        for block in list(blocks)[depth:]:
            x = block(x)
        return x


class CenternessHead(Head):
    """A head of one site per location: class, box and centerness layers, one box scale for each level (ATSS, FCOS)."""

    def __init__(self, options: DetectorOptions):
        super().__init__(options)
        channels = options.fpn_channels
        self.cls = prediction(channels, options.num_classes, PRIOR_PROBABILITY)
        self.reg = prediction(channels, 4)
        self.centerness = prediction(channels, 1)
        self.scales = nn.ModuleList(Scale() for _ in options.strides)
        self.centerness_on = options.variant.centerness_on

    def predict(self, cls: Tensor, reg: Tensor, level: int) -> tuple[Tensor, Tensor, Tensor]:
        centerness = self.centerness(cls if self.centerness_on == "cls" else reg)
        return self.cls(cls), self.scales[level](self.reg(reg)).float(), centerness


def flatten_sites(maps: list[Tensor], width: int) -> Tensor:
    """Maps (B, anchors * width, H, W) of all levels as (B, A, width): locations in reading order, their anchors next
    to each other."""
    return torch.cat([m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, width) for m in maps], dim=1)


def map_shapes(maps: Sequence[Tensor]) -> list[tuple[int, int]]:
    """(height, width) of each level's map."""
    return [(m.shape[-2], m.shape[-1]) for m in maps]
