"""What every backbone is, and what several of them share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch.nn.functional as F
import torchvision
from torch import Tensor, nn


class Backbone(nn.Module):
    """Maps images (B, 3, H, W) of any size to one NCHW feature map for each of `strides`, with `channels`.

    A map of stride s has ceil(H / s) x ceil(W / s) locations, whatever the family, so that teacher and student share
    a grid. `freezable()` lists what `frozen_stages` freezes: the stem, then stage by stage.
    """

    strides: tuple[int, ...]
    channels: tuple[int, ...]
    frozen_stages: int = -1
    norm_eval: bool = False

    def freezable(self) -> list[nn.Module]:
        """Stem and stages in the order of the forward pass; empty where nothing can be frozen."""
        return []

    def fix(self, frozen_stages: int, norm_eval: bool) -> None:
        """Freeze the stem and `frozen_stages` stages (-1: nothing), parameters and BatchNorm statistics; with
        `norm_eval` the statistics of every BatchNorm stay as they are."""
        self.frozen_stages, self.norm_eval = frozen_stages, norm_eval
        for stage in self._frozen():
            stage.requires_grad_(False)

    def _frozen(self) -> list[nn.Module]:
        return self.freezable()[: self.frozen_stages + 1]

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if mode:
            for stage in self._frozen():
                stage.eval()
            fixed: Sequence[nn.Module] = [self] if self.norm_eval else ()
            for module in (m for part in fixed for m in part.modules()):
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self


def torchvision_network(name: str, pretrained: bool, **options: Any) -> nn.Module:
    """A torchvision classifier, with its first published ImageNet weights if asked for.

    Raises:
        RuntimeError: the weights are neither in torch's cache nor reachable.
    """
    if not pretrained:
        network: nn.Module = getattr(torchvision.models, name)(weights=None, **options)
        return network
    weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    return reachable(name, lambda: getattr(torchvision.models, name)(weights=weights, **options))


def reachable(name: str, load: Callable[[], nn.Module]) -> nn.Module:
    """What `load` returns; a RuntimeError that says what to do where weights cannot be fetched."""
    try:
        return load()
    except OSError as error:  # no network: weights are downloaded on first use
        raise RuntimeError(
            f"cannot load ImageNet weights of {name}: {error}. Put the file into torch's hub cache "
            "(TORCH_HOME; timm: HF_HOME), or set student.pretrained: false"
        ) from error


def pad_to_multiple(images_B3HW: Tensor, multiple: int) -> Tensor:
    """Images with zeros (the mean colour) at their right and bottom edges, so that nothing is cut off by strides."""
    height, width = images_B3HW.shape[-2:]
    return F.pad(images_B3HW, (0, -width % multiple, 0, -height % multiple))


def crop_to_grid(maps: Sequence[Tensor], images_B3HW: Tensor, strides: Sequence[int]) -> tuple[Tensor, ...]:
    """Maps of padded images without the locations that lie in the padding alone: ceil(H / s) x ceil(W / s) are left."""
    height, width = images_B3HW.shape[-2:]
    return tuple(m[..., : -(-height // s), : -(-width // s)] for m, s in zip(maps, strides, strict=True))


def set_norm_eps(module: nn.Module, eps: float) -> None:
    """The eps of every BatchNorm; torchvision's first COCO weights were trained with 0."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eps = eps
