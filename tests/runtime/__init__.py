"""Tests of txsentinel.runtime."""
