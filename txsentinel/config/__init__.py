"""``sentinel.conf``: parsing, validation, and durable rewriting that preserves all other contents."""

COMPILED = ("directives", "document", "guards", "quoting", "rendering", "store")
"""What runs thousands of times a second, or while a failover waits for it; build_support reads this list."""
