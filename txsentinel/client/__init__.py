"""
For applications: a ``txredisapi`` connection that always leads to the present master.

A :class:`MasterFollower` asks Sentinels who the master of a name is, connects to it, and moves when it changes. Any
Sentinel will do, ours or a C one::

    from twisted.internet import reactor
    from txsentinel.client import MasterFollower

    follower = MasterFollower(
        reactor,
        sentinels=[("10.0.0.1", 26379), ("10.0.0.2", 26379), ("10.0.0.3", 26379)],
        name="mymaster",
        pool_size=2,
    )

    @inlineCallbacks
    def main():
        yield follower.start()
        yield follower.execute("SET", "greeting", "hello")
        print((yield follower.commands.get("greeting")), "from", follower.address)
        yield follower.stop()

``execute`` sends any command; ``commands`` has the methods of ``txredisapi`` (``get``, ``hmset``, ``multi``, ...).

What to expect while the master changes:

- The follower is subscribed to ``+switch-master`` on *every* Sentinel given and moves as the first one announces it. It
  asks again whenever a subscription (re)starts, a connection to the master is lost, or a reply says ``-READONLY``.
- An address is used once the server itself says, by ``ROLE``, that it is a master. Of several beliefs the one with the
  highest config-epoch wins, so that a Sentinel that was cut off cannot lead back to an old master.
- A command given while there is no proven master waits for one, for ``timeout`` seconds at most, and then fails with
  :exc:`NoMaster`.
- A command that was sent is never sent again. If its connection breaks it fails with ``txredisapi.ConnectionError``,
  and whether the old master had executed it, and had passed it on to its replicas, nobody can tell: only the
  application knows whether to repeat it. The same goes for one that was answered ``-READONLY``, except that this one
  certainly had no effect.
- Transactions, ``WATCH`` and blocking commands belong to one connection and end with it.

The data nodes must let the given user run ``ROLE``; Sentinels ``SENTINEL GET-MASTER-ADDR-BY-NAME``, ``SENTINEL MASTER``
(without it epochs are not known and do not protect), ``SUBSCRIBE`` and ``PING``.

``txredisapi`` installs the default reactor when it is imported; this module imports it as a follower starts and not
before, and runs on the reactor that you pass. To use another than the default one, install it first, as ever.
"""

from txsentinel.client.follower import Commands, FollowError, FollowerStopped, MasterFollower, NoMaster
from txsentinel.client.links import MasterAddress

__all__ = ["Commands", "FollowError", "FollowerStopped", "MasterAddress", "MasterFollower", "NoMaster"]
