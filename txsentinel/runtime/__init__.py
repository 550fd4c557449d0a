"""The running service: host, listeners, executor, durability barrier, sweeper, scripts and event plug-ins."""

COMPILED = ("durability", "executor", "sweeper")
"""What runs thousands of times a second, or while a failover waits for it; build_support reads this list."""
