"""Sweeps: accepting them, their trials, what their driver calls, and what they show. Searching is done on Ray."""
