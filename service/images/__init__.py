"""Detections on validation images: which images tell two runs apart, and what each run sees there."""
