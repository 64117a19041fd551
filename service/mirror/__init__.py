"""The mirror in MLflow: what a job's run must look like, the loop that makes it so, the check that it is."""
