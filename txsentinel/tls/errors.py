"""What TLS is refused with."""

from __future__ import annotations


class BadTls(Exception):
    """TLS cannot be had as it is configured; the text is a line for the log."""
