"""
A client for applications: a ``txredisapi`` connection that follows the present master.

A :class:`MasterFollower` gets the address of a master from Sentinels, connects to it, and reconnects when it changes.
It works with this Sentinel and with those in C::

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
        yield follower.execute("SET", "color", "blue")
        print((yield follower.commands.get("color")), "from", follower.address)
        yield follower.stop()

``execute`` sends any command; ``commands`` has the methods of ``txredisapi`` (``get``, ``hmset``, ``multi``, ...).

Behaviour while the master changes:

- The follower subscribes to ``+switch-master`` on *every* given Sentinel and switches at the first announcement. It
  queries again when a subscription (re)starts, a connection to the master is lost, or a reply is ``-READONLY``.
- An address is used after the server has confirmed by ``ROLE`` that it is a master. Of several answers the one with the
  highest config-epoch wins, so that a partitioned Sentinel cannot direct the client back to an old master.
- A command that is given while there is no verified master waits for one, for ``timeout`` seconds at most, and then
  fails with :exc:`NoMaster`.
- A command that was sent is never sent again. If its connection breaks, it fails with ``txredisapi.ConnectionError``.
  It is then unknown whether the old master executed it and replicated it, and the application has to decide
  whether to repeat it. A command that was answered by ``-READONLY`` is not repeated either, but certainly had no
  effect.
- Transactions, ``WATCH`` and blocking commands belong to one connection and end with it.

The data nodes must let the given user run ``ROLE``; Sentinels ``SENTINEL GET-MASTER-ADDR-BY-NAME``, ``SENTINEL MASTER``
(without it epochs are not known and do not protect), ``SUBSCRIBE`` and ``PING``.

``txredisapi`` installs the default reactor when it is imported. This module imports it only when a follower starts, and
uses the reactor that you pass. To use another reactor than the default one, install it before, as usual.
"""

from txsentinel.client.follower import Commands, FollowError, FollowerStopped, MasterFollower, NoMaster
from txsentinel.client.links import MasterAddress

__all__ = ["Commands", "FollowError", "FollowerStopped", "MasterAddress", "MasterFollower", "NoMaster"]
