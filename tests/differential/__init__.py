"""
The same commands for C Sentinels and for ours in the same state; each difference must be listed.

``tables`` has the cases, one per line. ``environments`` starts a Sentinel of each kind with servers of its own,
``conversation`` runs the tables against it, ``rendering`` turns replies into lines in which everything that
must differ (ports, IDs, times) is masked, and ``deliberate`` is the only list of accepted differences.
"""
