"""Training: the task, the loop, the optimizer, moving averages and checkpoints."""
