"""Sweeps: what to try around a job spec, in which order, and when to stop. No torch, no Ray.

This room owns the contract of a sweep between the service, which stores it, and the worker that runs the search.
"""

from bcd.sweep.check import check
from bcd.sweep.grid import grid, grid_size
from bcd.sweep.space import Choice, Integer, LogUniform, Parameter, Space, Uniform, trial_values
from bcd.sweep.spec import (
    AshaScheduler,
    Budget,
    GridSearch,
    HyperbandScheduler,
    MedianScheduler,
    NoScheduler,
    Objective,
    Promotion,
    RandomSearch,
    SweepSpec,
    TpeSearch,
    parse_sweep,
)

__all__ = [
    "AshaScheduler", "Budget", "Choice", "GridSearch", "HyperbandScheduler", "Integer", "LogUniform", "MedianScheduler",
    "NoScheduler", "Objective", "Parameter", "Promotion", "RandomSearch", "Space", "SweepSpec", "TpeSearch", "Uniform",
    "check", "grid", "grid_size", "parse_sweep", "trial_values",
]  # fmt: skip
