"""Tests of the benchmarks: that they count correctly, not how fast anything is."""
