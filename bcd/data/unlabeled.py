"""Images without labels, from a folder or from a list file: they are only distilled."""

from __future__ import annotations

from pathlib import Path

from bcd.data.images import FileDataset, PixelCache, keep_probed
from bcd.data.records import DUPLICATE, NO_IMAGE, DataError, Dataset, Faults, Place, Progress, without_labels
from bcd.spec import UnlabeledFiles

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"))


def open_unlabeled(
    spec: UnlabeledFiles, root: Path, train: Dataset, faults: Faults, cache: PixelCache, progress: Progress | None
) -> FileDataset:
    """All unlabelled images, upright, with ids below zero. Raises `DataError`.

    Relative paths of `spec` start at `root`. `faults` says what happens to files that are missing or do not open.
    """
    if spec.folder is not None:
        folder = root / Path(spec.folder).expanduser()
        source = folder
        found = [(str(path.relative_to(folder)), path, str(path)) for path in image_files(folder, "unlabeled.folder")]
    else:
        source = root / Path(spec.list or "").expanduser()
        found = listed_images(source, "data.unlabeled.list", faults)
    items: list[tuple[str, Path, Place]] = [(name, path, place) for name, path, place in found]
    records, paths = keep_probed(items, faults, "unlabelled", progress)
    if not records:
        raise DataError(f"{source}: no usable unlabelled image (skipped: {dict(faults.counts) or 'none'})")
    return FileDataset(
        train.class_names,
        without_labels(records, train.records),
        paths,
        faults=faults,
        cache=cache,
        upright=True,
    )


def open_folder(folder: Path, progress: Progress | None) -> FileDataset:
    """All images of a folder by themselves, without classes; what does not open is left out. Raises `DataError`."""
    faults = Faults("skip")
    found: list[tuple[str, Path, Place]] = [
        (str(path.relative_to(folder)), path, str(path)) for path in image_files(folder, "unlabeled.folder")
    ]
    records, paths = keep_probed(found, faults, "unlabelled", progress)
    return FileDataset((), records, paths, faults=faults, cache=PixelCache(), upright=True)


def image_files(folder: Path, key: str) -> list[Path]:
    """The image files below a folder, in a fixed order; hidden ones are none. Raises `DataError` when it is empty."""
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}; data.{key} is a folder of images, as the worker sees it")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not _hidden(path, folder))
    paths = [path for path in paths if path.is_file()]
    if not paths:
        raise DataError(f"{folder}: no image in it or below it (looked for {', '.join(sorted(SUFFIXES))})")
    return paths


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)  # ._name.jpg of macOS, .thumbnails


def listed_images(file: Path, key: str, faults: Faults) -> list[tuple[str, Path, str]]:
    """(name, path, file:line) of each image that a list file names; missing and repeated ones become faults.

    A relative path starts at the list's own folder. Backslashes are taken as separators where no such file exists.
    """
    if not file.is_file():
        raise DataError(f"no such file: {file}; {key} is a text file with one image path on each line")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {file}: {error}") from None
    found: list[tuple[str, Path, str]] = []
    seen: dict[Path, int] = {}
    for number, line in enumerate(lines, 1):
        name, place = line.strip(), f"{file}:{number}"
        if not name:
            continue
        path = _named(file.parent, name)
        if path is None:
            hint = " (a Windows path; write it as this machine sees it)" if name[1:3] == ":\\" else ""
            faults.add(NO_IMAGE, place, f"{name}{hint}")
        elif path in seen:
            faults.add(DUPLICATE, place, f"{name} stands in line {seen[path]} too")
        else:
            seen[path] = number
            found.append((name, path, place))
    return found


def _named(folder: Path, name: str) -> Path | None:
    try:
        tried = (folder / name, folder / name.replace("\\", "/"))
        return next((path for path in tried if path.is_file()), None)
    except (OSError, ValueError):  # a name that is too long, or holds a null byte
        return None
