"""
What a Sentinel takes from the machine it runs on, below the host:

- ``names``: the system's resolver, in threads that nobody waits for
- ``attention``: clients looked after between two calls of the reactor, and between the steps of long ones
- ``crowd``: many sockets behind one descriptor of the reactor
- ``coalescing``: a crowd that is looked at by the clock while it has much to say
- ``dialling``: our own connections, as lean as thousands of them have to be
- ``garbage``: the garbage collector, kept from holding everything up
- ``capacity``: how many connections the system lets us have, and saying so where that is too few
"""
