"""What a run rests on beside its spec: the version of this code, of torch, and the machine. For whoever asks later."""

from __future__ import annotations

import functools
import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch

import bcd

CHANGED = "+changed"  # behind a commit: files differ from it


def environment(device: torch.device) -> dict[str, str]:
    """Facts about this process, by name; what cannot be found out is left out."""
    facts = {
        "bcd_version": bcd.__version__,
        "git_commit": git_commit() or "",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "host": platform.node(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }
    return {name: value for name, value in facts.items() if value}


@functools.cache
def git_commit() -> str | None:
    """The commit of the running code: `BCD_GIT_COMMIT` (images set it), its checkout's, or the one pip installed."""
    if given := os.environ.get("BCD_GIT_COMMIT"):
        return given
    root = Path(bcd.__file__).resolve().parent.parent
    if (root / ".git").exists():  # of itself: an environment may lie inside somebody else's checkout
        return _of_checkout(root)
    try:
        told = distribution("bcd").read_text("direct_url.json")
        commit = json.loads(told or "{}").get("vcs_info", {}).get("commit_id")
    except (PackageNotFoundError, ValueError):
        return None
    return commit if isinstance(commit, str) else None


def _of_checkout(root: Path) -> str | None:
    head = _git(root, "rev-parse", "HEAD")
    if not head:
        return None
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "bcd", "workers", "service")
    return head + CHANGED if changed else head


def _git(root: Path, *command: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), *command], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
