"""Properties of every parser for arbitrary bytes, for hypothesis and for a fuzzer."""
