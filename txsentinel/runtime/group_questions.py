"""
Questions to the other Sentinels of a master: how they explain it, and what they hold of it.

Those of our kind are sent a command of TXSENTINEL, C Sentinels ``SENTINEL MASTER``, both over the links that there are.
Answers that do not arrive within a second are missing in the result. What other processes answer is only data here: of
an unexpected answer nothing is used.
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from twisted.internet.defer import Deferred

from txsentinel.core.fan_out import PeerAnswer
from txsentinel.core.instances import Master
from txsentinel.model.comparison import Difference, DifferenceKind, GroupComparison
from txsentinel.model.explanation import Explanation, FleetOpinion
from txsentinel.model.snapshots import Endpoint, Instant
from txsentinel.server.fan_out import ask_peers
from txsentinel.server.shared_options import shared_options
from txsentinel.wire.resp import text

if TYPE_CHECKING:
    from txsentinel.server.fan_out import FanOutServices

Answer = TypeVar("Answer")

MAX_TEXT: Final = 500
"""How much of a text of another Sentinel is shown."""

_DOWN_FLAGS: Final = frozenset(("s_down", "o_down"))


def explain_group(services: FanOutServices, explanation: Explanation) -> Deferred[Explanation]:
    """Return an explanation with what the other Sentinels answer: ``fleet``, ``missing``, and why one is missing."""
    name = explanation.master
    question = (b"TXSENTINEL", b"EXPLAIN", _raw(name), b"JOURNAL", b"0")
    by_hostname = services.core.options.announce_hostnames

    def answered(answers: Sequence[PeerAnswer]) -> Explanation:
        opinions, missing, warnings = [], [], []
        for answer in answers:
            opinion = _opinion(answer, explanation)
            if opinion is not None:
                opinions.append(opinion)
                continue
            missing.append(answer.peer_id)
            why = answer.error or "its answer is not understood"
            place = answer.address.joined(by_hostname)
            warnings.append(f"Sentinel {answer.peer_id[:8]} at {place} has not explained the master: {why[:MAX_TEXT]}")
        return replace(
            explanation,
            fleet=tuple(opinions),
            missing=tuple(missing),
            warnings=(*explanation.warnings, *warnings),
        )

    return _ask(services, name, question, answered)


def compare_group(services: FanOutServices, name: str, at: Instant) -> Deferred[GroupComparison]:
    """Compare address, epoch and options of a master with those that the other Sentinels have."""
    by_hostname = services.core.options.announce_hostnames

    def answered(answers: Sequence[PeerAnswer]) -> GroupComparison:
        compared, missing = [], []
        differences: list[Difference] = []
        master = services.core.registry.masters.get(name)
        for answer in answers:
            held = None if master is None else _held(answer)
            if master is None or held is None:
                missing.append((answer.peer_id, (answer.error or "its answer is not understood")[:MAX_TEXT]))
                continue
            compared.append(answer.peer_id)
            place = Endpoint(answer.address.announced(by_hostname), answer.address.port)
            for about, option, here, there in _differences(_own(services, master), held):
                differences.append(Difference(answer.peer_id, place, about, option, here, there))
        return GroupComparison(name, at, tuple(compared), tuple(missing), tuple(differences))

    return _ask(services, name, (b"TXSENTINEL", b"AGREE", _raw(name)), answered)


class MonitoredGroups:
    """The names of the masters, and comparisons of each with what the other Sentinels have."""

    def __init__(self, services: FanOutServices) -> None:
        self._services = services

    def names(self) -> tuple[str, ...]:
        """Return the names of all masters."""
        return tuple(self._services.core.registry.masters)

    def compare_group(self, name: str) -> Deferred[GroupComparison]:
        """Compare address, epoch and options of a master with what the other Sentinels have, within a second."""
        return compare_group(self._services, name, Instant(round(self._services.host.wall_clock() * 1000)))


def _ask(
    services: FanOutServices, name: str, question: Sequence[bytes], answered: Callable[[Sequence[PeerAnswer]], Answer]
) -> Deferred[Answer]:
    peers = services.core.fan_out.peers(name)
    asked = ask_peers(services, peers, question, for_c=(b"SENTINEL", b"MASTER", _raw(name)))
    return asked.addCallback(answered)


def _raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


class _Held:
    """What one Sentinel holds of a master."""

    def __init__(self, address: Endpoint, epoch: int, options: Mapping[str, str], *, complete: bool) -> None:
        self.address = address
        self.epoch = epoch
        self.options = options
        self.complete = complete
        """Whether an option that is missing has no value; C Sentinels show only some."""


def _own(services: FanOutServices, master: Master) -> _Held:
    state = services.core.state
    address, by_hostname = state.durable_address(master), services.core.options.announce_hostnames
    place = Endpoint(address.announced(by_hostname), address.port)
    return _Held(place, state.durable_config_epoch(master), shared_options(master), complete=True)


def _held(answer: PeerAnswer) -> _Held | None:
    """Return what a Sentinel holds according to its answer to AGREE or MASTER; ``None`` if that is none."""
    fields = _fields(answer.reply)
    if answer.kind == "c":
        place, epoch = _place(fields, b"ip"), _number(fields.get(b"config-epoch"))
        options = {text(name): _text(value) for name, value in fields.items()}
    else:
        place, epoch = _place(fields, b"host"), _number(fields.get(b"config_epoch"))
        options = {text(name): _text(value) for name, value in _fields(fields.get(b"options")).items()}
        if not options and b"quorum" in fields:
            # Earlier versions report no other option.
            options = {"quorum": _text(fields[b"quorum"])}
            return None if place is None or epoch is None else _Held(place, epoch, options, complete=False)
    if place is None or epoch is None:
        return None
    return _Held(place, epoch, options, complete=answer.kind != "c")


def _differences(here: _Held, there: _Held) -> Iterator[tuple[DifferenceKind, str, str, str]]:
    if (here.address.host.lower(), here.address.port) != (there.address.host.lower(), there.address.port):
        yield DifferenceKind.ADDRESS, "address", str(here.address), str(there.address)
    if here.epoch != there.epoch:
        yield DifferenceKind.EPOCH, "config-epoch", str(here.epoch), str(there.epoch)
    names = dict.fromkeys((*here.options, *(there.options if there.complete else ())))
    for option in names:
        if option not in there.options and not there.complete:
            continue
        ours, theirs = here.options.get(option, ""), there.options.get(option, "")
        if ours != theirs:
            about = DifferenceKind.QUORUM if option == "quorum" else DifferenceKind.OPTIONS
            yield about, option[:MAX_TEXT], ours, theirs[:MAX_TEXT]


def _opinion(answer: PeerAnswer, here: Explanation) -> FleetOpinion | None:
    """Return what another Sentinel answered, ``None`` if it did not answer the question."""
    fields = _fields(answer.reply)
    if answer.kind == "c":
        verdict = None
        place, epoch = _place(fields, b"ip"), _number(fields.get(b"config-epoch"))
        quorum = _number(fields.get(b"quorum"))
        down = bool(_DOWN_FLAGS & set(_text(fields.get(b"flags")).split(",")))
    else:
        verdict = _text(_fields(fields.get(b"verdict")).get(b"code"))[:MAX_TEXT] or None
        place, epoch = _place(_fields(fields.get(b"address")), b"host"), _number(fields.get(b"config_epoch"))
        quorum = _number(_fields(fields.get(b"agreement")).get(b"needed"))
        down = _fields(fields.get(b"sdown")).get(b"since") is not None
    if place is None or epoch is None:
        return None
    found = []
    if (place.host.lower(), place.port) != (here.address.host.lower(), here.address.port):
        found.append(f"it has {place} of epoch {epoch}, this Sentinel {here.address} of epoch {here.config_epoch}")
    elif epoch != here.config_epoch:
        found.append(f"it has epoch {epoch}, this Sentinel {here.config_epoch}")
    if down is not (here.sdown.since is not None):
        found.append(f"it considers the master {'down' if down else 'up'}")
    if quorum is not None and quorum != here.agreement.needed:
        found.append(
            f"its quorum is {quorum}, that of this Sentinel {here.agreement.needed}: SENTINEL SET {here.master} quorum"
        )
    return FleetOpinion(answer.peer_id, verdict, place, epoch, "; ".join(found) or None)


def _fields(reply: object) -> dict[bytes, object]:
    """Return a flat list of names and values as a dictionary; empty for anything else."""
    if not isinstance(reply, list):
        return {}
    return {name: value for name, value in zip(reply[::2], reply[1::2], strict=False) if isinstance(name, bytes)}


def _text(value: object) -> str:
    return text(value) if isinstance(value, bytes) else str(value) if isinstance(value, int) else ""


def _number(value: object) -> int | None:
    digits = _text(value)
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 20 else None


def _place(fields: Mapping[bytes, object], host: bytes) -> Endpoint | None:
    name, port = _text(fields.get(host)), _number(fields.get(b"port"))
    return None if not name or port is None else Endpoint(name[:MAX_TEXT], port)
