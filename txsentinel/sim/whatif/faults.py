"""The faults of a what-if: their syntax, and how they are injected and ended."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias

from txsentinel.sim.whatif.environment import FaultTarget, Fixture
from txsentinel.sim.whatif.targets import OTHERS, BadTarget, check_target, machines, resolve
from txsentinel.sim.whatif.topology import Topology

AWAY: Final = 1.0
"""Seconds that a restart takes by default."""

USUAL_DISK: Final = 2.0
"""Milliseconds that a healthy disk takes."""

Undo: TypeAlias = Callable[[], None]


class BadFault(Exception):
    """A fault that cannot be parsed or injected; the text has the fault and the reason."""


@dataclass(frozen=True, slots=True)
class RequestedFault:
    """
    One fault, as given on the command line.

    ``at`` and ``lasts`` are in seconds, ``at`` since the fleet became stable; ``lasts`` is ``None`` for a fault that
    lasts until the end. ``groups`` are the targets; all but partitions and cuts have one group.
    """

    kind: str
    text: str
    at: float
    lasts: float | None
    groups: tuple[tuple[str, ...], ...]
    value: float = 0.0


@dataclass(slots=True)
class Done:
    """The outcome of a fault: a description, the processes affected, and how it is ended, if it has an end."""

    words: str
    hit: list[FaultTarget]
    undo: Undo | None = None
    over: str = ""
    """The description of the end."""


class ProcessControl:
    """Injects and ends faults; counts how many overlapping faults cut each path."""

    def __init__(self, fixture: Fixture) -> None:
        self.fixture = fixture
        self._cuts: Counter[tuple[str, str]] = Counter()

    def pairs(self, ones: Sequence[FaultTarget], others: Sequence[FaultTarget]) -> list[tuple[str, str]]:
        """Addresses of machines, from each of ``ones`` to each of ``others``."""
        return [*dict.fromkeys((a.host.ip, b.host.ip) for a in ones for b in others if a.host.ip != b.host.ip)]

    def cut(self, pairs: Sequence[tuple[str, str]]) -> Undo:
        """Block traffic from the first to the second of each pair."""
        network = self.fixture.network
        self._cuts.update(pairs)
        for a, b in pairs:
            network.cut(a, b, both=False)

        def undo() -> None:
            self._cuts.subtract(pairs)
            for a, b in pairs:
                if not self._cuts[a, b]:
                    network.heal(a, b)
                    if self._cuts[b, a] > 0:
                        network.cut(b, a, both=False)

        return undo

    def all_except(self, ones: Sequence[FaultTarget]) -> list[FaultTarget]:
        """All processes on other machines."""
        machines = {each.host.ip for each in ones}
        return [each for each in self.fixture.processes if each.host.ip not in machines]

    def on_machines_of(self, ones: Sequence[FaultTarget]) -> list[FaultTarget]:
        """These processes, and all others on the same machines."""
        machines = {each.host.ip for each in ones}
        return [each for each in self.fixture.processes if each.host.ip in machines]


def _names(ones: Sequence[FaultTarget]) -> str:
    return ", ".join(each.name for each in ones) or "nobody"


def _are(ones: Sequence[FaultTarget]) -> str:
    return f"{_names(ones)} {'is' if len(ones) == 1 else 'are'}"


def _start(ones: Sequence[FaultTarget]) -> None:
    for each in ones:
        if not each.host.running:
            each.host.restart()


def _kill(control: ProcessControl, fault: RequestedFault, groups: list[list[FaultTarget]]) -> Done:
    hit = [each for each in groups[0] if each.host.running]
    for each in hit:
        each.host.kill()
    return Done(f"{_are(hit)} killed", hit, partial(_start, hit), f"{_are(hit)} started again")


def _restart(control: ProcessControl, fault: RequestedFault, groups: list[list[FaultTarget]]) -> Done:
    hit = groups[0]
    away = AWAY if fault.lasts is None else fault.lasts
    for each in hit:
        each.host.kill()
    control.fixture.simulation.call_later(away, _start, hit)
    return Done(f"{_are(hit)} restarted, which takes {away:g} s", hit)


def _power_loss(control: ProcessControl, fault: RequestedFault, groups: list[list[FaultTarget]]) -> Done:
    hit = [each for each in control.on_machines_of(groups[0]) if each.host.running]
    machines = [*dict.fromkeys(each.host.ip for each in hit)]
    for each in hit:
        each.host.crash()
    words = f"power fails at {', '.join(machines) or 'nothing that runs'}: {_are(hit)} gone without a word"
    return Done(words, hit, partial(_start, hit), f"power is back: {_are(hit)} started again")


def _freeze(control: ProcessControl, fault: RequestedFault, groups: list[list[FaultTarget]]) -> Done:
    hit = groups[0]
    for each in hit:
        each.host.pause()

    def undo() -> None:
        for each in hit:
            each.host.resume()

    return Done(f"{_are(hit)} frozen", hit, undo, f"{_are(hit)} running on")


def _partition(control: ProcessControl, fault: RequestedFault, groups: list[list[FaultTarget]]) -> Done:
    pairs: list[tuple[str, str]] = []
    for ones in groups:
        for others in groups:
            if ones is not others:
                pairs += control.pairs(ones, others)
    words = " | ".join(_names(group) for group in groups)
    hit = [each for group in groups for each in group]
    return Done(f"partition: {words}", hit, control.cut(pairs), f"the partition {words} is healed")


def _cut(control: ProcessControl, fault: RequestedFault, groups: list[list[FaultTarget]]) -> Done:
    undo = control.cut(control.pairs(groups[0], groups[1]))
    words = f"from {_names(groups[0])} to {_names(groups[1])}"
    return Done(f"nothing gets through {words}", groups[0] + groups[1], undo, f"the way {words} is open again")


def _isolate(control: ProcessControl, fault: RequestedFault, groups: list[list[FaultTarget]]) -> Done:
    hit = control.on_machines_of(groups[0])
    others = control.all_except(hit)
    undo = control.cut(control.pairs(hit, others) + control.pairs(others, hit))
    return Done(f"{_are(hit)} cut off from all other machines", hit, undo, f"{_are(hit)} reachable again")


def _latency(control: ProcessControl, fault: RequestedFault, groups: list[list[FaultTarget]]) -> Done:
    hit, network = control.on_machines_of(groups[0]), control.fixture.network
    pairs = control.pairs(hit, control.all_except(hit))
    for a, b in pairs:
        network.slow(a, b, fault.value)

    def undo() -> None:
        for a, b in pairs:
            network.slow(a, b, network.latency, network.jitter)

    words = f"the way to and from {_names(hit)}"
    return Done(f"{words} takes {fault.value:g} ms", hit, undo, f"{words} is fast again")


def _loss(control: ProcessControl, fault: RequestedFault, groups: list[list[FaultTarget]]) -> Done:
    hit, network = control.on_machines_of(groups[0]), control.fixture.network
    pairs = control.pairs(hit, control.all_except(hit))
    for a, b in pairs:
        network.lose(a, b, fault.value / 100)

    def undo() -> None:
        for a, b in pairs:
            network.lose(a, b, 0.0)

    words = f"on the way to and from {_names(hit)}"
    return Done(
        f"{fault.value:g}% of all segments {words} get lost", hit, undo, f"no segment {words} gets lost any more"
    )


def _slow_disk(control: ProcessControl, fault: RequestedFault, groups: list[list[FaultTarget]]) -> Done:
    hit = groups[0]
    for each in hit:
        each.host.files.latency = fault.value

    def undo() -> None:
        for each in hit:
            each.host.files.latency = USUAL_DISK

    return Done(
        f"saving takes {fault.value:g} ms at {_names(hit)}", hit, undo, f"the disk of {_names(hit)} is fast again"
    )


def _full_disk(control: ProcessControl, fault: RequestedFault, groups: list[list[FaultTarget]]) -> Done:
    hit = groups[0]
    for each in hit:
        each.host.files.fail_with = OSError(errno.ENOSPC, "No space left on device")

    def undo() -> None:
        for each in hit:
            each.host.files.fail_with = None

    return Done(f"the disk of {_names(hit)} is full", hit, undo, f"the disk of {_names(hit)} has space again")


def _stuck_disk(control: ProcessControl, fault: RequestedFault, groups: list[list[FaultTarget]]) -> Done:
    hit = groups[0]
    for each in hit:
        each.host.files.stick()

    def undo() -> None:
        for each in hit:
            each.host.files.unstick()

    return Done(f"the disk of {_names(hit)} hangs", hit, undo, f"the disk of {_names(hit)} works again")


def _clock(control: ProcessControl, fault: RequestedFault, groups: list[list[FaultTarget]]) -> Done:
    for each in groups[0]:
        each.host.step_wall_clock(fault.value)
    return Done(f"the wall clock of {_names(groups[0])} jumps by {fault.value:+g} s", groups[0])


def _no_dns(control: ProcessControl, fault: RequestedFault, groups: list[list[FaultTarget]]) -> Done:
    hit = groups[0]
    for each in hit:
        each.host.names.clear()

    def undo() -> None:
        for each in hit:
            each.host.names.update(control.fixture.topology.names)

    return Done(f"no name can be resolved at {_names(hit)}", hit, undo, f"names can be resolved at {_names(hit)} again")


def _busy(control: ProcessControl, fault: RequestedFault, groups: list[list[FaultTarget]]) -> Done:
    hit = groups[0]
    for each in hit:
        if each.server is not None and each.host.running:
            each.server.redis.start_script()

    def undo() -> None:
        for each in hit:
            if each.server is not None:
                each.server.redis.end_script()

    return Done(f"a script without end keeps {_names(hit)} busy", hit, undo, f"the script at {_names(hit)} is over")


def _ordered(control: ProcessControl, fault: RequestedFault, groups: list[list[FaultTarget]], *options: str) -> Done:
    name = fault.groups[0][0].partition("/")[0]
    number = max(1, int(fault.value))
    control.fixture.application.lines[number - 1].ask(lambda reply: None, "SENTINEL", "FAILOVER", name, *options)
    return Done(f"an operator sends s{number}: SENTINEL FAILOVER {' '.join((name, *options))}", groups[0])


Action: TypeAlias = Callable[[ProcessControl, RequestedFault, list[list[FaultTarget]]], Done]


@dataclass(frozen=True, slots=True)
class FaultType:
    """A type of fault: its help, the value after ``=``, and its possible targets."""

    action: Action
    help: str
    value: str = ""
    """The meaning of the number after ``=``; empty for none."""
    of: str = ""
    """``server`` or ``sentinel`` if only these can be targets; ``master`` for a name from the file."""
    groups: tuple[int, int] = (1, 1)
    """The minimum and maximum number of target groups."""
    optional: bool = False
    """Whether the value may be left out."""
    minimum: float = 0.0
    maximum: float = 1e9


FAULT_TYPES: Final[dict[str, FaultType]] = {
    "kill": FaultType(_kill, "kill a process, as SIGKILL does"),
    "restart": FaultType(_restart, "kill and start again, by default after a second"),
    "power-loss": FaultType(_power_loss, "switch off the machine, with all that runs on it"),
    "freeze": FaultType(_freeze, "stop a process, as SIGSTOP does"),
    "partition": FaultType(_partition, "cut the network between groups of machines", groups=(2, 20)),
    "cut": FaultType(_cut, "let nothing through from the one to the other, in this direction only", groups=(2, 2)),
    "isolate": FaultType(_isolate, "cut machines off from all others"),
    "latency": FaultType(_latency, "let all traffic of these machines take longer", "MS", maximum=60_000),
    "loss": FaultType(_loss, "lose some of the traffic of these machines", "PERCENT", maximum=99),
    "slow-disk": FaultType(_slow_disk, "let a Sentinel save slowly", "MS", of="sentinel", maximum=600_000),
    "full-disk": FaultType(_full_disk, "let a Sentinel fail to save", of="sentinel"),
    "stuck-disk": FaultType(_stuck_disk, "let the disk of a Sentinel hang", of="sentinel"),
    "clock": FaultType(_clock, "let a wall clock jump", "SECONDS", of="sentinel", minimum=-1e9),
    "no-dns": FaultType(_no_dns, "let no name be resolved"),
    "busy": FaultType(_busy, "keep a server busy with a Lua script", of="server"),
    "failover": FaultType(_ordered, "order SENTINEL FAILOVER", "SENTINEL", of="master", optional=True, minimum=1),
    "handover": FaultType(
        lambda control, fault, groups: _ordered(control, fault, groups, "COORDINATED"),
        "order SENTINEL FAILOVER ... COORDINATED",
        "SENTINEL",
        of="master",
        optional=True,
        minimum=1,
    ),
}
"""Every type of fault, by the name of its option."""


APART: Final = ("partition", "cut", "isolate", "latency", "loss")
"""Faults between machines."""


def parse_fault(kind: str, text: str, topology: Topology) -> RequestedFault:
    """
    Parse ``TARGETS[=VALUE][@SECONDS[+LASTS]]``; targets are separated by ``,``, groups of them by ``|``.

    :raises BadFault: with the reason.
    """
    try:
        return _parse(kind, text, topology)
    except (BadTarget, ValueError) as error:
        raise BadFault(f"--{kind} {text}: {error}") from None


def _parse(kind: str, text: str, topology: Topology) -> RequestedFault:
    row = FAULT_TYPES[kind]
    rest, at_sign, when = text.rpartition("@")
    at, lasts = 0.0, None
    if at_sign:
        start, plus, length = when.partition("+")
        at = _number(start, "the seconds behind @", 0, 1e6)
        lasts = _number(length, "the seconds behind +", 0, 1e6) if plus else None
    else:
        rest = text
    rest, equals, word = rest.partition("=")
    if equals and not row.value:
        raise ValueError("nothing is to be set here with =")
    if row.value and not equals and not row.optional:
        raise ValueError(f"how much? Write {rest}={row.value}")
    value = _number(word, row.value, row.minimum, row.maximum) if equals else 0.0
    groups = tuple(tuple(word.strip() for word in group.split(",") if word.strip()) for group in rest.split("|"))
    minimum, maximum = row.groups
    if not minimum <= len(groups) <= maximum:
        raise ValueError(
            "groups are separated by |, such as in mymaster,s1|others" if minimum > 1 else "one group only"
        )
    if not all(groups):
        raise ValueError("the target is missing")
    if sum(group == (OTHERS,) for group in groups) > (1 if minimum > 1 else 0) or any(
        OTHERS in group and len(group) > 1 for group in groups
    ):
        raise ValueError("'others' can only be a group of its own, once, beside other groups")
    for group in groups:
        for target in group:
            check_target(target, topology)
            _check_kind(target, row.of, topology)
    if kind in APART:
        _check_apart(groups, topology)
    if kind in ("failover", "handover") and value > len(topology.sentinels):
        raise ValueError(f"there are the Sentinels 1 to {len(topology.sentinels)}")
    return RequestedFault(kind, text, at, lasts, groups, value)


def _check_apart(groups: Sequence[Sequence[str]], topology: Topology) -> None:
    """Check that the groups are on different machines: there is a network only between machines."""
    everywhere = {place.ip for place in topology.places.values()}
    if len(everywhere) == 1:
        raise ValueError(f"all that the file names is on one machine ({everywhere.pop()}), so there is no network")
    seen: dict[str, str] = {}
    for number, group in enumerate(groups):
        for target in group:
            for ip in machines(target, topology):
                other = seen.setdefault(ip, f"{number} {target}")
                if not other.startswith(f"{number} "):
                    raise ValueError(f"{other.partition(' ')[2]} and {target} are on one machine ({ip})")


def _check_kind(target: str, of: str, topology: Topology) -> None:
    masters = [group.name for group in topology.groups]
    if of == "master" and target not in masters:
        raise ValueError(f"{target} is not the name of a master ({', '.join(masters)})")
    servers = target in masters or "/" in target or target in ("all-masters", "all-replicas")
    if of == "sentinel" and (servers or target == "client"):
        raise ValueError(f"{target} is no Sentinel")
    if of == "server" and (target in ("majority", "all-sentinels", "client") or target.lstrip("s").isdecimal()):
        raise ValueError(f"{target} is no Redis server")


def _number(word: str, what: str, minimum: float, maximum: float) -> float:
    try:
        number = float(word)
    except ValueError:
        raise ValueError(f"{what}: {word!r} is no number") from None
    if not minimum <= number <= maximum:
        raise ValueError(f"{what}: {word} is not between {minimum:g} and {maximum:g}")
    return number


@dataclass(slots=True)
class Injector:
    """Injects the faults of a what-if; ``report`` is called for every beginning and end."""

    fixture: Fixture
    report: Callable[[str, list[FaultTarget]], None]
    lasting: list[tuple[RequestedFault, Done]] = field(default_factory=list)
    """Faults in force without an end of their own."""
    pending: int = 0
    """Number of beginnings and ends still to come."""
    changed_at: float = 0.0
    """Simulated seconds of the latest beginning or end."""
    control: ProcessControl = field(init=False)

    def __post_init__(self) -> None:
        self.control = ProcessControl(self.fixture)

    def plan(self, faults: Sequence[RequestedFault]) -> None:
        """Schedule the faults."""
        for fault in faults:
            self.pending += 1
            self.fixture.simulation.call_later(fault.at, self._do, fault)

    def undo_lasting(self) -> None:
        """End every fault that has no end of its own."""
        lasting, self.lasting = self.lasting, []
        for _, done in lasting:
            self._undo(done)

    def _do(self, fault: RequestedFault) -> None:
        self.pending -= 1
        self.changed_at = self.fixture.simulation.seconds()
        named = [self._group(group) for group in fault.groups if group != (OTHERS,)]
        groups = [
            self.control.all_except([each for known in named for each in known])
            if group == (OTHERS,)
            else self._group(group)
            for group in fault.groups
        ]
        row = FAULT_TYPES[fault.kind]
        if row.of in ("sentinel", "server"):
            groups = [[each for each in group if getattr(each, row.of) is not None] for group in groups]
        done = row.action(self.control, fault, groups)
        self.report(done.words, done.hit)
        if fault.kind == "restart":
            self.changed_at += AWAY if fault.lasts is None else fault.lasts
        elif done.undo is not None and fault.lasts is None:
            self.lasting.append((fault, done))
        elif done.undo is not None and fault.lasts is not None:
            self.pending += 1
            self.fixture.simulation.call_later(fault.lasts, self._end, done)

    def _end(self, done: Done) -> None:
        self.pending -= 1
        self._undo(done)

    def _undo(self, done: Done) -> None:
        self.changed_at = self.fixture.simulation.seconds()
        assert done.undo is not None
        done.undo()
        self.report(done.over, done.hit)

    def _group(self, words: Sequence[str]) -> list[FaultTarget]:
        found = [process for word in words for process in resolve(word, self.fixture)]
        return [*{process.name: process for process in found}.values()]
