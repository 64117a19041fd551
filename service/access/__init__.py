"""Access: projects, users, their roles and tokens, and the record of what was done."""
