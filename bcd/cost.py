"""What a detector costs to run: parameters, FLOPs, memory and latency, of one or of several side by side."""

from __future__ import annotations

import gc
import platform
import statistics
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from bcd.models.detector import Detector
from bcd.models.postprocess import PostprocessOptions

WARMUP, REPEATS = 3, 20


@dataclass(frozen=True)
class Latency:
    """Wall-clock milliseconds of one call. `low_ms` and `high_ms` are the first and third quartile."""

    median_ms: float
    low_ms: float
    high_ms: float
    repeats: int

    @classmethod
    def of(cls, seconds: list[float]) -> Latency:
        low, middle, high = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else seconds * 3
        return cls(middle * 1e3, low * 1e3, high * 1e3, len(seconds))


@dataclass(frozen=True)
class Cost:
    """Cost of one detector at batch 1.

    `flops` counts a multiply-add as two (one MAC = 2 FLOPs) and only products: convolutions and matrix products, as
    `torch.utils.flop_counter` does. `memory_bytes` is the peak of what one forward pass allocates beyond the weights
    (on the CPU counted tensor by tensor, without a kernel's workspace). `forward` is uint8 image to raw outputs;
    `detect` is uint8 image to detections after NMS (of noise: a crowded image has more boxes to suppress).
    """

    name: str
    parameters: int
    weight_bytes: int
    flops: int
    memory_bytes: int
    forward: Latency
    detect: Latency
    size: tuple[int, int]
    device: str
    threads: int

    @property
    def macs(self) -> int:
        """Multiply-adds: half of `flops`."""
        return self.flops // 2

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "macs": self.macs, "size": list(self.size), "batch": 1}


def measure_costs(
    models: Mapping[str, Detector],
    size: tuple[int, int],
    *,
    device: torch.device | str = "cpu",
    warmup: int = WARMUP,
    repeats: int = REPEATS,
    options: PostprocessOptions = PostprocessOptions(),
) -> list[Cost]:
    """The costs of detectors by name, in their order, at images of `size` (height, width) in pixels.

    Latencies are taken in turns (first every model once, then every model again), so that whatever else the machine
    does meets all of them and their ratios mean something. Random numbers come from a generator of its own; models
    are left on `device` in evaluation mode.

    Raises:
        ValueError: no model, or a size or count that is not positive.
    """
    if not models:
        raise ValueError("there is no detector to measure")
    if min(size) < 1 or repeats < 1 or warmup < 0:
        raise ValueError(f"size and repeats must be positive, not {size} and {repeats}")
    device = torch.device(device)
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    image_13HW, size_12 = image.to(device), torch.tensor([size], dtype=torch.float32, device=device)
    calls: dict[str, Callable[[], object]] = {}
    for name, model in models.items():
        model.to(device).eval()
        calls[f"forward {name}"] = partial(_forward, model, image_13HW)
        calls[f"detect {name}"] = partial(_detect, model, image_13HW, size_12, options)
    with torch.inference_mode():
        flops = {name: count_flops(calls[f"forward {name}"]) for name in models}
        memory = {name: peak_memory(calls[f"forward {name}"], device) for name in models}
        times = interleaved_latency(calls, device=device, warmup=warmup, repeats=repeats)
    return [
        Cost(
            name=name,
            parameters=sum(p.numel() for p in model.parameters()),
            weight_bytes=sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()]),
            flops=flops[name],
            memory_bytes=memory[name],
            forward=times[f"forward {name}"],
            detect=times[f"detect {name}"],
            size=size,
            device=device_name(device),
            threads=torch.get_num_threads(),
        )
        for name, model in models.items()
    ]


def _forward(model: Detector, image_13HW: torch.Tensor) -> object:
    return model(model.normalize(image_13HW))


def _detect(model: Detector, image_13HW: torch.Tensor, size_12: torch.Tensor, options: PostprocessOptions) -> object:
    return model.predict(model.normalize(image_13HW), size_12, options)


def interleaved_latency(
    calls: Mapping[str, Callable[[], object]],
    *,
    device: torch.device | str = "cpu",
    warmup: int = WARMUP,
    repeats: int = REPEATS,
) -> dict[str, Latency]:
    """Latency of each call, all of them in turns: `warmup` unmeasured rounds, then `repeats` measured ones."""
    device = torch.device(device)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + repeats):
        for name, call in calls.items():
            _wait(device)
            start = time.perf_counter()
            call()
            _wait(device)
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return {name: Latency.of(found) for name, found in seconds.items()}


def count_flops(call: Callable[[], object]) -> int:
    """FLOPs of one call: two for each multiply-add of its convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def peak_memory(call: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """Most bytes that tensors made within one call hold at the same time.

    On CUDA what the allocator says; elsewhere every tensor's storage is followed from its making to its end, which
    leaves out the workspace that a kernel takes and gives back.
    """
    device = torch.device(device)
    call()  # what is cached at first use is no part of it
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return int(torch.cuda.max_memory_allocated(device) - before)
    with StorageCounter() as counter:
        call()
    return counter.peak


class StorageCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensor storages that operators make while it is active. `peak` is the most at one time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: dict[int, int] = {}

    def __enter__(self) -> StorageCounter:
        gc.collect()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {t.untyped_storage()._cdata for t in _tensors((args, kwargs or {}))}
        out = func(*args, **(kwargs or {}))
        for tensor in _tensors(out):
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key in self._known or key in given:  # a view, or the caller's own
                continue
            self._known[key] = storage.nbytes()
            self.live += storage.nbytes()
            weakref.finalize(storage, self._drop, key)
        self.peak = max(self.peak, self.live)
        return out

    def _drop(self, key: int) -> None:
        self.live -= self._known.pop(key, 0)


def device_name(device: torch.device | str) -> str:
    """The device in words: the GPU's name, or the processor's."""
    device = torch.device(device)
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return _processor() or platform.machine()


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "")
    except OSError:
        return platform.processor()


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return []
    return [tensor for item in value for tensor in _tensors(item)]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
