"""``sentinel.conf``: reading, validating, and rewriting it without losing a word of it."""
