"""Who is the master of a name, and a pool of connections to it: asked of Sentinels, proven by the server itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsentinel.client.links import Access, Answer, Inquiry, MasterAddress, NoAnswer, SubscriptionFactory
from txsentinel.client.pool import MasterPool, PoolOptions

FIRST_RETRY: Final = 0.05
"""Seconds before asking again when an answer led nowhere; doubled each time."""

MAX_RETRY_DELAY: Final = 1.0
"""Seconds between two rounds of questions, at most, while no master is to be had."""

STEADY: Final = 1.0
"""Seconds that a master must have served for its loss to be met without a delay."""

log = Logger()


class MasterSearch:
    """
    The search for the master, which goes on for as long as it is wanted.

    While it is *serving* there is a pool with at least one connection to a proven master. Whatever casts doubt on that
    ends it at once, and the questions begin: to every Sentinel, in rounds, until some address proves to be a master.

    :param found: called each time that serving begins.
    """

    def __init__(
        self,
        name: str,
        sentinels: Sequence[MasterAddress],
        sentinel_access: Access,
        options: PoolOptions,
        found: Callable[[MasterAddress], None],
    ) -> None:
        self.name = name
        self.sentinels = sentinels
        self.last_error = ""
        """What went wrong last; for people."""
        self._reactor = options.access.reactor
        self._sentinel_access = sentinel_access
        self._options = options
        self._found = found
        self._watches = [
            SubscriptionFactory(name, sentinel, sentinel_access, self._received, self._on_error)
            for sentinel in sentinels
        ]
        self._inquiries: dict[MasterAddress, Inquiry] = {}
        self._closing: list[Deferred[None]] = []
        self._stopped = False

        self._pool: MasterPool | None = None
        self._serving = False
        self._since = 0.0
        self._epoch: int | None = None
        """The highest config-epoch that we acted upon; answers below it are memories."""
        self._unsure = False
        """Was the master only announced, so that its own epoch is yet to be learnt?"""
        self._latest: MasterAddress | None = None
        self._past: deque[MasterAddress] = deque(maxlen=16)
        """Where the master was before, and is not now."""

        self._attempt: tuple[Answer, MasterPool] | None = None
        self._led_nowhere: set[MasterAddress] = set()
        self._outdated: Answer | None = None
        self._retry: IDelayedCall | None = None
        self._failures = 0

    def start(self) -> None:
        """Ask, and subscribe, everywhere."""
        for watch in self._watches:
            watch.start()
        self._search()

    def stop(self) -> Deferred[None]:
        """
        Leave the master and all Sentinels. To be called once.

        :returns: fires with ``None`` when no connection and no timer is left.
        """
        self._stopped, self._serving = True, False
        self._forget_retry()
        self._closing += [watch.stop() for watch in self._watches]
        for inquiry in list(self._inquiries.values()):
            self._closing.append(inquiry.gone)
            inquiry.cancel()
        self._abandon()
        self._drop_pool()
        return gatherResults(self._closing).addCallback(lambda _: None)

    @property
    def handler(self) -> Any:
        """The ``txredisapi`` handler of the present master, or ``None`` while not serving."""
        return self._pool.handler if self._serving and self._pool is not None else None

    @property
    def address(self) -> MasterAddress | None:
        """Where the present master is, or ``None`` while not serving."""
        return self._pool.address if self._serving and self._pool is not None else None

    # What the pools tell us.

    def pool_verified(self, pool: MasterPool) -> None:
        """A pool that we opened leads to a master: this is the one from now on."""
        if self._attempt is None or pool is not self._attempt[1]:
            return
        answer, self._attempt = self._attempt[0], None
        self._drop_pool()
        self._pool = pool
        self._serve(answer.epoch)

    def pool_failed(self, pool: MasterPool, reason: str) -> None:
        """A pool has no connection left: look for a master if it was the one in use or the one being tried."""
        if pool is self._pool:
            self._on_error(reason)
            if self._attempt is not None and pool is self._attempt[1]:
                self._attempt = None
            self._drop_pool()
            self._doubt()
            self._seek_soon()
        elif self._attempt is not None and pool is self._attempt[1]:
            self._attempt_failed(reason)

    def pool_doubted(self, pool: MasterPool, demoted: bool) -> None:
        """One connection is gone, or the server denies being a master: ask the Sentinels."""
        if pool is self._pool and self._serving:
            if demoted:
                self._on_error(f"{pool.address} says that it is no master")
                self._doubt()
                self._seek_soon()
            else:
                self._ask_everyone()

    # What the Sentinels tell us.

    def _received(self, answer: Answer) -> None:
        if self._stopped:
            return
        if not self._serving:
            self._consider(answer)
        elif answer.address == self.address:
            self._learn(answer.epoch)
        elif answer.announced:
            self._doubt()
            if answer.address in self._past:
                # Back where we have been: either a failback or a Sentinel late by two switches. Epochs tell.
                self._search()
            else:
                self._try(answer)
        elif answer.epoch is not None and self._epoch is not None:
            if answer.epoch > self._epoch:
                self._doubt()
                self._try(answer)
        elif answer.address not in self._past:
            self._try(answer)

    def _learn(self, epoch: int | None) -> None:
        """A Sentinel agrees with us about the address."""
        if epoch is None:
            return
        if self._epoch is None or epoch >= self._epoch:
            self._epoch, self._unsure = epoch, False
        elif self._unsure:
            # What was announced is older than what we had: whoever announced it was late.
            self._doubt()
            self._seek_soon()

    def _consider(self, answer: Answer) -> None:
        """An answer while we have no master to use."""
        if self._attempt is not None:
            trying = self._attempt[0]
            news = answer.announced and answer.address not in self._past
            if answer.address != trying.address and (news or is_newer(answer.epoch, trying.epoch)):
                self._try(answer)
        elif is_newer(self._epoch, answer.epoch):
            if self._outdated is None or is_newer(answer.epoch, self._outdated.epoch):
                self._outdated = answer
        elif answer.announced or answer.address not in self._led_nowhere:
            self._try(answer)

    def _on_error(self, why: str) -> None:
        self.last_error = why
        log.debug("following {name}: {why}", name=self.name, why=why)

    # How we look for a master: rounds of questions, and attempts at what they give.

    def _doubt(self) -> None:
        """Commands wait from here on. Trouble after quiet times is met without delay."""
        self._serving = False
        if self._reactor.seconds() - self._since >= STEADY:
            self._failures = 0

    def _seek_soon(self) -> None:
        """Ask at once, but never spin on a master that is lost again as soon as it is found."""
        if self._failures:
            self._seek_later()
        else:
            self._failures = 1
            self._search()

    def _search(self) -> None:
        self._forget_retry()
        self._led_nowhere.clear()
        self._outdated = None
        self._ask_everyone()

    def _seek_later(self) -> None:
        if self._retry is None:
            delay = min(FIRST_RETRY * 2.0 ** min(self._failures, 16), MAX_RETRY_DELAY)
            self._failures += 1
            self._retry = self._reactor.callLater(delay, self._search)

    def _forget_retry(self) -> None:
        if self._retry is not None:
            if self._retry.active():
                self._retry.cancel()
            self._retry = None

    def _ask_everyone(self) -> None:
        """One question to each Sentinel that is not being asked already; one that hangs holds up nobody else."""
        for sentinel in self.sentinels:
            if sentinel not in self._inquiries and not self._stopped:
                inquiry = self._inquiries[sentinel] = Inquiry(self.name, sentinel, self._sentinel_access)
                inquiry.result.addCallbacks(self._received, self._not_answered)
                inquiry.gone.addCallback(self._asked, sentinel)
                inquiry.start()

    def _not_answered(self, failure: Failure) -> Failure | None:
        if not isinstance(failure.value, NoAnswer):
            return failure
        if not self._serving:
            self._on_error(str(failure.value))
        return None

    def _asked(self, gone: None, sentinel: MasterAddress) -> None:
        """An inquiry is over, whatever came of it."""
        del self._inquiries[sentinel]
        if self._serving or self._stopped or self._attempt is not None:
            return
        outdated = self._outdated
        if not self._inquiries and outdated is not None and outdated.address not in self._led_nowhere:
            # All who answer remember less than we do, as after a new SENTINEL MONITOR: then theirs is what counts.
            self._try(outdated)
        else:
            self._seek_later()

    def _try(self, answer: Answer) -> None:
        """Find out whether this address is a master: by a new pool, or a new connection if the pool is of there."""
        self._abandon()
        self._forget_retry()
        if self._pool is not None and self._pool.address == answer.address and self._pool.serving:
            pool = self._pool
            self._attempt = answer, pool
            pool.verify().addCallbacks(self._confirmed, self._not_confirmed, (answer,), {}, (answer,))
        else:
            pool = MasterPool(answer.address, self._options, self)
            self._attempt = answer, pool
            pool.open()

    def _confirmed(self, proven: None, answer: Answer) -> None:
        if self._attempt is not None and self._attempt[0] is answer:
            self._attempt = None
            self._serve(answer.epoch if answer.epoch is not None else self._epoch)

    def _not_confirmed(self, failure: Failure, answer: Answer) -> None:
        if self._attempt is not None and self._attempt[0] is answer:
            self._attempt_failed(failure.getErrorMessage())

    def _attempt_failed(self, reason: str) -> None:
        assert self._attempt is not None
        address = self._attempt[0].address
        self._on_error(f"{address} did not do: {reason}")
        self._led_nowhere.add(address)
        self._abandon()
        if not self._serving:
            self._seek_later()

    def _abandon(self) -> None:
        """Let go of the attempt, if there is one."""
        if self._attempt is not None:
            pool, self._attempt = self._attempt[1], None
            if pool is not self._pool:
                self._close(pool)

    def _serve(self, epoch: int | None) -> None:
        assert self._pool is not None
        address = self._pool.address
        self._serving = True
        self._since = self._reactor.seconds()
        self._forget_retry()
        self._unsure = epoch is None
        if epoch is not None:
            self._epoch = epoch
        if address != self._latest:
            log.info("following {name}: the master is {address}", name=self.name, address=str(address))
            if address in self._past:
                self._past.remove(address)
            if self._latest is not None:
                self._past.append(self._latest)
            self._latest = address
        if self._unsure:
            self._ask_everyone()
        self._found(address)

    def _drop_pool(self) -> None:
        if self._pool is not None:
            pool, self._pool = self._pool, None
            self._close(pool)

    def _close(self, pool: MasterPool) -> None:
        """Hang up, and remember for as long as it takes, so that ``stop`` can wait for it."""
        closing = pool.close()
        self._closing.append(closing)
        closing.addCallback(lambda _: self._closing.remove(closing) if not self._stopped else None)


def is_newer(epoch: int | None, other: int | None) -> bool:
    """Is the first known to be higher? What is not known is neither newer nor older."""
    return epoch is not None and other is not None and epoch > other
