"""Readers of foreign checkpoints: they rename parameters, they never need the foreign framework."""

from bcd.models.adapters import mmdet

__all__ = ["mmdet"]
