"""Tests of the verbs for operators."""
