"""The exception of this package."""

from __future__ import annotations


class BadTls(Exception):
    """The TLS configuration is unusable; the text is the log line."""
