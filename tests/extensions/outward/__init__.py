"""Tests of the extensions that send to other programs."""
