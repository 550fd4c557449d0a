"""The running service: host, listeners, executor, durability barrier, sweeper, scripts and event plug-ins."""
