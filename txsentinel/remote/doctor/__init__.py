"""
Checks of a whole group: what breaks a failover now, what will surprise, what to note.

``examination`` has what the checks look at as plain records, ``gathering`` reads it from Sentinels and servers. The
modules named ``*_checks`` have a few checks each, as functions of an examination; ``all_checks`` lists them.
"""
