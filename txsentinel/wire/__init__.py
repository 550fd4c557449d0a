"""Parsing and encoding of the protocols as pure functions of bytes, without I/O or clocks."""

COMPILED = ("*",)
"""What runs thousands of times a second, or while a failover waits for it; build_support reads this list."""

INTERPRETED = ("values",)
"""Subclasses of built-in types, which mypyc does not compile."""
