"""The commands, one module per family."""

COMPILED = ("connection", "sentinel_queries")
"""What runs thousands of times a second, or while a failover waits for it; build_support reads this list."""
