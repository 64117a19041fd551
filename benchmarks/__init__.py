"""Benchmarks, run by hand: `python -m benchmarks.train_step`. They need torch alone unless they say so."""
