"""Networks of the timm library as backbones, under the name `timm:NAME`. timm is an optional extra."""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import Tensor, nn

from bcd.models.backbones.base import Backbone, crop_to_grid, pad_to_multiple, reachable

VARIANT = ()
STRIDES = (8, 16, 32)


def make(name: str, *, pretrained: bool, **_: Any) -> Backbone:
    """ "timm:NAME" with one of `timm.list_models()`.

    Raises:
        RuntimeError: timm is not installed, or its weights cannot be reached.
        ValueError: timm has no such model, or it gives no maps at strides 8, 16 and 32 for images of any size.
    """
    return TimmNetwork(name.removeprefix("timm:"), pretrained)


class TimmNetwork(Backbone):
    """A timm model in its form that returns features, at strides 8, 16 and 32. Images are padded to a multiple of 32,
    because many of timm's networks cut odd maps."""

    strides = STRIDES

    def __init__(self, name: str, pretrained: bool):
        super().__init__()
        timm = _timm()
        if not timm.is_model(name):
            close = difflib.get_close_matches(name.split(".")[0], timm.list_models(), 3)
            hint = f"; close: {', '.join(close)}" if close else ""
            raise ValueError(f"timm {timm.__version__} has no model {name!r}{hint}")
        self.net = self._create(timm, name, pretrained)
        info = self.net.feature_info
        self.channels, self.channels_last = tuple(info.channels()), False
        self._probe(name)

    def _create(self, timm: Any, name: str, pretrained: bool) -> Any:
        def features(weights: bool, indices: tuple[int, ...] | None = None) -> nn.Module:
            where = {} if indices is None else {"out_indices": indices}
            model: nn.Module = timm.create_model(name, pretrained=weights, features_only=True, **where)
            return model

        try:
            with torch.device("meta"):
                found: Any = features(False)
            reductions = found.feature_info.reduction()
            missing = [s for s in STRIDES if s not in reductions]
            if missing:
                raise ValueError(f"it gives strides {list(reductions)}, not {list(STRIDES)}")
            # The last map of each stride: where two have the same, the deeper one.
            indices = tuple(len(reductions) - 1 - reductions[::-1].index(s) for s in STRIDES)
            indices = tuple(found.feature_info.out_indices[i] for i in indices)
            return (
                reachable(f"timm:{name}", lambda: features(True, indices)) if pretrained else features(False, indices)
            )
        except (ValueError, AttributeError, AssertionError, NotImplementedError, TypeError, KeyError) as error:
            raise ValueError(f"timm's {name} cannot serve as a backbone: {error}") from error

    def _probe(self, name: str) -> None:
        """Some networks want one image size, some return channels last: one small image tells."""
        training = self.net.training
        device = next(self.net.parameters()).device
        try:
            with torch.no_grad():
                maps = self.net.eval()(torch.zeros(1, 3, 64, 96, device=device))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise ValueError(f"timm's {name} does not take images of any size: {error}") from error
        self.net.train(training)
        sizes = [(64 // s, 96 // s) for s in STRIDES]
        shapes = [tuple(m.shape[1:]) for m in maps]
        first = [(c, *size) for c, size in zip(self.channels, sizes, strict=True)]
        last = [(*size, c) for c, size in zip(self.channels, sizes, strict=True)]
        if shapes not in (first, last):
            raise ValueError(f"timm's {name} cannot serve as a backbone: its maps of a 64 x 96 image are {shapes}")
        self.channels_last = shapes == last

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = self.net(pad_to_multiple(images, 32))
        if self.channels_last:
            maps = [m.permute(0, 3, 1, 2).contiguous() for m in maps]
        return crop_to_grid(maps, images, self.strides)


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise RuntimeError("backbones of timm need the timm library: pip install 'bcd[timm]'") from None
    return timm
