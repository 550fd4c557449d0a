"""The search for a master: queries Sentinels, verifies the address with the server, and opens a pool to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsentinel.client.links import (
    Access,
    MasterAddress,
    NoAnswer,
    ReportedMaster,
    SentinelQueryFactory,
    SubscriptionFactory,
)
from txsentinel.client.pool import MasterPool, PoolOptions

FIRST_RETRY: Final = 0.05
"""Seconds before the next round of queries after an unusable answer; doubles each time."""

MAX_RETRY_DELAY: Final = 1.0
"""Maximum seconds between two rounds of queries while there is no master."""

STABLE_SECONDS: Final = 1.0
"""Seconds that a master must have served for its loss to cause an immediate search."""

log = Logger(namespace=__name__)


class MasterSearch:
    """
    A search for the master that continues until it is stopped.

    While it is *serving*, there is a pool with at least one connection to a verified master. Any sign that this may
    have changed ends that state, and starts rounds of queries to all Sentinels until an address is verified.

    :param found: called each time the state *serving* begins.
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
        """The last error as text."""
        self._reactor = options.access.reactor
        self._sentinel_access = sentinel_access
        self._options = options
        self._found = found
        self._subscriptions = [
            SubscriptionFactory(name, sentinel, sentinel_access, self._received, self._on_error)
            for sentinel in sentinels
        ]
        self._queries: dict[MasterAddress, SentinelQueryFactory] = {}
        self._closing: list[Deferred[None]] = []
        self._stopped = False

        self._pool: MasterPool | None = None
        self._serving = False
        self._since = 0.0
        self._epoch: int | None = None
        """The highest config-epoch that was used; answers with a lower one are outdated."""
        self._epoch_unknown = False
        """Whether the master was announced only, so that its config-epoch is not known yet."""
        self._latest: MasterAddress | None = None
        self._former: deque[MasterAddress] = deque(maxlen=16)
        """Former addresses of the master."""

        self._attempt: tuple[ReportedMaster, MasterPool] | None = None
        self._unusable: set[MasterAddress] = set()
        self._outdated: ReportedMaster | None = None
        self._retry: IDelayedCall | None = None
        self._failures = 0

    def start(self) -> None:
        """Subscribe to all Sentinels, and query them."""
        for subscription in self._subscriptions:
            subscription.start()
        self._search()

    def stop(self) -> Deferred[None]:
        """
        Disconnect from the master and all Sentinels. Call this once.

        :returns: fires with ``None`` when no connection and no timer is left.
        """
        self._stopped, self._serving = True, False
        self._cancel_retry()
        self._closing += [subscription.stop() for subscription in self._subscriptions]
        for query in list(self._queries.values()):
            self._closing.append(query.gone)
            query.cancel()
        self._cancel_attempt()
        self._drop_pool()
        return gatherResults(self._closing).addCallback(lambda _: None)

    @property
    def handler(self) -> Any:
        """The ``txredisapi`` handler of the present master, or ``None`` while not serving."""
        return self._pool.handler if self._serving and self._pool is not None else None

    @property
    def address(self) -> MasterAddress | None:
        """The address of the present master, or ``None`` while not serving."""
        return self._pool.address if self._serving and self._pool is not None else None

    def demoted(self, address: MasterAddress) -> None:
        """Search again, because the server at this address reports that it is no master."""
        if self._pool is not None and self._pool.address == address:
            self.pool_doubted(self._pool, True)

    # Notifications by pools.

    def pool_verified(self, pool: MasterPool) -> None:
        """Use the pool from now on, if it is the one of the present attempt."""
        if self._attempt is None or pool is not self._attempt[1]:
            return
        answer, self._attempt = self._attempt[0], None
        self._drop_pool()
        self._pool = pool
        self._serve(answer.epoch)

    def pool_failed(self, pool: MasterPool, reason: str) -> None:
        """Search for the master if the failed pool was in use or was the one of the present attempt."""
        if pool is self._pool:
            self._on_error(reason)
            if self._attempt is not None and pool is self._attempt[1]:
                self._attempt = None
            self._drop_pool()
            self._stop_serving()
            self._search_soon()
        elif self._attempt is not None and pool is self._attempt[1]:
            self._attempt_failed(reason)

    def pool_doubted(self, pool: MasterPool, demoted: bool) -> None:
        """Query the Sentinels after the loss of a connection, or if the server reports that it is no master."""
        if pool is self._pool and self._serving:
            if demoted:
                self._on_error(f"{pool.address} reports that it is no master")
                self._stop_serving()
                self._search_soon()
            else:
                self._query_all()

    # Answers of Sentinels.

    def _received(self, answer: ReportedMaster) -> None:
        if self._stopped:
            return
        if not self._serving:
            self._answer_while_searching(answer)
        elif answer.address == self.address:
            self._epoch_received(answer.epoch)
        elif answer.announced:
            self._stop_serving()
            if answer.address in self._former:
                # A former address: either a failback or a Sentinel two switches behind. The epochs decide.
                self._search()
            else:
                self._try(answer)
        elif answer.epoch is not None and self._epoch is not None:
            if answer.epoch > self._epoch:
                self._stop_serving()
                self._try(answer)
        elif answer.address not in self._former:
            self._try(answer)

    def _epoch_received(self, epoch: int | None) -> None:
        """Process the config-epoch of an answer with the present address."""
        if epoch is None:
            return
        if self._epoch is None or epoch >= self._epoch:
            self._epoch, self._epoch_unknown = epoch, False
        elif self._epoch_unknown:
            # The announcement was older than the previous answers.
            self._stop_serving()
            self._search_soon()

    def _answer_while_searching(self, answer: ReportedMaster) -> None:
        """Process an answer while there is no verified master."""
        if self._attempt is not None:
            trying = self._attempt[0]
            is_announcement = answer.announced and answer.address not in self._former
            if answer.address != trying.address and (is_announcement or is_newer(answer.epoch, trying.epoch)):
                self._try(answer)
        elif is_newer(self._epoch, answer.epoch):
            if self._outdated is None or is_newer(answer.epoch, self._outdated.epoch):
                self._outdated = answer
        elif answer.announced or answer.address not in self._unusable:
            self._try(answer)

    def _on_error(self, why: str) -> None:
        self.last_error = why
        log.debug("following {name}: {why}", name=self.name, why=why)

    # The search: rounds of queries, and attempts to verify the answers.

    def _stop_serving(self) -> None:
        """End the state *serving*, so that commands wait. After a stable time the search begins without delay."""
        self._serving = False
        if self._reactor.seconds() - self._since >= STABLE_SECONDS:
            self._failures = 0

    def _search_soon(self) -> None:
        """Search at once, but with a delay if masters are lost as soon as they are found."""
        if self._failures:
            self._search_later()
        else:
            self._failures = 1
            self._search()

    def _search(self) -> None:
        self._cancel_retry()
        self._unusable.clear()
        self._outdated = None
        self._query_all()

    def _search_later(self) -> None:
        if self._retry is None:
            delay = min(FIRST_RETRY * 2.0 ** min(self._failures, 16), MAX_RETRY_DELAY)
            self._failures += 1
            self._retry = self._reactor.callLater(delay, self._search)

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            if self._retry.active():
                self._retry.cancel()
            self._retry = None

    def _query_all(self) -> None:
        """Query each Sentinel that is not being queried already. One that does not answer delays no other."""
        for sentinel in self.sentinels:
            if sentinel not in self._queries and not self._stopped:
                query = self._queries[sentinel] = SentinelQueryFactory(self.name, sentinel, self._sentinel_access)
                query.result.addCallbacks(self._received, self._not_answered)
                query.gone.addCallback(self._query_ended, sentinel)
                query.start()

    def _not_answered(self, failure: Failure) -> Failure | None:
        if not isinstance(failure.value, NoAnswer):
            return failure
        if not self._serving:
            self._on_error(str(failure.value))
        return None

    def _query_ended(self, gone: None, sentinel: MasterAddress) -> None:
        """Process the end of a query."""
        del self._queries[sentinel]
        if self._serving or self._stopped or self._attempt is not None:
            return
        outdated = self._outdated
        if not self._queries and outdated is not None and outdated.address not in self._unusable:
            # All answers have a lower epoch than the known one, as after a new SENTINEL MONITOR: use the highest.
            self._try(outdated)
        else:
            self._search_later()

    def _try(self, answer: ReportedMaster) -> None:
        """Verify that this address is a master, by a new pool or, for the present pool, by a new connection."""
        self._cancel_attempt()
        self._cancel_retry()
        if self._pool is not None and self._pool.address == answer.address and self._pool.serving:
            pool = self._pool
            self._attempt = answer, pool
            pool.verify().addCallbacks(self._confirmed, self._not_confirmed, (answer,), {}, (answer,))
        else:
            pool = MasterPool(answer.address, self._options, self)
            self._attempt = answer, pool
            pool.open()

    def _confirmed(self, proven: None, answer: ReportedMaster) -> None:
        if self._attempt is not None and self._attempt[0] is answer:
            self._attempt = None
            self._serve(answer.epoch if answer.epoch is not None else self._epoch)

    def _not_confirmed(self, failure: Failure, answer: ReportedMaster) -> None:
        if self._attempt is not None and self._attempt[0] is answer:
            self._attempt_failed(failure.getErrorMessage())

    def _attempt_failed(self, reason: str) -> None:
        assert self._attempt is not None
        address = self._attempt[0].address
        self._on_error(f"{address} is not usable: {reason}")
        self._unusable.add(address)
        self._cancel_attempt()
        if not self._serving:
            self._search_later()

    def _cancel_attempt(self) -> None:
        """Cancel the present attempt, if there is one."""
        if self._attempt is not None:
            pool, self._attempt = self._attempt[1], None
            if pool is not self._pool:
                self._close(pool)

    def _serve(self, epoch: int | None) -> None:
        assert self._pool is not None
        address = self._pool.address
        self._serving = True
        self._since = self._reactor.seconds()
        self._cancel_retry()
        self._epoch_unknown = epoch is None
        if epoch is not None:
            self._epoch = epoch
        if address != self._latest:
            log.info("following {name}: the master is {address}", name=self.name, address=str(address))
            if address in self._former:
                self._former.remove(address)
            if self._latest is not None:
                self._former.append(self._latest)
            self._latest = address
        if self._epoch_unknown:
            self._query_all()
        self._found(address)

    def _drop_pool(self) -> None:
        if self._pool is not None:
            pool, self._pool = self._pool, None
            self._close(pool)

    def _close(self, pool: MasterPool) -> None:
        """Close a pool; ``stop`` waits until it is closed."""
        closing = pool.close()
        self._closing.append(closing)
        closing.addCallback(lambda _: self._closing.remove(closing) if not self._stopped else None)


def is_newer(epoch: int | None, other: int | None) -> bool:
    """Whether the first epoch is known to be higher. An unknown one is neither newer nor older."""
    return epoch is not None and other is not None and epoch > other
