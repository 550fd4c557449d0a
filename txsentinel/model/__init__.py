"""Values that every layer shares: addresses, events, periods and limits, and the throttle of log lines."""

COMPILED = ("address", "events", "log_text", "measurements", "time_slice", "timings")
"""What runs thousands of times a second, or while a failover waits for it; build_support reads this list."""
