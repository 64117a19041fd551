"""Webhooks: a project's addresses that are told what becomes of its jobs, signed, again until they have heard it."""
