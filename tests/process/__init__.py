"""Tests of txsentinel.process."""
