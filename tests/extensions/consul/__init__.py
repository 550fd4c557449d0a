"""Tests of the extension ``consul``; those over HTTP are in ``tests/interop/test_consul.py``."""
