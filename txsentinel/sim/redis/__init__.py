"""
Simulated Redis servers, held to the same contract as real ones by ``tests/contract``.

Reading order:

- ``server``: one server, the states that tests and faults put it into, and what its other parts share
- ``client``: one connection: parsing, checks before a command, transactions, subscriptions
- ``table``: how a command is declared, and in which states of the server it is allowed
- ``commands``: connection, transactions, data, publishing, configuration, scripts
- ``reports``: INFO, ROLE and CLIENT
- ``pauses``: why commands are held
- ``replication``: histories, the link to the master, the stream to replicas; where writes are lost
- ``roles``: commands that change or show the replication role: SLAVEOF, PSYNC, FAILOVER
"""
