"""Benchmarks, run by hand: `python -m benchmarks.train_step`. They need torch and torchvision alone unless they say so."""
