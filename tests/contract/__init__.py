"""One suite of expectations for simulated and for real servers."""
