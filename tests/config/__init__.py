"""Tests of ``txsentinel.config``."""
