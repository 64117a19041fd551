"""The health of an installation: what must always be true of it, and how to find out."""
