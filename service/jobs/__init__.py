"""Jobs: submit, list, cancel, read; `states.py` owns every change of a job's state."""
