"""Additions to the Twisted reactor: epoll multiplexer, priority polling, read coalescing and connectors."""

COMPILED = ("client_transport", "connectors", "multiplexer", "read_coalescing")
"""What runs thousands of times a second, or while a failover waits for it; build_support reads this list."""
