"""The cache of generated scenes: two files for each key, written aside and renamed, checked by hash when read.

What is written depends on the key alone, so processes that write at the same time write the same bytes, and any
file that is damaged or missing is simply drawn again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.lib.format import header_data_from_array_1_0, write_array_header_1_0
from numpy.typing import NDArray

from bcd.data.records import Progress

Chunk = tuple[NDArray[np.uint8], NDArray[np.int32]]
Shape = tuple[int, int, int, int]

FOLDER = "digits-scenes"
LEFTOVER_SECONDS = 24 * 3600  # an unfinished file this old belongs to a process that died


def load_or_draw(
    cache_dir: Path | None,
    key: str,
    shape: Shape,
    draw: Callable[[], Iterator[Chunk]],
    progress: Progress | None = None,
) -> Chunk:
    """Pixels of the given shape and all object rows. Without a usable cache folder they are drawn into memory."""
    if cache_dir is None:
        return _draw_into_memory(shape, draw)
    folder = cache_dir / FOLDER
    found = _load(folder, key, shape)
    if found is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        _store(folder, key, shape, draw())
    except OSError as error:
        if progress:
            progress(f"the data cache {folder} cannot be written ({error}); going on without it")
        return _draw_into_memory(shape, draw)
    return _load(folder, key, shape) or _draw_into_memory(shape, draw)


def _names(folder: Path, key: str) -> tuple[Path, Path]:
    return folder / f"{key}.npy", folder / f"{key}.npz"


def _draw_into_memory(shape: Shape, draw: Callable[[], Iterator[Chunk]]) -> Chunk:
    pixels = np.empty(shape, np.uint8)
    rows = []
    at = 0
    for chunk, objects in draw():
        pixels[at : at + len(chunk)] = chunk
        at += len(chunk)
        rows.append(objects)
    pixels.flags.writeable = False
    return pixels, np.concatenate(rows)


def _load(folder: Path, key: str, shape: Shape) -> Chunk | None:
    """Both parts as they were written, or None when anything about them is wrong."""
    images, labels = _names(folder, key)
    try:
        with np.load(labels, allow_pickle=False) as parts:
            objects, digest = parts["objects"], str(parts["sha256"])
        with images.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                return None
        pixels = np.load(images, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if pixels.shape != shape or pixels.dtype != np.uint8 or objects.ndim != 2 or objects.shape[1] != 6:
        return None
    return pixels, objects


def _store(folder: Path, key: str, shape: Shape, chunks: Iterator[Chunk]) -> None:
    """Writes both parts. The labels come second and hold the hash of the pixels: they make the pair valid."""
    images, labels = _names(folder, key)
    digest = hashlib.sha256()
    header = io.BytesIO()
    write_array_header_1_0(header, {**header_data_from_array_1_0(np.empty((0,), np.uint8)), "shape": shape})
    rows = []
    with _aside(images) as path, path.open("wb") as file:
        file.write(header.getvalue())
        digest.update(header.getvalue())
        for pixels, objects in chunks:
            part = pixels.tobytes()
            file.write(part)
            digest.update(part)
            rows.append(objects)
        file.flush()
        os.fsync(file.fileno())
    with _aside(labels) as path, path.open("wb") as file:
        np.savez(file, objects=np.concatenate(rows), sha256=np.str_(digest.hexdigest()))
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """A path to write to, which takes the target's place when all went well and is removed otherwise."""
    path = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    try:
        yield path
        os.replace(path, target)
    finally:
        path.unlink(missing_ok=True)


def _remove_leftovers(folder: Path) -> None:
    for path in folder.glob("*.part"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
                path.unlink()
