"""Which installation a command means."""

from __future__ import annotations

from pathlib import Path

from service.settings import Settings


def settings_of(home: Path | None) -> Settings:
    """The settings of the installation in `home` (default: BCD_HOME, else .bcd here)."""
    return Settings.load(home)
