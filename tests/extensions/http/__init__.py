"""Tests of txsentinel.extensions.http."""
