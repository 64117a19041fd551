"""Artifacts: stored files of a job, listed and downloaded by id."""
