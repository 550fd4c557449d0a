"""
The explored group: its states, the steps that each permits, and what they lead to.

A state is a tuple of integers: the number of each Sentinel's state, how far each clock is ahead of the slowest, the
number of the servers' state, of the claims for S3 and S5, of the faults that may still occur, which Sentinels are
isolated, and the number of the contents of each connection. Everything behind these numbers is shared by all states.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from txsentinel.sim.explore import local_states, steps
from txsentinel.sim.explore.interning import Interner
from txsentinel.sim.explore.local_states import MUST_SAVE, SAVING, UP, LocalStates
from txsentinel.sim.explore.messages import (
    Broken,
    Claim,
    Closed,
    HelloMessage,
    Order,
    Output,
    Query,
    Replied,
    Reply,
    Report,
    Request,
    Sent,
    Unowned,
)
from txsentinel.sim.explore.servers import INITIAL, Condition, ServerModel, Servers, changed, info
from txsentinel.sim.explore.steps import step_code
from txsentinel.sim.explore.topology import (
    PEERS,
    SENTINEL_NAMES,
    SENTINELS,
    SERVER_NAMES,
    SERVERS,
    TARGETS,
    GroupSettings,
)
from txsentinel.sim.explore.views import View

State = tuple[int, ...]

CLOCKS: Final = SENTINELS
SERVERS_AT: Final = 2 * SENTINELS
CLAIMS_AT: Final = SERVERS_AT + 1
FAULTS_AT: Final = SERVERS_AT + 2
ISOLATED_AT: Final = SERVERS_AT + 3
CONNECTIONS_AT: Final = SERVERS_AT + 4

MAX_SKEW: Final = 2
"""How many ticks the clock of a Sentinel may be ahead of the slowest one that runs."""


class ConnectionModel(NamedTuple):
    """A connection of a Sentinel: what is on its way. A lost one is made again by the next tick of the Sentinel."""

    lost: bool = False
    requests: tuple[Request, ...] = ()
    replies: tuple[Reply, ...] = ()
    last_hello: bytes = b""
    """The last hello. The same one is not sent again: it would change nothing but the time of the last hello."""


class Faults(NamedTuple):
    """How many faults of each type may still occur."""

    crashes: int = 0
    """Crashes of Sentinels."""
    resets: int = 0
    """Connections that break, with the messages on them."""
    kills: int = 0
    """Crashes of servers."""
    revivals: int = 0
    """Restarts of servers that crashed."""
    hangs: int = 0
    """Servers that hang for a while."""
    isolations: int = 0
    """Sentinels that can reach nobody for a while."""
    save_failures: int = 0
    """Attempts to save that fail."""
    stalls: int = 0
    """Sentinels that stand still for so long that they enter TILT."""
    orders: int = 0
    """Failovers that operators order."""


_FAULT_OF: Final = {
    steps.CRASH: "crashes",
    steps.RESET: "resets",
    steps.KILL: "kills",
    steps.REVIVE: "revivals",
    steps.HANG: "hangs",
    steps.ISOLATE: "isolations",
    steps.FAIL: "save_failures",
    steps.STALL: "stalls",
    steps.ORDER: "orders",
}


class Group:
    """Three Sentinels, a master and two replicas."""

    def __init__(self, settings: GroupSettings) -> None:
        self._settings = settings
        self._views: Interner[View] = Interner()
        self._view_numbers: dict[tuple[int, int, int, int, int], int] = {}
        self._servers: Interner[Servers] = Interner()
        self._claims: Interner[tuple[Claim, ...]] = Interner()
        self._faults: Interner[Faults] = Interner()
        self._connections: Interner[ConnectionModel] = Interner()
        self._connections.number(ConnectionModel())
        self.sentinels = [LocalStates(each, settings, self._views) for each in range(SENTINELS)]
        self._inputs = [
            {
                steps.TICK: each.input_number(local_states.TICK_INPUT),
                steps.STALL: each.input_number(local_states.STALL_INPUT),
                steps.SAVE: each.input_number(local_states.SAVE_INPUT),
                steps.SAVED: each.input_number(local_states.SAVED_INPUT),
                steps.FAIL: each.input_number(local_states.FAIL_INPUT),
                steps.CRASH: each.input_number(local_states.CRASH_INPUT),
                steps.START: each.input_number(local_states.START_INPUT),
                steps.ORDER: each.input_number(local_states.ORDER_INPUT),
            }
            for each in self.sentinels
        ]
        self.broken: list[Broken] = []
        """The violations of the last step."""

        self.events: list[tuple[int, int, int, int]] | None = None
        """If not ``None``, collects the arguments of every step of a Sentinel: its number, state, input and view."""

    def initial(self) -> State:
        """Return the state before the start of the Sentinels, without faults."""
        servers, claims, faults = self._servers.number(INITIAL), self._claims.number(()), self._faults.number(Faults())
        local = [each.initial for each in self.sentinels]
        return (*local, *[0] * SENTINELS, servers, claims, faults, 0, *[0] * (SENTINELS * TARGETS))

    def with_faults(self, state: State, faults: Faults) -> State:
        """Return ``state`` with other faults to come."""
        return (*state[:FAULTS_AT], self._faults.number(faults), *state[FAULTS_AT + 1 :])

    def faults(self, state: State) -> Faults:
        """Return the faults that may still occur."""
        return self._faults.values[state[FAULTS_AT]]

    def servers(self, state: State) -> Servers:
        """Return the state of the servers."""
        return self._servers.values[state[SERVERS_AT]]

    def connection(self, state: State, sentinel: int, target: int) -> ConnectionModel:
        """Return the contents of a connection."""
        return self._connections.values[state[_connection_at(sentinel, target)]]

    def is_quiet(self, state: State) -> bool:
        """Whether no message is on its way and nothing must be saved."""
        if any(self.sentinels[each].flags[state[each]] & (MUST_SAVE | SAVING) for each in range(SENTINELS)):
            return False
        connections = [self._connections.values[number] for number in state[CONNECTIONS_AT:]]
        return not any(each.requests or each.replies for each in connections)

    # Permitted steps

    def enabled(self, state: State) -> list[int]:
        """Return the steps that are possible, messages first."""
        found: list[int] = []
        servers, faults = self._servers.values[state[SERVERS_AT]], self._faults.values[state[FAULTS_AT]]
        isolated = state[ISOLATED_AT]
        flags = [self.sentinels[each].flags[state[each]] for each in range(SENTINELS)]
        connections = self._connections.values
        for sentinel in range(SENTINELS):
            base = CONNECTIONS_AT + sentinel * TARGETS
            for target in range(TARGETS):
                number = state[base + target]
                if not number or isolated >> sentinel & 1:
                    continue
                if target < SERVERS:
                    reached = servers[target].condition is Condition.UP
                else:
                    peer = target - SERVERS
                    reached = bool(flags[peer] & UP) and not isolated >> peer & 1
                connection = connections[number]
                if connection.requests and reached:
                    found.append(step_code(steps.DELIVER, sentinel, target))
                if connection.replies and flags[sentinel] & UP:
                    found.append(step_code(steps.RETURN, sentinel, target))
        for sentinel in range(SENTINELS):
            state_flags = flags[sentinel]
            if not state_flags & UP:
                found.append(step_code(steps.START, sentinel))
                continue
            if state_flags & SAVING:
                found.append(step_code(steps.SAVED, sentinel))
            elif state_flags & MUST_SAVE:
                found.append(step_code(steps.SAVE, sentinel))
                if faults.save_failures:
                    found.append(step_code(steps.FAIL, sentinel))
            if state[CLOCKS + sentinel] < MAX_SKEW:
                found.append(step_code(steps.TICK, sentinel))
                if faults.stalls:
                    found.append(step_code(steps.STALL, sentinel))
            if faults.crashes:
                found.append(step_code(steps.CRASH, sentinel))
            if faults.orders:
                found.append(step_code(steps.ORDER, sentinel))
        if sum(faults):
            self._add_faults(found, state, faults, servers, flags)
        for sentinel in range(SENTINELS):
            if isolated >> sentinel & 1:
                found.append(step_code(steps.REJOIN, sentinel))
        for number, server in enumerate(servers):
            if server.condition is Condition.HUNG:
                found.append(step_code(steps.CONTINUE, number))
        return found

    def _add_faults(self, found: list[int], state: State, faults: Faults, servers: Servers, flags: list[int]) -> None:
        for sentinel in range(SENTINELS):
            if faults.isolations and not state[ISOLATED_AT] >> sentinel & 1 and flags[sentinel] & UP:
                found.append(step_code(steps.ISOLATE, sentinel))
            if faults.resets and flags[sentinel] & UP:
                for target in range(TARGETS):
                    connection = self._connections.values[state[_connection_at(sentinel, target)]]
                    # The loss of a connection without messages on it is that of one that breaks before they are sent.
                    if not connection.lost and (connection.requests or connection.replies):
                        found.append(step_code(steps.RESET, sentinel, target))
        for number, server in enumerate(servers):
            if server.condition is Condition.UP:
                if faults.kills:
                    found.append(step_code(steps.KILL, number))
                if faults.hangs:
                    found.append(step_code(steps.HANG, number))
            elif server.condition is Condition.DEAD and faults.revivals:
                found.append(step_code(steps.REVIVE, number))

    # Steps

    def apply(self, state: State, code: int) -> State:
        """Return the state after a step; :attr:`broken` has the violations."""
        self.broken = []
        cells = list(state)
        kind, first, second = code >> 6, code >> 3 & 7, code & 7
        fault = _FAULT_OF.get(kind)
        if fault is not None:
            faults = self._faults.values[state[FAULTS_AT]]
            left = faults._replace(**{fault: max(getattr(faults, fault) - 1, 0)})
            cells[FAULTS_AT] = self._faults.number(left)
        if kind == steps.DELIVER:
            self._deliver(cells, first, second)
        elif kind == steps.RETURN:
            self._return(cells, first, second)
        elif kind in (steps.TICK, steps.STALL):
            self._tick(cells, first, kind)
        elif kind in (steps.SAVE, steps.SAVED, steps.FAIL, steps.ORDER):
            self._run(cells, first, self._inputs[first][kind])
        elif kind == steps.CRASH:
            self._crash(cells, first)
        elif kind == steps.START:
            self._start(cells, first)
        elif kind == steps.RESET:
            self._break(cells, first, second, lost=True)
        elif kind == steps.ISOLATE:
            cells[ISOLATED_AT] |= 1 << first
        elif kind == steps.REJOIN:
            cells[ISOLATED_AT] &= ~(1 << first)
        else:
            self._change_server(cells, first, kind)
        return tuple(cells)

    def _run(self, cells: list[int], sentinel: int, number: int) -> None:
        """Run a step of one Sentinel."""
        view = self._view(cells, sentinel)
        self._finish(cells, sentinel, number, view)

    def _finish(self, cells: list[int], sentinel: int, number: int, view: int) -> None:
        if self.events is not None:
            self.events.append((sentinel, cells[sentinel], number, view))
        cells[sentinel], outputs = self.sentinels[sentinel].step(cells[sentinel], number, view)
        for output in outputs:
            self._put_out(cells, sentinel, output)

    def _put_out(self, cells: list[int], sentinel: int, output: Output) -> None:
        if isinstance(output, Sent):
            self._send(cells, sentinel, output.target, output.request)
        elif isinstance(output, Replied):
            at = _connection_at(output.sentinel, SERVERS + sentinel)
            connection = self._connections.values[cells[at]]
            if not connection.lost:
                replies = (*connection.replies, output.reply)
                cells[at] = self._connections.number(connection._replace(replies=replies))
        elif isinstance(output, Claim):
            self._claim(cells, output)
        elif isinstance(output, Closed):
            self._break(cells, sentinel, output.target, lost=False)
        else:
            self.broken.append(output)

    def _send(self, cells: list[int], sentinel: int, target: int, request: Request) -> None:
        at = _connection_at(sentinel, target)
        connection = self._connections.values[cells[at]]
        if connection.lost or (target >= SERVERS and not self._is_up(cells, target - SERVERS)):
            return
        if isinstance(request, HelloMessage):
            if request.payload == connection.last_hello:
                return
            connection = connection._replace(last_hello=request.payload)
        cells[at] = self._connections.number(connection._replace(requests=(*connection.requests, request)))

    def _claim(self, cells: list[int], claim: Claim) -> None:
        claims = self._claims.values[cells[CLAIMS_AT]]
        if claim in claims:
            return
        for other in claims:
            if other.invariant == claim.invariant and other.epoch == claim.epoch:
                names: tuple[str, ...] = SERVER_NAMES if claim.invariant == "S5" else tuple(SENTINEL_NAMES)
                both = f"{names[other.value]} and {names[claim.value]}"
                what = "are leaders in" if claim.invariant == "S3" else "have config"
                self.broken.append(Broken(claim.invariant, f"{both} {what} epoch {claim.epoch}"))
        cells[CLAIMS_AT] = self._claims.number(tuple(sorted((*claims, claim))))

    def _is_up(self, cells: list[int], sentinel: int) -> bool:
        return bool(self.sentinels[sentinel].flags[cells[sentinel]] & UP)

    def _view(self, cells: list[int], sentinel: int) -> int:
        connections, base = self._connections.values, CONNECTIONS_AT + sentinel * TARGETS
        lost = up = 0
        for target in range(TARGETS):
            number = cells[base + target]
            if number and connections[number].lost:
                lost |= 1 << target
        for other in range(SENTINELS):
            if self._is_up(cells, other):
                up |= 1 << other
        key = (sentinel, cells[SERVERS_AT], up, cells[ISOLATED_AT], lost)
        found = self._view_numbers.get(key)
        if found is None:
            found = self._view_numbers[key] = self._views.number(self._make_view(*key))
        return found

    def _make_view(self, sentinel: int, number: int, up: int, isolated: int, lost: int) -> View:
        servers = self._servers.values[number]
        conditions = [server.condition for server in servers]
        for peer in range(SENTINELS):
            conditions.append(
                Condition.HUNG if isolated >> peer & 1 else Condition.UP if up >> peer & 1 else Condition.DEAD
            )
        if isolated >> sentinel & 1:
            conditions = [Condition.HUNG] * TARGETS
        return View(tuple(conditions), tuple(info(servers, each, self._settings) for each in range(SERVERS)), lost)

    def _deliver(self, cells: list[int], sentinel: int, target: int) -> None:
        at = _connection_at(sentinel, target)
        connection = self._connections.values[cells[at]]
        request, rest = connection.requests[0], connection.requests[1:]
        cells[at] = self._connections.number(connection._replace(requests=rest))
        sender = sentinel
        if isinstance(request, Unowned):
            request, sender = request.message, -1
        if isinstance(request, Order):
            self._execute(cells, sender, target, request, at)
            return
        peer = target - SERVERS
        local = self.sentinels[peer]
        if isinstance(request, Query):
            self._run(cells, peer, local.input_number(("ask", sender, request)))
        else:
            self._run(cells, peer, local.input_number(("hello", request)))

    def _execute(self, cells: list[int], sender: int, target: int, order: Order, at: int) -> None:
        """Change the role of a server: all its other connections are closed, and its INFO is returned."""
        servers = self._servers.values[cells[SERVERS_AT]]
        servers = changed(servers, target, servers[target]._replace(follows=order.follows))
        cells[SERVERS_AT] = self._servers.number(servers)
        for other in range(SENTINELS):
            if other != sender and self._is_up(cells, other):
                self._lose(cells, other, target)
        if sender >= 0:
            connection = self._connections.values[cells[at]]
            replies = (*connection.replies, Report(info(servers, target, self._settings)))
            cells[at] = self._connections.number(connection._replace(replies=replies))

    def _return(self, cells: list[int], sentinel: int, target: int) -> None:
        at = _connection_at(sentinel, target)
        connection = self._connections.values[cells[at]]
        reply = connection.replies[0]
        cells[at] = self._connections.number(connection._replace(replies=connection.replies[1:]))
        local = self.sentinels[sentinel]
        if target < SERVERS:
            self._run(cells, sentinel, local.input_number(("report", target, reply)))
        else:
            self._run(cells, sentinel, local.input_number(("answer", target - SERVERS, reply)))

    def _tick(self, cells: list[int], sentinel: int, kind: int) -> None:
        view = self._view(cells, sentinel)
        for target in range(TARGETS):
            at = _connection_at(sentinel, target)
            if cells[at] and self._connections.values[cells[at]].lost:
                cells[at] = 0
        cells[CLOCKS + sentinel] += 1
        self._finish(cells, sentinel, self._inputs[sentinel][kind], view)
        self._align_clocks(cells)

    def _align_clocks(self, cells: list[int]) -> None:
        running = [each for each in range(SENTINELS) if self._is_up(cells, each)]
        slowest = min((cells[CLOCKS + each] for each in running), default=0)
        for each in range(SENTINELS):
            cells[CLOCKS + each] = cells[CLOCKS + each] - slowest if each in running else 0

    def _crash(self, cells: list[int], sentinel: int) -> None:
        self._run(cells, sentinel, self._inputs[sentinel][steps.CRASH])
        cells[CLOCKS + sentinel] = 0
        self._align_clocks(cells)
        for target in range(TARGETS):
            at = _connection_at(sentinel, target)
            requests = self._connections.values[cells[at]].requests
            unowned = tuple(each if isinstance(each, Unowned) else Unowned(each) for each in requests)
            cells[at] = self._connections.number(ConnectionModel(True, unowned))
        for peer in PEERS[sentinel]:
            self._lose(cells, peer, SERVERS + sentinel)
            self._lose_client(cells, peer, sentinel)

    def _start(self, cells: list[int], sentinel: int) -> None:
        for target in range(TARGETS):
            at = _connection_at(sentinel, target)
            requests = self._connections.values[cells[at]].requests
            cells[at] = self._connections.number(ConnectionModel(False, requests))
        self._run(cells, sentinel, self._inputs[sentinel][steps.START])

    def _lose(self, cells: list[int], sentinel: int, target: int) -> None:
        """The target closed the connection: what was sent to it is lost, what it had sent still arrives."""
        at = _connection_at(sentinel, target)
        connection = self._connections.values[cells[at]]
        unowned = tuple(each for each in connection.requests if isinstance(each, Unowned))
        cells[at] = self._connections.number(ConnectionModel(True, unowned, connection.replies))

    def _break(self, cells: list[int], sentinel: int, target: int, *, lost: bool) -> None:
        """Break a connection: everything on it is lost."""
        cells[_connection_at(sentinel, target)] = self._connections.number(ConnectionModel(lost))
        if target >= SERVERS:
            self._lose_client(cells, target - SERVERS, sentinel)

    def _lose_client(self, cells: list[int], sentinel: int, client: int) -> None:
        if self._is_up(cells, sentinel):
            self._run(cells, sentinel, self.sentinels[sentinel].input_number(("lose", client)))

    def _change_server(self, cells: list[int], number: int, kind: int) -> None:
        servers = self._servers.values[cells[SERVERS_AT]]
        server = servers[number]
        if kind == steps.KILL:
            server = server._replace(condition=Condition.DEAD)
            for sentinel in range(SENTINELS):
                if self._is_up(cells, sentinel):
                    self._lose(cells, sentinel, number)
        elif kind == steps.REVIVE:
            server = ServerModel(Condition.UP, server.follows, (server.restarts + 1) % 10)
        else:
            server = server._replace(condition=Condition.HUNG if kind == steps.HANG else Condition.UP)
        cells[SERVERS_AT] = self._servers.number(changed(servers, number, server))


def _connection_at(sentinel: int, target: int) -> int:
    return CONNECTIONS_AT + sentinel * TARGETS + target
