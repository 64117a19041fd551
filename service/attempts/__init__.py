"""Attempts: the worker's ticket, and the records that it sends back."""
