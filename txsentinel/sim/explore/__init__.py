"""Exhaustive checking: every order of messages, losses, timeouts, crashes and restarts, over the real core."""

COMPILED = (
    "group",
    "images",
    "interning",
    "local_states",
    "process",
    "search",
    "sentinel_checks",
)
"""What a search spends its time in; compiled only for soaks and long searches."""
