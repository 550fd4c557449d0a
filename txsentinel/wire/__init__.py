"""Parsing and encoding of the protocols as pure functions of bytes, without I/O or clocks."""
