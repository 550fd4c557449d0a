"""A deterministic simulation that hosts the unmodified service: clock, network, disks, Redis servers and faults."""

COMPILED = (
    "c_links",
    "c_sentinel",
    "checks",
    "clients",
    "durable",
    "files",
    "fleet",
    "flows",
    "groups",
    "history_checks",
    "host",
    "network",
    "processes",
    "reactor",
    "records",
    "simulation",
    "sockets",
    "tcp",
    "wire_checks",
    "wiretap",
)
"""Compiled only for soaks: ``make soak-compiled``; build_support reads this list."""
