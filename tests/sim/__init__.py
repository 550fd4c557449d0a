"""Tests of ``txsentinel.sim``."""
