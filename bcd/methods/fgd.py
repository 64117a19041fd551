"""FGD: focal and global distillation of pyramid maps (Yang et al., CVPR 2022)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bcd.methods.base import Step, own_conv, own_generator
from bcd.methods.features import FeatureMethod, LevelPair
from bcd.methods.regions import blocks
from bcd.models.detector import Detector
from bcd.spec import FgdMethod
from bcd.types import Targets


class GlobalContext(nn.Module):
    """A GC block (Cao et al., 2019): a softmax-weighted mean over places, through a bottleneck, added everywhere.

    The bottleneck's last convolution starts at 0, so that at first the block gives what it is given.
    """

    def __init__(self, channels: int, generator: torch.Generator):
        super().__init__()
        inner = max(channels // 2, 1)
        self.mask = own_conv(channels, 1, generator)
        self.inside = own_conv(channels, inner, generator)
        self.norm = nn.LayerNorm([inner, 1, 1])
        self.outside = own_conv(inner, channels, generator)
        nn.init.zeros_(self.outside.weight)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, channels, H, W) to the same shape."""
        share_B1N = self.mask(maps).flatten(2).softmax(-1)
        context = (maps.flatten(2) * share_B1N).sum(-1)[..., None, None]
        added: Tensor = self.outside(self.norm(self.inside(context)).relu())
        return maps + added


class Fgd(FeatureMethod):
    """Terms `fgd_foreground`, `fgd_background`, `fgd_attention` and `fgd_relation` (equations 5 to 11), each a sum of
    squares (attention: of magnitudes) over a level, divided by the number of images and summed over levels."""

    spec: FgdMethod

    def __init__(self, spec: FgdMethod, student: Detector, teacher: Detector):
        super().__init__(spec, student, teacher)
        generator = own_generator("fgd relation")
        blocks = 2 * len(self.levels) if spec.relation_weight > 0 else 0
        # The student's and the teacher's of each level, both trained.
        self.relation = nn.ModuleList(GlobalContext(self.channels, generator) for _ in range(blocks))
        self.strides = student.strides

    def forward(self, step: Step) -> dict[str, Tensor]:
        spec = self.spec
        weights = {
            "fgd_foreground": spec.foreground_weight,
            "fgd_background": spec.background_weight,
            "fgd_attention": spec.attention_weight,
            "fgd_relation": spec.relation_weight,
        }
        found: dict[str, list[Tensor]] = {name: [] for name in weights}
        weight_B = step.targets.distill_B
        for number, pair in enumerate(self.pairs(step)):
            for name, value_B in self._level(number, pair, step.targets).items():
                found[name].append(value_B.mean() if weight_B is None else (value_B * weight_B).mean())
        return {name: weight * torch.stack(found[name]).sum() for name, weight in weights.items() if weight > 0}

    def _level(self, number: int, pair: LevelPair, targets: Targets) -> dict[str, Tensor]:
        """The four terms of one level for each image (B,), without weights."""
        level, student, teacher = pair
        temperature = self.spec.temperature
        spatial_s, channel_s = attention(student, temperature)
        spatial_t, channel_t = attention(teacher, temperature)
        foreground_BHW, background_BHW = masks(targets, (student.shape[-2], student.shape[-1]), self.strides[level])
        square = (student - teacher).square()
        focal_BHW = (square * channel_t[..., None, None]).sum(1) * spatial_t
        terms = {
            "fgd_foreground": (focal_BHW * foreground_BHW).sum((1, 2)),
            "fgd_background": (focal_BHW * background_BHW).sum((1, 2)),
            "fgd_attention": (channel_s - channel_t).abs().sum(1) + (spatial_s - spatial_t).abs().sum((1, 2)),
        }
        if self.relation:
            ours, theirs = self.relation[2 * number], self.relation[2 * number + 1]
            terms["fgd_relation"] = (ours(student) - theirs(teacher)).square().sum((1, 2, 3))
        return terms


def attention(maps: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Spatial (B, H, W) and channel (B, channels) attention of maps: softmax of mean magnitudes over the temperature,
    scaled to a mean of 1 (equations 1 to 4)."""
    size = maps.abs()
    spatial, channel = size.mean(1), size.mean((2, 3))
    places = spatial[0].numel()
    spatial_BHW = F.softmax(spatial.flatten(1) / temperature, dim=1).view_as(spatial) * places
    return spatial_BHW, F.softmax(channel / temperature, dim=1) * channel.shape[1]


def masks(targets: Targets, shape: tuple[int, int], stride: int) -> tuple[Tensor, Tensor]:
    """Foreground and background masks (B, H, W) of a level.

    A cell of a box has 1 / (cells of the box), the largest where boxes overlap; a cell of no box has
    1 / (such cells of the image). The padding has neither. Rows come from y and columns from x.
    """
    height, width = shape
    rows, columns = (torch.arange(n, device=targets.boxes_BG4.device) for n in shape)
    images = len(targets.boxes_BG4)
    foreground_BHW = targets.boxes_BG4.new_zeros(images, height, width)
    for block in blocks(targets, height * width):
        boxes = targets.boxes_BG4[:, block] / stride
        cells = torch.cat([boxes[..., :2].floor(), boxes[..., 2:].ceil()], dim=-1)
        x0, x1 = (cells[..., side].clamp(0, width - 1) for side in (0, 2))
        y0, y1 = (cells[..., side].clamp(0, height - 1) for side in (1, 3))
        share_BG = targets.valid_BG[:, block] / ((x1 - x0 + 1) * (y1 - y0 + 1))
        in_rows = (rows >= y0[..., None]) & (rows <= y1[..., None])
        in_columns = (columns >= x0[..., None]) & (columns <= x1[..., None])
        cells_BGHW = (in_rows[..., None] & in_columns[..., None, :]) * share_BG[..., None, None]
        foreground_BHW = torch.maximum(foreground_BHW, cells_BGHW.amax(1))
    size_B2 = targets.sizes_B2.to(foreground_BHW.dtype)
    content_BHW = (rows[:, None] * stride < size_B2[:, 0, None, None]) & (columns * stride < size_B2[:, 1, None, None])
    background_BHW = (content_BHW & (foreground_BHW == 0)).float()
    total_B = background_BHW.sum((1, 2)).clamp(min=1)
    return foreground_BHW * content_BHW, background_BHW / total_B[:, None, None]
