"""Rename the parameters of MMDetection checkpoints to ours. One to one: nothing is left over on either side."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

# (MMDetection's name, ours). v2 and v3 use the same names for these detectors.
_GFL = (
    (r"^backbone\.", "backbone."),
    (r"^neck\.lateral_convs\.(\d+)\.conv\.", r"fpn.laterals.\1."),
    (r"^neck\.fpn_convs\.(\d+)\.conv\.", r"fpn.outputs.\1."),
    (r"^bbox_head\.cls_convs\.(\d+)\.(conv|gn)\.", r"head.cls_tower.\1.\2."),
    (r"^bbox_head\.reg_convs\.(\d+)\.(conv|gn)\.", r"head.reg_tower.\1.\2."),
    (r"^bbox_head\.gfl_cls\.", "head.cls."),
    (r"^bbox_head\.gfl_reg\.", "head.reg."),
    (r"^bbox_head\.scales\.(\d+)\.scale$", r"head.scales.\1.scale"),
)
_RULES = {"gfl": _GFL}
# Constants that MMDetection stores and we do not.
_CONSTANTS = re.compile(r"^bbox_head\.integral\.project$|^data_preprocessor\.")


def convert_state_dict(
    state_dict: Mapping[str, Any], detector: str = "gfl", num_classes: int | None = None
) -> dict[str, Tensor]:
    """MMDetection's state dict of a detector under our parameter names, ready for `load_state_dict(strict=True)`.

    Args:
        state_dict: parameters by MMDetection's names, or a checkpoint that holds them under "state_dict".
        detector: head family, "gfl".
        num_classes: number of classes that the checkpoint must have; checked when given.

    Raises:
        ValueError: unknown detector, another number of classes, or parameters that no rule knows (all are listed).
    """
    if detector not in _RULES:
        raise ValueError(f"no rules for detector {detector!r}; known: {', '.join(_RULES)}")
    if isinstance(state_dict.get("state_dict"), Mapping):
        state_dict = state_dict["state_dict"]
    out: dict[str, Tensor] = {}
    unknown = []
    for name, value in state_dict.items():
        if _CONSTANTS.search(name):
            continue
        ours = _rename(name, _RULES[detector])
        if ours is None:
            unknown.append(name)
        else:
            out[ours] = value
    if unknown:
        raise ValueError(f"{len(unknown)} parameters do not belong to an MMDetection {detector}: {', '.join(unknown)}")
    found = out["head.cls.weight"].shape[0] if "head.cls.weight" in out else None
    if found is None:
        raise ValueError(f"this is no MMDetection {detector}: bbox_head.gfl_cls.weight is missing")
    if num_classes is not None and found != num_classes:
        raise ValueError(f"the checkpoint has {found} classes, not {num_classes}")
    return out


def _rename(name: str, rules: tuple[tuple[str, str], ...]) -> str | None:
    for pattern, replacement in rules:
        new, n = re.subn(pattern, replacement, name)
        if n:
            return new
    return None
