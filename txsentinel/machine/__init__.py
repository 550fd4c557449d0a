"""
What a Sentinel takes from the machine it runs on, below the host:

- ``names``: the system's resolver, in threads that nobody waits for
- ``crowd``: many sockets behind one descriptor of the reactor
- ``dialling``: our own connections, as lean as thousands of them have to be
- ``garbage``: the garbage collector, kept from holding everything up
- ``capacity``: how many connections the system lets us have, and saying so where that is too few
"""
