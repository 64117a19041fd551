"""The files and folders that a spec names, and whether they lie where they may."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence

from bcd.spec.data import CocoData, UnlabeledFiles, VocData, YoloData
from bcd.spec.job import JobSpec

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|[^/]*://")


def path_faults(
    spec: JobSpec, roots: Sequence[str] = (), *, resolve: Callable[[str], str] = os.path.normpath
) -> list[tuple[str, str]]:
    """(JSON pointer, message) for each path of a spec that is an address, or that lies outside of `roots`.

    `roots`: the only folders that may be used; none: all may. `resolve`: `os.path.normpath` judges by the text alone,
    `os.path.realpath` follows links, where the files are.
    """
    allowed = [resolve(root) for root in roots]
    faults = []
    for pointer, path in _paths(spec):
        if "\0" in path:
            faults.append((pointer, "a path cannot hold a NUL character"))
        elif _ADDRESS.match(path):
            faults.append(
                (pointer, f"{path[:200]!r} is an address; nothing is fetched, give a path as the worker sees it")
            )
        elif roots and not (os.path.isabs(path) and any(_below(resolve(path), root) for root in allowed)):
            where = ", ".join(roots)
            faults.append(
                (pointer, f"{path[:200]!r} is not in a folder that may be used; give an absolute path in {where}")
            )
    return faults


def _below(path: str, root: str) -> bool:
    return os.path.commonpath([path, root]) == root


def _paths(spec: JobSpec) -> Iterator[tuple[str, str]]:
    """(JSON pointer, path) as the worker will open it."""
    if spec.teacher is not None and spec.teacher.path is not None:
        yield "/teacher/path", spec.teacher.path
    data = spec.data
    if not isinstance(data, CocoData | VocData | YoloData):
        return
    yield "/data/root", data.root
    names: tuple[str, ...] = ()
    if isinstance(data, CocoData):
        names = ("train_annotations", "train_folder", "val_annotations", "val_folder")
    elif isinstance(data, YoloData):
        names = ("data_file", "train", "val")
    for name in names:
        yield from _inside(data.root, f"/data/{name}", getattr(data, name))
    if isinstance(data.unlabeled, UnlabeledFiles):
        for name in ("folder", "list"):
            yield from _inside(data.root, f"/data/unlabeled/{name}", getattr(data.unlabeled, name))


def _inside(root: str, pointer: str, path: str | None) -> Iterator[tuple[str, str]]:
    if path is not None:
        own = _ADDRESS.match(path) or path.startswith("~")  # the library looks for `~` in the user's home
        yield pointer, path if own else os.path.join(root, path)
