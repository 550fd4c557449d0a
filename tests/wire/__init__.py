"""Tests of ``txsentinel.wire``."""
