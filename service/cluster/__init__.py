"""The cluster as the dispatcher last saw it: machines, what is in use, who leads, how long the queue is."""
