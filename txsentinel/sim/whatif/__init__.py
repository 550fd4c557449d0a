"""
The what-if command: run an operator's own ``sentinel.conf`` through faults in simulation and report the outcome.

The entry point is ``txsentinel whatif``; ``docs/whatif.rst`` documents it. Reading order:

- ``command``: the command line
- ``topology``: the Sentinels and servers that the file describes, their places, and the assumptions made
- ``client``: the application that writes all the time and counts acknowledged writes
- ``environment``: the unmodified service, simulated servers and that application, at the places of the topology
- ``targets``: which processes a target of a fault names
- ``faults``: the faults, and how they are injected and ended
- ``ranking``: why a replica won, by the rules of production
- ``event_texts``: explanations of Sentinel events
- ``narrative``: the timeline, and the figures of each failover
- ``reasons``: why a master has no working master at the end
- ``run``: one what-if from beginning to end
- ``report``: the report
"""
