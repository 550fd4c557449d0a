"""Outgoing connections: to the monitored servers and to the other Sentinels."""

COMPILED = ("*",)
"""What runs thousands of times a second, or while a failover waits for it; build_support reads this list."""

INTERPRETED = ("reconnecting",)
"""A state machine: Automat finds no inputs in a compiled class."""
