"""
A Sentinel that only watches: what it would have done, compared with what the Sentinels of a fleet do.

- ``observer``: the unmodified service over the servers of the fleet, which sends nothing but reads;
- ``comparison``: the failures of a master, as the observer and the fleet saw them.
"""
