"""One sweep on Ray Tune: the driver that decides what to try, and what follows each trial's job.

Trials are ordinary jobs of the queue, so whatever dies here no training is lost: the next driver reads from the service
what was tried and goes on.
"""
