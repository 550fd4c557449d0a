"""Tests of ``txsentinel.core``."""
