"""What the doctor says: findings with a verdict each, and the whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["ok", "info", "warn", "fail"]
_RANK: dict[Verdict, int] = {"info": 0, "ok": 0, "warn": 1, "fail": 2}


@dataclass(frozen=True)
class Finding:
    """One check. `found` is what was seen, `advice` what to change (empty where nothing needs to), `values` the
    figures behind it as plain JSON values."""

    check: str
    verdict: Verdict
    found: str
    advice: str = ""
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """All findings in reading order."""

    findings: tuple[Finding, ...]
    seconds: float = 0.0

    @property
    def verdict(self) -> Literal["ok", "warn", "fail"]:
        """The worst verdict of all."""
        worst = max((_RANK[one.verdict] for one in self.findings), default=0)
        return ("ok", "warn", "fail")[worst]

    @property
    def failed(self) -> bool:
        return self.verdict == "fail"

    def of(self, verdict: Verdict) -> list[Finding]:
        """The findings of one verdict."""
        return [one for one in self.findings if one.verdict == verdict]

    def reason(self) -> str:
        """What failed, in one line."""
        return "; ".join(one.found for one in self.of("fail"))

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "version": 1,
            "verdict": self.verdict,
            "seconds": round(self.seconds, 3),
            "findings": [asdict(one) for one in self.findings],
        }

    @classmethod
    def of_parts(cls, parts: Iterable[Finding | None], seconds: float) -> Report:
        return cls(tuple(one for one in parts if one is not None), seconds)
