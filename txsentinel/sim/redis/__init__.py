"""
Simulated Redis servers, held to the same contract as real ones by ``tests/contract``.

Reading order:

- ``table``: how a command is declared, and in which states of the server it is allowed
- ``client``: one connection: parsing, transactions, subscriptions
- ``instance``: one server: checks before a command, the states that tests and faults put it into, data and messages
- ``commands``: connection, transactions, data, publishing, configuration, scripts
- ``reports``: INFO, ROLE and CLIENT
- ``settings``, ``persistence``: the configuration file; what survives a restart
- ``dataset``: the data, and the commands that change it
- ``pauses``: why commands are held
- ``master_link``: the replica's side of a replication link
- ``replication``: histories, the stream from the master and to replicas; where writes are lost
- ``roles``: commands that change or show the replication role: SLAVEOF, PSYNC, FAILOVER
- ``server``: the instance together with its commands
"""

COMPILED = ("*",)
"""Compiled only for soaks: ``make soak-compiled``; build_support reads this list."""
