"""Tests of txsentinel.reactor."""
