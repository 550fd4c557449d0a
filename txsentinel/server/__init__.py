"""The side that clients, operators and other Sentinels connect to."""

COMPILED = (
    "dispatch",
    "output",
    "output_limits",
    "pacing",
    "protocol",
    "pubsub",
    "replies",
    "reply_writer",
    "reports",
    "request_cache",
    "request_executor",
    "specification",
    "statistics",
    "stepped_request",
    "table",
)
"""What runs thousands of times a second, or while a failover waits for it; build_support reads this list."""
