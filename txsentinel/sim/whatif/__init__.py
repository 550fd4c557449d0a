"""
What-ifs: an operator's own ``sentinel.conf`` goes through faults in simulation, and what would happen is told.

``txsentinel whatif`` is the way in, and ``docs/whatif.rst`` says what can be asked. To be read in this
order:

- ``command``: the command line, and all that follows from it, in outline
- ``site``: which Sentinels and servers the file describes, where they are, and what had to be assumed
- ``client``: the application that writes all the time and keeps account
- ``world``: the unmodified service, simulated servers and that application, in the places of the site
- ``targets``: whom a fault befalls, from the words of operators
- ``faults``: what can go wrong, and how it is done and undone
- ``ranking``: why a replica won, by the rules of production
- ``words``: the events of Sentinels, for those who do not know them by heart
- ``story``: what happened, in the order in which it did, and the figures of each failover
- ``reasons``: why a master has no working master at the end
- ``run``: one what-if from beginning to end
- ``report``: all of that on paper
"""
