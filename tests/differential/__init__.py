"""
The C Sentinels beside ours: the same lines to both in the same state, and no difference that is not on a list.

``tables`` holds the cases, one a line. ``environments`` starts a Sentinel of each kind over servers of its own,
``conversation`` plays the tables to it, ``rendering`` turns what came back into lines in which everything that
must differ (ports, IDs, times) is masked, and ``deliberate`` is the one list of differences that we want.
"""
