"""Tests of txsentinel.extensions."""
