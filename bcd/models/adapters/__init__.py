"""Readers of foreign checkpoints: they rename parameters, they never need the foreign framework."""
