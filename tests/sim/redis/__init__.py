"""Tests of ``txsentinel.sim.redis``."""
