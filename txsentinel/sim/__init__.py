"""A deterministic simulation that hosts the unmodified service: clock, network, disks, Redis servers and faults."""
