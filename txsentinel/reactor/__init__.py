"""Additions to the Twisted reactor: epoll multiplexer, priority polling, read coalescing and connectors."""
