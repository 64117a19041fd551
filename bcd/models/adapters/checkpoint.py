"""Foreign checkpoint files, read without running anything that is in them.

A torch checkpoint is a pickle, and a pickle may ask for any function to be called. The names that it asks for are read
from its opcodes first; then torch's restricted unpickler (`weights_only`) reads it, with an inert placeholder in place
of every foreign class (MMEngine keeps its logs in the file). Names that are no data are a reason to refuse the file.
"""

from __future__ import annotations

import _compat_pickle
import hashlib
import pickle
import pickletools
import sys
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open

# torch.save's first pickle in the format before 1.6, in which MMDetection's published files are.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PICKLES = 5  # magic number, version, system, the object, storage keys
# Standard names that are data; placeholders stand for them. Those of torch are left to torch's own list.
_DATA = {
    "argparse.Namespace", "builtins.bool", "builtins.bytes", "builtins.dict", "builtins.float", "builtins.frozenset",
    "builtins.getattr", "builtins.int", "builtins.list", "builtins.object", "builtins.range", "builtins.slice",
    "builtins.str", "builtins.tuple", "collections.defaultdict", "collections.deque", "copyreg._reconstructor",
    "datetime.date", "datetime.datetime", "datetime.timedelta", "datetime.timezone", "decimal.Decimal",
    "fractions.Fraction", "pathlib.Path", "pathlib.PosixPath", "pathlib.PurePosixPath", "pathlib.PureWindowsPath",
    "pathlib.WindowsPath", "types.SimpleNamespace", "uuid.UUID",
}  # fmt: skip
# Mappings: torch's unpickler fills plain dictionaries only.
_MAPPINGS = {
    "collections.defaultdict", "addict.addict.Dict", "mmcv.utils.config.ConfigDict", "mmengine.config.config.ConfigDict"
}  # fmt: skip
_LEFT_TO_TORCH = {"builtins.set", "builtins.bytearray", "builtins.complex", "collections.OrderedDict",
                  "collections.Counter", "_codecs.encode"}  # fmt: skip


class AdapterError(ValueError):
    """A foreign file that cannot be used; the message says why and what to change."""


class UnsafeFileError(AdapterError):
    """A file that could only be read by running code that it names."""


class Placeholder:
    """Stands where the file holds an object of a class that we do not read. It does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Placeholder:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _Mapping:
    """Makes a plain dictionary in place of a foreign mapping."""

    def __new__(cls, *_: Any, **__: Any) -> dict[Any, Any]:  # type: ignore[misc]
        return {}


@dataclass(frozen=True)
class Checkpoint:
    """A foreign file's contents.

    `format` is "torch" (zip), "torch-legacy" or "safetensors"; `content` is what was saved; `sha256` is the file's;
    `unread` names the classes whose objects were not read.
    """

    path: Path
    format: str
    content: Any
    sha256: str
    unread: tuple[str, ...] = ()


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a torch checkpoint or a safetensors file without running any code from it.

    Raises:
        UnsafeFileError: the file asks for functions to be called, or holds a whole pickled model; they are named.
        AdapterError: no such file, damaged, or in no format that we know.
    """
    path = Path(path)
    if not path.is_file():
        raise AdapterError(f"no such file: {path}")
    kind = file_format(path)
    if kind == "safetensors":
        return Checkpoint(path, kind, _safetensors(path), file_hash(path))
    names = pickled_names(path, kind)
    refused = sorted(name for name in names if _refused(name))
    if refused:
        raise UnsafeFileError(
            f"{path} is refused: reading it would call {', '.join(refused)}. Files that hold weights need no such "
            "thing; ask its author for a file with the state dict alone"
        )
    foreign = sorted(name for name in names if _foreign(name))
    allowed: list[Any] = [
        (type("Unread", (_Mapping if name in _MAPPINGS else Placeholder,), {}), name) for name in foreign
    ]
    try:
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = _reason(str(error))
        raise UnsafeFileError(
            f"{path} is refused: it cannot be read as data alone ({reason}). If it holds a whole model, save "
            "model.state_dict() and its class names instead"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise AdapterError(f"{path} is damaged or no torch checkpoint: {error}") from None
    return Checkpoint(path, kind, content, file_hash(path), tuple(foreign))


def file_format(path: Path) -> str:
    """ "torch", "torch-legacy", "safetensors", "torchscript" or "pickle". Raises AdapterError for anything else."""
    with open(path, "rb") as file:
        head = file.read(64)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
            return "torchscript"
        if any(name.endswith("data.pkl") for name in names):
            return "torch"
        raise AdapterError(f"{path} is a zip archive but no torch checkpoint")
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return "safetensors"
    if head[:1] == b"\x80":
        try:
            magic = next((arg for op, arg, _ in pickletools.genops(head) if op.name.startswith("LONG")), None)
        except ValueError:
            magic = None
        return "torch-legacy" if magic == LEGACY_MAGIC else "pickle"
    raise AdapterError(f"{path} is neither a torch checkpoint nor a safetensors file")


def pickled_names(path: Path, kind: str) -> set[str]:
    """Names of everything that the file's pickles would import, read from their opcodes; nothing is run.

    Raises:
        AdapterError: TorchScript, a plain pickle (its names are told), or a damaged file.
    """
    if kind == "torchscript":
        raise UnsafeFileError(f"{path} is refused: a TorchScript program is code; save its state dict instead")
    try:
        if kind == "torch":
            with zipfile.ZipFile(path) as archive:
                name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
                with archive.open(name) as stream:
                    return _names_of(stream)  # type: ignore[arg-type]
        with open(path, "rb") as stream:
            if kind == "pickle":
                found = sorted(_names_of(stream))
                asks = f" (it asks for {', '.join(found)})" if found else ""
                raise UnsafeFileError(f"{path} is refused: it is a plain pickle{asks} and no torch checkpoint")
            return set().union(*(_names_of(stream) for _ in range(LEGACY_PICKLES)))
    except (ValueError, EOFError, IndexError, OSError, zipfile.BadZipFile, StopIteration) as error:
        if isinstance(error, AdapterError):
            raise
        raise AdapterError(f"{path} is damaged or no torch checkpoint: {error}") from None


def file_hash(path: Path) -> str:
    """SHA-256 of the file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _names_of(stream: BinaryIO) -> set[str]:
    names, texts = set(), ["", ""]
    for op, arg, _ in pickletools.genops(stream):
        if op.name in ("GLOBAL", "INST"):
            names.add(_today(*str(arg).split(" ", 1)))
        elif op.name == "STACK_GLOBAL":  # the two texts before it
            names.add(_today(*texts[-2:]))
        elif op.name.startswith("EXT"):
            names.add(f"copyreg extension {arg}")
        elif "UNICODE" in op.name:
            texts.append(str(arg))
    return names


def _today(module: str, name: str = "") -> str:
    """A name as Python 3 has it: torch's pickles carry those of Python 2."""
    if (module, name) in _compat_pickle.NAME_MAPPING:
        return ".".join(_compat_pickle.NAME_MAPPING[(module, name)])
    return f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}"


def _refused(name: str) -> bool:
    """Functions of the standard library (`os.system`, `builtins.eval`) are never data."""
    if name in _DATA or name in _LEFT_TO_TORCH:
        return False
    return name.split(".")[0] in sys.stdlib_module_names or " " in name or not name.isprintable()


def _foreign(name: str) -> bool:
    return name not in _LEFT_TO_TORCH and name.split(".")[0] != "torch"


def _reason(text: str) -> str:
    """The line of torch's long message that names the fault."""
    start = max(text.find("WeightsUnpickler error:"), 0)
    line = text[start:].removeprefix("WeightsUnpickler error:").strip().splitlines()[0]
    return line.split(". Please use")[0].strip()


def _safetensors(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            return {"state_dict": tensors, "meta": dict(file.metadata() or {})}
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{path} is damaged or no safetensors file: {error}") from None


def state_dict_of(content: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """(state dict, everything around it) of a checkpoint's content.

    Raises:
        AdapterError: there is no state dict in it.
    """
    if isinstance(content, Mapping):
        for key in ("state_dict", "model", "model_state_dict"):
            inner = content.get(key)
            if isinstance(inner, Mapping) and any(isinstance(v, torch.Tensor) for v in inner.values()):
                return _all_tensors(inner), content
        if any(isinstance(value, torch.Tensor) for value in content.values()):
            return _all_tensors(content), {}
    raise AdapterError("there is no state dict in it: no mapping of names to tensors, alone or under 'state_dict'")


def _all_tensors(state: Mapping[str, Any]) -> Mapping[str, Any]:
    others = [str(key) for key, value in state.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise AdapterError(f"{len(others)} entries of its state dict are no tensors: {', '.join(others)}")
    return state
