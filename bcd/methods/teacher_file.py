"""Kept teacher outputs as a file in the data cache: runs on one machine compute them once and share the pages.

What a file holds follows from its key alone: teacher, data, what is kept, and with what it was computed. It is written
aside and renamed, checked by hash when read, and mapped into memory, so that many processes hold it once. A file that
is damaged or missing is computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bcd.methods.teacher import Teacher
from bcd.methods.teacher_cache import CachedTeacher, Group

FOLDER = "teacher-outputs"
FORMAT = 1
KEPT_SECONDS = 7 * 24 * 3600.0  # since a file was last used
POLL = 0.2


def key_of(**parts: Any) -> str:
    """A short name for outputs that follow from these parts (plain JSON values)."""
    text = json.dumps({"format": FORMAT, **parts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def load_or_make(
    cache_dir: Path | None,
    key: str,
    teacher: Teacher,
    device: torch.device,
    make: Callable[[], CachedTeacher],
    *,
    look_up: Callable[[], None] = lambda: None,
    tell: Callable[[str], None] = lambda _: None,
) -> CachedTeacher:
    """Outputs from the file of this key, else from `make`, which then are written to it.

    Processes that need the same outputs wait for the first one; `look_up` is called meanwhile and may raise. Without a
    cache folder, or with one that cannot be written, the outputs stay in this process's memory.
    """
    if cache_dir is None:
        return make()
    path = cache_dir / FOLDER / f"{key}.safetensors"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        tell(f"the data cache cannot be written ({error}); the teacher's outputs are kept in memory alone")
        return make()
    with _alone(path.with_suffix(".lock"), look_up):
        found = _load(path, teacher, device)
        if found is not None:
            tell(f"the teacher's outputs come from an earlier run on this machine: {found.bytes / 1e6:.0f} MB")
            return found
        made = make()
        try:
            _remove_old(path.parent)
            _store(path, made)
        except (OSError, SafetensorError) as error:
            tell(f"the data cache cannot be written ({error}); the teacher's outputs are kept in memory alone")
            return made
    return _load(path, teacher, device) or made  # mapped: this process lets go of its own copy


@contextlib.contextmanager
def _alone(lock: Path, look_up: Callable[[], None]) -> Iterator[None]:
    """One process of the machine at a time. Where files cannot be locked everybody goes on."""
    try:
        import fcntl
    except ImportError:  # no POSIX
        yield
        return
    with lock.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                look_up()
                time.sleep(POLL)
            except OSError:
                break
        yield


def _store(path: Path, cached: CachedTeacher) -> None:
    tensors: dict[str, Tensor] = {}
    groups = []
    for number, group in enumerate(cached.groups):
        for part in ("values", "others"):
            for name, tensor in getattr(group, part).items():
                tensors[f"{number}.{part}.{name}"] = tensor.detach().cpu().contiguous()
        if group.site_NK is not None:
            tensors[f"{number}.sites"] = group.site_NK.cpu().contiguous()
        groups.append({"shapes": group.shapes, "anchors": group.anchors})
    rows = [[image, mirrored, *place] for (image, mirrored), place in cached.rows.items()]
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        save_file(tensors, aside, metadata={"groups": json.dumps(groups), "rows": json.dumps(rows)})
        with aside.open("rb") as file:
            os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        path.with_suffix(".sha256").write_text(digest, encoding="ascii")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _load(path: Path, teacher: Teacher, device: torch.device) -> CachedTeacher | None:
    """None when there is no such file, or anything about it is wrong."""
    try:
        digest = path.with_suffix(".sha256").read_text(encoding="ascii")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                return None
        for used in (path, path.with_suffix(".sha256")):
            os.utime(used)
        with safe_open(path, framework="pt", device=str(device)) as parts:
            metadata = parts.metadata()
            names = list(parts.keys())
            groups = []
            for number, told in enumerate(json.loads(metadata["groups"])):
                tables: dict[str, dict[str, Tensor]] = {"values": {}, "others": {}}
                for name in names:
                    of, _, rest = name.partition(".")
                    part, _, inner = rest.partition(".")
                    if of == str(number) and part in tables:
                        tables[part][inner] = parts.get_tensor(name)
                sites = parts.get_tensor(f"{number}.sites") if f"{number}.sites" in names else None
                shapes = tuple((int(h), int(w)) for h, w in told["shapes"])
                groups.append(Group(shapes, int(told["anchors"]), tables["values"], tables["others"], sites))
        rows = {(image, bool(mirrored)): (int(a), int(b)) for image, mirrored, a, b in json.loads(metadata["rows"])}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    return CachedTeacher(teacher, groups, rows, device)


def _remove_old(folder: Path) -> None:
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.suffix != ".lock" and time.time() - path.stat().st_mtime > KEPT_SECONDS:
                path.unlink()
