"""Saved views: addresses of pages under short ids."""
