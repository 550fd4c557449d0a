"""Tests of ``txsentinel.server``."""
