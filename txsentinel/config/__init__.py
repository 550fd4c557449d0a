"""``sentinel.conf``: parsing, validation, and durable rewriting that preserves all other contents."""
