"""What runs on the Ray cluster: one attempt of one job."""
