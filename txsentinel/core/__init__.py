"""All decisions of a Sentinel: method calls in, effects out, without I/O; the time is passed in."""

COMPILED = ("*",)
"""What runs thousands of times a second, or while a failover waits for it; build_support reads this list."""
