"""Tests of the extension ``haproxy``; those with a real one are in ``tests/interop/test_discovery.py``."""
