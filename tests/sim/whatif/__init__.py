"""Tests of ``txsentinel.sim.whatif``."""
