"""Tests of ``txsentinel.links``."""
