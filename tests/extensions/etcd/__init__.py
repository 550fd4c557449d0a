"""Tests of the extension ``etcd``; those over a real one are in ``tests/interop/test_etcd.py``."""
