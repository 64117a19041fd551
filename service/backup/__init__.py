"""Back-up and restore of an installation: its database as text lines, its stored files by hash, its secrets."""
