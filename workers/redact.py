"""Takes secrets out of what a run says before it is written anywhere: logs and tracebacks quote what they trip on."""

from __future__ import annotations

import os
import re
from functools import lru_cache

MASK = "***"
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY", re.IGNORECASE)
_PLACE_NAME = re.compile(r"_(PATH|FILE|DIR|URL|URI|MODE)$", re.IGNORECASE)
_SHORTEST = 8  # characters; shorter values would take ordinary words away
_KNOWN_FORMS = re.compile(
    r"\bbc[ds]_[A-Za-z0-9_-]{43}"  # our own tokens and sessions
    r"|(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{16,}"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"  # user:password of an address
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # AWS
    r"|\bgh[oprsu]_[A-Za-z0-9]{36,}\b|\bgithub_pat_\w{22,}\b"
    r"|\bhf_[A-Za-z0-9]{30,}\b"  # Hugging Face
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)


def redact(text: str) -> str:
    """The text with secrets masked: values of this process's environment whose names say so, and known forms."""
    return _KNOWN_FORMS.sub(MASK, _values().sub(MASK, text))


@lru_cache(maxsize=1)
def _values() -> re.Pattern[str]:
    found = {
        value
        for name, value in os.environ.items()
        if _SECRET_NAME.search(name) and not _PLACE_NAME.search(name) and len(value) >= _SHORTEST
    }
    # The longest first: one value may begin another. Nothing found: a pattern that never matches.
    return re.compile("|".join(re.escape(value) for value in sorted(found, key=len, reverse=True)) or r"(?!)")
