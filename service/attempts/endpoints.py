"""HTTP routes of attempts."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(tags=["attempts"])
