"""Tests of ``txsentinel.machine``."""
