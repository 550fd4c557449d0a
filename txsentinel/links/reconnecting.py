"""
The states of one connection that is maintained, and the transitions between them.

==============  =====================================================================================
State           Meaning
==============  =====================================================================================
``new``         No attempt was begun yet, for example because the address is not resolved.
``connecting``  An attempt to connect is queued or under way.
``connected``   The connection is established.
``renewing``    The connection is being closed by this side, to be made again at once.
``waiting``     The next attempt is scheduled.
``following``   No attempt is made before the command connection of the same link is established.
``closing``     The link was retired, and its connection is being closed.
``retired``     The link was retired, and has no connection.
==============  =====================================================================================

The machine determines when an attempt is due; ``ReconnectingClientFactory``, from which the factory of links derives,
schedules and abandons it. The machine is built by Automat, like that of ``twisted.application.internet.ClientService``.
This module is not compiled: mypyc replaces the methods of the class of inputs by descriptors, in which Automat finds no
inputs. One input takes three to six microseconds, as Automat searches all transitions, and an attempt to connect has
two. With thousands of servers down, when at most 500 attempts are made in a second, this is half a percent of a
processor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from automat import TypeMachineBuilder

from txsentinel.model.timings import Millis


class Actions(Protocol):
    """What the transitions cause; :class:`~txsentinel.links.factory.LinkFactory` provides it."""

    def begin_first(self) -> None:
        """Make the first attempt as soon as the throttle allows it."""

    def begin_next(self) -> None:
        """Make another attempt as soon as the throttle allows it."""

    def abort_attempt(self) -> None:
        """Cancel the attempt that is queued or under way."""

    def schedule_attempt(self, delay: Millis) -> None:
        """Schedule the next attempt, instead of the one that is scheduled."""

    def schedule_after_failure(self, now: Millis) -> None:
        """Schedule the next attempt one retry interval after the beginning of the failed one."""

    def schedule_after_loss(self, now: Millis) -> None:
        """Schedule the next attempt one ping period after the lost connection was established, or at once."""

    def cancel_attempt(self) -> None:
        """Cancel the attempt that is scheduled."""

    def adopt(self, connection: Any) -> None:
        """Use a connection that is established."""

    def renew(self, reason: str) -> None:
        """Close the connection, with commands unanswered."""

    def close(self) -> None:
        """Close the connection in an orderly way."""

    def report_down(self, reason: str, now: Millis) -> None:
        """Report to the core that there is no connection."""

    def report_gone(self) -> None:
        """Report that the link was retired and has no connection any more."""


class Inputs(Protocol):
    """
    The inputs of the machine; every state accepts all of them that can occur in it.

    An input that an action causes, for example by a decision of the core, takes effect when the output has returned.
    """

    def start(self) -> None:
        """The link has an address to connect to."""

    def due(self) -> None:
        """The scheduled time of an attempt has come."""

    def established(self, connection: Any) -> None:
        """The attempt has succeeded."""

    def failed(self, reason: str, now: Millis) -> None:
        """The attempt has failed."""

    def failed_like_leader(self, reason: str, now: Millis) -> None:
        """The attempt has failed, and the command connection of the same link is not established either."""

    def leader_connected(self) -> None:
        """The command connection of the same link is established."""

    def lost(self, reason: str, now: Millis) -> None:
        """The connection is closed."""

    def reconnect(self, reason: str) -> None:
        """The connection must be made anew; an attempt that is under way has the right parameters already."""

    def retire(self) -> None:
        """The link is not needed any more."""


_builder = TypeMachineBuilder(Inputs, Actions)  # type: ignore[type-abstract]  # Automat makes no object of it.

new = _builder.state("new")
connecting = _builder.state("connecting")
connected = _builder.state("connected")
renewing = _builder.state("renewing")
waiting = _builder.state("waiting")
following = _builder.state("following")
closing = _builder.state("closing")
retired = _builder.state("retired")


@new.upon(Inputs.start).to(connecting)
def _begin_first(inputs: Inputs, actions: Actions) -> None:
    actions.begin_first()


@waiting.upon(Inputs.due).to(connecting)
def _begin_next(inputs: Inputs, actions: Actions) -> None:
    actions.begin_next()


@connecting.upon(Inputs.established).to(connected)
def _adopt(inputs: Inputs, actions: Actions, connection: Any) -> None:
    actions.adopt(connection)


@connecting.upon(Inputs.failed).to(waiting)
def _failed(inputs: Inputs, actions: Actions, reason: str, now: Millis) -> None:
    actions.schedule_after_failure(now)
    actions.report_down(reason, now)


@connecting.upon(Inputs.failed_like_leader).to(following)
def _failed_like_leader(inputs: Inputs, actions: Actions, reason: str, now: Millis) -> None:
    actions.report_down(reason, now)


@following.upon(Inputs.leader_connected).to(waiting)
def _follow(inputs: Inputs, actions: Actions) -> None:
    actions.schedule_attempt(0)


@connected.upon(Inputs.lost).to(waiting)
def _lost(inputs: Inputs, actions: Actions, reason: str, now: Millis) -> None:
    actions.schedule_after_loss(now)
    actions.report_down(reason, now)


@renewing.upon(Inputs.lost).to(waiting)
def _renewed(inputs: Inputs, actions: Actions, reason: str, now: Millis) -> None:
    actions.schedule_attempt(0)
    actions.report_down(reason, now)


@connected.upon(Inputs.reconnect).to(renewing)
def _renew(inputs: Inputs, actions: Actions, reason: str) -> None:
    actions.renew(reason)


def _hasten(inputs: Inputs, actions: Actions, reason: str) -> None:
    actions.schedule_attempt(0)


waiting.upon(Inputs.reconnect).loop()(_hasten)
following.upon(Inputs.reconnect).to(waiting)(_hasten)


def _gone(inputs: Inputs, actions: Actions) -> None:
    actions.report_gone()


new.upon(Inputs.retire).to(retired)(_gone)
following.upon(Inputs.retire).to(retired)(_gone)


@connecting.upon(Inputs.retire).to(retired)
def _abort(inputs: Inputs, actions: Actions) -> None:
    actions.abort_attempt()
    actions.report_gone()


@waiting.upon(Inputs.retire).to(retired)
def _cancel(inputs: Inputs, actions: Actions) -> None:
    actions.cancel_attempt()
    actions.report_gone()


@connected.upon(Inputs.retire).to(closing)
def _close(inputs: Inputs, actions: Actions) -> None:
    actions.close()


renewing.upon(Inputs.retire).to(closing).returns(None)


@closing.upon(Inputs.lost).to(retired)
def _closed(inputs: Inputs, actions: Actions, reason: str, now: Millis) -> None:
    actions.report_gone()


for _state in (connecting, connected, renewing, waiting, following, closing, retired):
    # The core orders to connect whenever an instance joins the link.
    _state.upon(Inputs.start).loop().returns(None)

for _state in (new, connecting, connected, renewing, waiting, closing, retired):
    _state.upon(Inputs.leader_connected).loop().returns(None)

for _state in (new, connecting, renewing, closing, retired):
    _state.upon(Inputs.reconnect).loop().returns(None)

for _state in (closing, retired):
    _state.upon(Inputs.retire).loop().returns(None)

# The outcome of an attempt that could not be cancelled any more; the reactor closes a connection that is not adopted.
retired.upon(Inputs.established).loop().returns(None)
retired.upon(Inputs.lost).loop().returns(None)
retired.upon(Inputs.failed).loop().returns(None)
retired.upon(Inputs.failed_like_leader).loop().returns(None)

link_machine: Final[Callable[[Actions], Inputs]] = _builder.build()
"""Builds a machine, in the state ``new``."""
