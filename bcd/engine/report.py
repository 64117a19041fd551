"""What a run tells, and what it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bcd.cost import Cost


class RunSink(Protocol):
    """Where a run reports to. Methods must return quickly: they are called from the training loop.

    `facts` gets what the run found out about itself, by name: code, machine, data, teacher. `artifact` gets files that
    belong to the result beside the student: `predictions` and `other`.
    """

    def metrics(self, step: int, values: dict[str, float]) -> None: ...
    def log(self, text: str, level: str = "info") -> None: ...
    def phase(self, name: str) -> None: ...
    def facts(self, values: dict[str, str]) -> None: ...
    def checkpoint(self, path: Path, step: int) -> None: ...
    def evaluation(self, step: int, name: str, protocol: str, results: dict[str, Any]) -> None: ...
    def artifact(self, type: str, name: str, path: Path, step: int) -> None: ...


class Silent:
    """A sink that tells nobody: for all processes of a run but the first."""

    def metrics(self, step: int, values: dict[str, float]) -> None: ...
    def log(self, text: str, level: str = "info") -> None: ...
    def phase(self, name: str) -> None: ...
    def facts(self, values: dict[str, str]) -> None: ...
    def checkpoint(self, path: Path, step: int) -> None: ...
    def evaluation(self, step: int, name: str, protocol: str, results: dict[str, Any]) -> None: ...
    def artifact(self, type: str, name: str, path: Path, step: int) -> None: ...


@dataclass(frozen=True)
class RunResult:
    """`path` is the plain student (safetensors); `evaluation` is what `bcd.eval.coco.evaluate` returned for it.

    `steps` is the step whose weights these are: the last one, or the best.
    """

    path: Path
    evaluation: dict[str, Any]
    steps: int
    seconds: float


def ap_metrics(results: dict[str, Any]) -> dict[str, float]:
    """An evaluation as flat metrics: AP, AP50, AP75, APs, APm, APl and AP/<class>; undefined ones are left out."""
    flat = {key: results[key] for key in ("AP", "AP50", "AP75", "APs", "APm", "APl")}
    flat |= {f"AP/{name}": value for name, value in results["per_class"].items()}
    return {key: float(value) for key, value in flat.items() if value is not None}


def cost_metrics(cost: Cost) -> dict[str, float]:
    """The cost of a student as flat metrics: parameters, gflops of one image, median latency_ms of one image."""
    return {
        "parameters": float(cost.parameters),
        "gflops": cost.flops / 1e9,
        "latency_ms": cost.detect.median_ms,
    }


DEAD_AFTER = 3  # reports in a row


class DeadTerms:
    """Finds loss terms that are configured and stay exactly 0: they teach nothing, and nobody would notice."""

    def __init__(self, distilled: tuple[str, ...]):
        """`distilled` are the types of the methods: their terms' names begin with them."""
        self._distilled = distilled
        self._zero: dict[str, int] = {}
        self._was = False

    def look(self, values: dict[str, float]) -> tuple[dict[str, float], list[str]]:
        """A report's metrics, with `dead_terms` while there are any, and warnings to give now.

        A term counts as dead once it was exactly 0 in `DEAD_AFTER` reports in a row, each a mean over all steps since
        the report before, in which the term took part.
        """
        warnings = []
        for key, value in values.items():
            if not key.startswith("loss/"):
                continue
            self._zero[key] = self._zero.get(key, 0) + 1 if value == 0 else 0
            if self._zero[key] == DEAD_AFTER:
                warnings.append(self._warning(key.removeprefix("loss/")))
        dead = sum(count >= DEAD_AFTER for count in self._zero.values())
        if dead or self._was:
            values = {**values, "dead_terms": float(dead)}
        self._was = dead > 0
        return values, warnings

    def _warning(self, name: str) -> str:
        text = f"loss term {name} has been exactly 0 in {DEAD_AFTER} reports in a row: it teaches nothing"
        if any(name.startswith(kind) for kind in self._distilled):
            return (
                f"{text}. Teacher and student may be the same, or the sites that it reads may be empty; drop it or "
                "see `bcd doctor`"
            )
        return f"{text}. Perhaps no site is positive: compare the boxes' sizes with student.prior_scale and strides"
