"""Tests of txsentinel.model."""
