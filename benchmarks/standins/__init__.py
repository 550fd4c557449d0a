"""
Stand-ins for thousands of Redis servers: real sockets and protocol, but no data.

They implement what a Sentinel observes of a server: INFO, roles, Pub/Sub, and the transactions of a failover.
Replication takes place inside one process, where a replica has what its master has. Each server has an address of its
own in 127.0.0.0/8, all have the same port, and a few processes serve them, each from one epoll loop::

    python -m benchmarks.standins --masters 1000 --replicas 1

Programs use :class:`benchmarks.standins.fleet.StandInFleet`.
"""
