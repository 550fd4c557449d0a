"""
A TCP proxy in front of the master, for clients that know no Sentinels: ``txsentinel proxy``.

It is a process of its own. It follows the master with ``txsentinel.client`` and passes bytes on without parsing them.
``session`` has one connection of a client and its connection to a server, ``routes`` the choice of the server,
``server`` the ports, limits and what happens at a switch, ``page`` its metrics.
"""
