"""
Reading and operating Sentinels of any kind from outside, with blocking connections.

``connection`` has one connection, ``fleet`` reads all Sentinels of a group in parallel, ``agreement`` and ``fitness``
judge what they answered. Nothing here needs Twisted.
"""
