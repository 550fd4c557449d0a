"""One test suite for simulated and real servers."""
