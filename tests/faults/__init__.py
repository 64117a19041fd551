"""Faults on the real installation: each breaks something N times and then asks whether every promise was kept.

`python -m tests.faults --n 5` runs all of them, `--only NAME` some; `make faults N=...` is the same. A fault is one
file in this folder and one line in `table.py`.
"""
