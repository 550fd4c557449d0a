"""Keeps the addresses of masters in a zone of DNS, by signed updates (RFC 2136, RFC 8945)."""
