"""`python -m service.cli` is `bcd`, also where only its sources are (containers)."""

from __future__ import annotations

from service.cli import main

main()
