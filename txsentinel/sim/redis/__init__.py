"""
Simulated Redis servers, as real as a Sentinel can tell: ``tests/contract`` asks the same of them and of real ones.

To be read in this order:

- ``server``: one server, with the states that tests and faults put it into, and what its other parts share
- ``client``: one connection to it: parsing, the gates before a command, transactions, subscriptions
- ``table``: how a command is declared, and in which states of the server it is allowed
- ``commands``: connection, transactions, data, publishing, configuration, scripts
- ``reports``: what a server says about itself and its clients: INFO, ROLE, CLIENT
- ``pauses``: why commands are held
- ``replication``: histories, the link to the master, the stream to replicas; where writes are lost
- ``roles``: commands that change or show a place in replication: SLAVEOF, PSYNC, FAILOVER
"""
