"""Foreign files: looked into and converted without running anything that is in them."""

from __future__ import annotations

import os
import pickle
import sys
import types
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import bcd
from bcd.models.adapters import AdapterError, Overrides, UnsafeFileError
from bcd.models.adapters.checkpoint import read_checkpoint
from bcd.models.adapters.inspect import import_teacher, inspect_file
from bcd.models.files import DetectorFileError, load_detector, save_detector
from tests.helpers.foreign import ANCHOR_OPTIONS, config, mmdet_state
from tests.helpers.runs import TINY

NAMES = ("cat", "dog", "cow")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GFL as MMDetection publishes it: torch's old format, metadata around it."""
    path = tmp_path_factory.mktemp("foreign") / "gfl_r18.pth"
    meta = {"CLASSES": NAMES, "config": config("GFL", "GFLHead", ANCHOR_OPTIONS), "epoch": 12}
    torch.save({"state_dict": mmdet_state("gfl"), "meta": meta}, path, _use_new_zipfile_serialization=False)
    return path


class Touch:
    """Asks, when unpickled, for a file to be made by a function of the given name."""

    def __init__(self, call: object, *args: object):
        self.call, self.args = call, args

    def __reduce__(self) -> tuple:
        return self.call, self.args


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    ("call", "name"),
    [(os.system, r"(posix|nt)\.system"), (eval, r"builtins\.eval"), (os.mkdir, r"(posix|nt)\.mkdir")],
)
def test_a_malicious_checkpoint_is_refused_and_nothing_runs(tmp_path: Path, call, name: str, old: bool):
    mark = tmp_path / "ran"
    args = {os.system: f"touch {mark}", eval: f"__import__('pathlib').Path({str(mark)!r}).touch()", os.mkdir: str(mark)}
    path = tmp_path / "evil.pth"
    # As torch saves it; by hand, since the attack is in the pickle and not in torch.
    torch.save({"state_dict": {"bbox_head.gfl_cls.weight": torch.zeros(1)}, "meta": Touch(call, args[call])}, path,
               _use_new_zipfile_serialization=not old)  # fmt: skip
    with pytest.raises(UnsafeFileError, match=rf"refused: reading it would call {name}"):
        read_checkpoint(path)
    seen = inspect_file(path)
    assert seen.problem is not None
    assert "would call" in seen.problem
    with pytest.raises(UnsafeFileError):
        import_teacher(path, tmp_path / "out.safetensors")
    with pytest.raises(DetectorFileError, match="would call"):
        load_detector(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evil.pth"]


def test_a_plain_pickle_is_refused_and_nothing_runs(tmp_path: Path):
    path = tmp_path / "evil.pkl"
    for protocol in (2, 4):
        path.write_bytes(pickle.dumps(Touch(os.mkdir, str(tmp_path / "ran")), protocol=protocol))
        with pytest.raises(UnsafeFileError, match=r"plain pickle \(it asks for (posix|nt)\.mkdir\)"):
            read_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def test_a_whole_pickled_model_is_refused_with_the_reason(tmp_path: Path):
    path = tmp_path / "model.pth"
    torch.save({"model": torch.nn.Linear(2, 2)}, path)
    with pytest.raises(UnsafeFileError, match=r"torch\.nn\.modules\.linear\.Linear.*state_dict\(\)"):
        read_checkpoint(path)


def test_objects_of_mmengine_are_left_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """3.x keeps its logs in the checkpoint, as objects of classes that are not installed here."""
    module = types.ModuleType("mmengine.logging.history_buffer")

    class HistoryBuffer:
        def __init__(self) -> None:
            self._log_history, self._count = np.arange(4.0), np.int64(4)

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = module.__name__, "HistoryBuffer"
    module.HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    for name in ("mmengine", "mmengine.logging", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    counts: defaultdict = defaultdict(int)
    counts["iter"] = 3
    hub = {"log_scalars": OrderedDict(loss=HistoryBuffer()), "runtime_info": OrderedDict(iter=3), "counts": counts}
    text = config("GFL", "GFLHead", ANCHOR_OPTIONS, version=3)
    saved = {"state_dict": mmdet_state("gfl"), "meta": {"dataset_meta": {"classes": NAMES}, "cfg": text},
             "message_hub": hub}  # fmt: skip
    path = tmp_path / "epoch_12.pth"
    torch.save(saved, path)
    for name in ("mmengine", "mmengine.logging", module.__name__):
        monkeypatch.delitem(sys.modules, name)
    seen = inspect_file(path)
    assert seen.problem is None
    assert "mmengine.logging.history_buffer.HistoryBuffer" in seen.unread
    assert seen.class_names == NAMES
    assert load_detector(path).info.class_names == NAMES
    assert type(read_checkpoint(path).content["message_hub"]["counts"]) is dict


def test_files_that_are_no_checkpoints_are_told_apart(tmp_path: Path):
    path = tmp_path / "file.pth"
    for content, message in (
        (b"", "neither a torch checkpoint nor a safetensors file"),
        (b"hello, world", "neither a torch checkpoint nor a safetensors file"),
        (b"cos\nmkdir\n(S'x'\ntR.", "neither a torch checkpoint"),
    ):
        path.write_bytes(content)
        assert message in (inspect_file(path).problem or "")
    torch.save({"a": torch.zeros(100)}, path)
    path.write_bytes(path.read_bytes()[:-200])
    assert inspect_file(path).problem is not None
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    assert "TorchScript" in (inspect_file(path).problem or "")
    torch.save({"epoch": 3}, path)
    assert "no state dict" in (inspect_file(path).problem or "")
    torch.save({"state_dict": {"roi_head.bbox_head.fc_cls.weight": torch.zeros(1)}}, path)
    assert "roi_head.bbox_head" in (inspect_file(path).problem or "")
    torch.save({"state_dict": {"bbox_head.gfl_cls.weight": torch.zeros(1), "bbox_head.gfl_reg.weight": "x"}}, path)
    assert "no tensors: bbox_head.gfl_reg.weight" in (inspect_file(path).problem or "")
    with pytest.raises(AdapterError, match="no such file"):
        inspect_file(tmp_path / "absent.pth")


def test_inspect_says_what_is_in_a_checkpoint(checkpoint: Path):
    seen = inspect_file(checkpoint)
    assert (seen.format, seen.framework, seen.detector, seen.backbone) == (
        "torch-legacy", "mmdetection", "gfl", "resnet18")  # fmt: skip
    assert seen.class_names == NAMES
    assert seen.keys["bbox_head.gfl_cls"] == 2
    assert seen.left_out == {"bbox_head.integral.project": "a constant"}
    assert (seen.problem, seen.missing, seen.assumed) == (None, (), ())
    assert seen.as_dict()["class_names"] == list(NAMES)


def test_import_writes_a_detector_of_ours_with_its_hashes(checkpoint: Path, tmp_path: Path):
    written, model, seen = import_teacher(checkpoint, tmp_path / "teacher.safetensors")
    again = load_detector(written)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(images).boxes_BA4, load_detector(checkpoint)(images).boxes_BA4)
    assert again.info == model.info
    assert again.info.class_names == NAMES
    source = again.info.extra["source"]
    assert (source["framework"], source["file"]) == ("mmdetection", "gfl_r18.pth")
    assert source["sha256"] == inspect_file(checkpoint).sha256
    with safe_open(written, framework="pt") as file:
        assert file.metadata()["sha256"] == seen.content_sha256
    other, _, same = import_teacher(checkpoint, tmp_path)  # a folder
    assert other == tmp_path / "student.safetensors"
    assert same.content_sha256 == seen.content_sha256
    with pytest.raises(AdapterError, match="already a detector of bcd"):
        import_teacher(written, tmp_path / "x.safetensors")


def test_a_bare_state_dict_needs_its_names(tmp_path: Path):
    path = tmp_path / "bare.pth"
    torch.save(mmdet_state("gfl"), path)
    assert inspect_file(path).missing == ("names of its 3 classes",)
    with pytest.raises(AdapterError, match="does not name its 3 classes"):
        import_teacher(path, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
    _, model, _ = import_teacher(path, tmp_path / "out.safetensors", Overrides(class_names=NAMES))
    assert model.info.class_names == NAMES
    with pytest.raises(AdapterError, match="unknown key 'shape'"):
        import_teacher(path, tmp_path / "x", Overrides(class_names=NAMES, variant={"shape": 1}))


def test_a_foreign_safetensors_file_is_read_too(tmp_path: Path):
    path = tmp_path / "foreign.safetensors"
    save_file({k: v.clone() for k, v in mmdet_state("gfl").items()}, path)
    seen = inspect_file(path)
    assert (seen.format, seen.framework, seen.detector) == ("safetensors", "mmdetection", "gfl")
    with pytest.raises(DetectorFileError, match="bcd teacher import"):
        load_detector(path)


class TestOurOwn:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        torch.manual_seed(0)
        return save_detector(bcd.build_detector(**TINY["student"], class_names=NAMES), tmp_path / "student.safetensors")

    def test_it_is_described(self, file: Path):
        seen = inspect_file(file)
        assert (seen.format, seen.detector, seen.backbone, seen.problem) == ("bcd", "gfl", "tiny", None)
        assert seen.class_names == NAMES
        assert seen.content_sha256 is not None

    def test_a_changed_weight_is_noticed(self, file: Path):
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata()
        tensors = load_file(file)
        tensors["head.cls.bias"] += 1e-3
        save_file(tensors, file, metadata=metadata)
        assert "changed or damaged" in (inspect_file(file).problem or "")

    def test_the_hash_is_of_weights_names_and_description(self, tmp_path: Path):
        torch.manual_seed(0)
        first = bcd.build_detector(**TINY["student"], class_names=NAMES)
        torch.manual_seed(0)
        same = bcd.build_detector(**TINY["student"], class_names=NAMES)
        torch.manual_seed(0)
        renamed = bcd.build_detector(**TINY["student"], class_names=("a", "b", "c"))
        hashes = [
            inspect_file(save_detector(model, tmp_path / f"{i}.safetensors")).content_sha256
            for i, model in enumerate((first, same, renamed))
        ]
        assert hashes[0] == hashes[1] != hashes[2]

    def test_paths_folders_and_uris_load(self, file: Path):
        for where in (file, str(file), file.parent, file.as_uri(), file.parent.as_uri()):
            assert bcd.load_detector(where).info.class_names == NAMES
        for where in ("https://example.org/teacher.safetensors", "s3://bucket/teacher", "file://elsewhere/a"):
            with pytest.raises(DetectorFileError, match="not on this machine"):
                bcd.load_detector(where)
        with pytest.raises(DetectorFileError, match="no such"):
            bcd.load_detector(f"{file.as_uri()}x")

    def test_a_damaged_file_is_told(self, file: Path):
        file.write_bytes(file.read_bytes()[:-10])
        assert inspect_file(file).problem is not None
        with pytest.raises(DetectorFileError, match="damaged"):
            load_detector(file)
