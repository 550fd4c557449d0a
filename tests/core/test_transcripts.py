"""
Elections as transcripts: what happens stands above the dashes, what the Sentinel says about it below.

A transcript is reviewed like code. If a change alters one, run with ``TXSENTINEL_TRANSCRIPTS=write``,
read the difference, and commit it only if every line of it is what you meant.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER_PLACE, FakeServer, Fixture, identity
from txsentinel.core.effects import PublishHello
from txsentinel.core.instances import Peer
from txsentinel.core.link import LinkKind
from txsentinel.model.address import Address

TRANSCRIPTS = Path(__file__).parent.parent / "transcripts"
SEPARATOR = "----"
_ID = re.compile(r"([a-z])\1{39}")


def place(word: str) -> Address:
    """``master``, a replica's number, or a peer's letter, as an address."""
    if word == "master":
        return MASTER_PLACE
    if word.isdigit():
        return Address.literal(f"10.0.0.{word}", 6379)
    return Address.literal(f"10.0.1.{ord(word)}", 26379)


def settings(words: list[str]) -> dict[str, object]:
    """``offset=5 reports-down`` as keyword arguments."""
    found: dict[str, object] = {}
    for word in words:
        name, _, value = word.partition("=")
        negated = name.startswith("no-")
        key = name.removeprefix("no-").replace("-", "_")
        found[key] = int(value) if value.lstrip("-").isdigit() else value or not negated
    return found


class Script:
    """One transcript being played."""

    def __init__(self) -> None:
        self.fixture = Fixture()
        self.killed_at = self.fixture.now

    def perform(self, line: str) -> None:
        """One line of direction."""
        verb, *words = line.split()
        getattr(self, "do_" + verb.replace("-", "_"))(*words)

    def do_master(self, *words: str) -> None:
        """The options of the master, and ``me=<letter>``, ``rng=<n>``."""
        options = settings(list(words))
        me, rng = options.pop("me", "m"), options.pop("rng", 0)
        self.fixture = Fixture(
            my_id=identity(str(me)), rng=int(str(rng)), **{k: int(str(v)) for k, v in options.items()}
        )

    def do_replica(self, number: str, *words: str) -> None:
        """A replica appears."""
        self.fixture.add_replica(int(number), **settings(list(words)))

    def do_peer(self, letter: str, *words: str) -> None:
        """A peer appears."""
        self.fixture.add_peer(letter, **settings(list(words)))

    def do_set(self, who: str, *words: str) -> None:
        """Somebody behaves differently from now on."""
        for name, value in settings(list(words)).items():
            if name == "votes_for":
                letter, _, epoch = str(value).partition("@")
                self.fixture.actors[place(who)].answer = (identity(letter), int(epoch))
            elif name == "ping_text":
                self.fixture.actors[place(who)].ping_text = str(value).encode()
            else:
                setattr(self.fixture.actors[place(who)], name, value)

    def do_kill(self, who: str) -> None:
        """Connections break and new ones are refused."""
        self.killed_at = self.fixture.now
        self.fixture.kill(place(who))

    def do_hang(self, who: str) -> None:
        """Connected, but silent."""
        self.fixture.actors[place(who)].silent = True

    def do_revive(self, who: str) -> None:
        """Back, reachable and answering."""
        self.fixture.revive(place(who))

    def do_wait(self, milliseconds: str, step: str = "1") -> None:
        """Time passes."""
        self.fixture.wait(int(milliseconds), int(step))

    def do_stall(self, milliseconds: str) -> None:
        """This process stands still."""
        self.fixture.now += int(milliseconds)
        self.fixture.sweep()

    def do_jump(self, milliseconds: str) -> None:
        """The wall clock is set."""
        self.fixture.wall_skew += int(milliseconds)
        self.fixture.wait(10)

    def do_request(self, letter: str, epoch: str, candidate: str = "") -> None:
        """A peer asks for our vote, or with ``*`` for our opinion."""
        fixture = self.fixture
        who = "*" if candidate == "*" else identity(candidate or letter)
        at = fixture.master.address
        vote = fixture.core.vote_requested(at.ip, at.port, int(epoch), who, fixture.now)
        held = "" if vote.generation <= fixture.core.durable_generation else " once durable"
        fixture.lines.append(f"reply {int(vote.down)} {vote.leader} {vote.leader_epoch}{held}")
        fixture.finish()

    def do_hello(self, letter: str, who: str, config_epoch: str, epoch: str = "") -> None:
        """A peer says where the master is."""
        self.fixture.hello(letter, place(who), int(config_epoch), int(epoch) if epoch else None)

    def do_say(self, payload: str) -> None:
        """A payload on the hello channel; single letters in braces are IDs."""
        fixture = self.fixture
        words = re.sub(r"\{(.)\}", lambda found: identity(found[1]), payload)
        fixture.core.hello_received(words.encode(), fixture.now)
        fixture.finish()

    def do_listens(self, ip: str, letter: str) -> None:
        """At ``ip`` there is the Sentinel of that letter."""
        at = Address.literal(ip, 26379)
        self.fixture.actors[at] = FakeServer(at, sentinel_id=identity(letter).encode())

    def do_tells(self) -> None:
        """Write down when each peer was told of an address since the last time, in ms since the last kill."""
        fixture = self.fixture
        for at, effect in fixture.sent:
            if isinstance(effect, PublishHello) and isinstance(effect.instance, Peer):
                fields = effect.payload.decode().split(",")
                letter = effect.instance.name[0]
                fixture.lines.append(f"{at - self.killed_at} ms: {letter} is told of {fields[5]} in epoch {fields[7]}")
        fixture.sent.clear()

    def do_reconnect(self, who: str, *kinds: str) -> None:
        """Connections to somebody break and are back at once: ``cmd``, ``pubsub``, or both."""
        self.fixture.reset_connections(place(who), *(LinkKind(kind) for kind in kinds))

    def do_option(self, name: str, value: str) -> None:
        """An option of the master changes."""
        setattr(self.fixture.master.options, name.replace("-", "_"), int(value))

    def do_restart(self) -> None:
        """This Sentinel crashes and starts again."""
        self.fixture.restart()

    def do_reset(self) -> None:
        """The operator resets the master."""
        self.fixture.core.reset("*", self.fixture.now)
        self.fixture.finish()

    def do_remove(self) -> None:
        """The operator has the master forgotten."""
        self.fixture.core.remove("mymaster", self.fixture.now)
        self.fixture.finish()

    def do_monitor(self, who: str) -> None:
        """The operator has a master of the same name watched."""
        at = place(who)
        self.fixture.master = self.fixture.core.monitor("mymaster", at.ip, at.port, 2, self.fixture.now)
        self.fixture.finish()

    def do_failover(self) -> None:
        """The operator orders one."""
        self.fixture.core.failover("mymaster", self.fixture.now)
        self.fixture.finish()

    def do_simulate(self, *words: str) -> None:
        """The operator orders a crash."""
        self.fixture.core.simulate_crash.update(words)

    def do_disk(self, how: str) -> None:
        """``works``, ``fails``, or ``slow``: nothing is saved until ``disk commits``."""
        fixture = self.fixture
        if how == "commits":
            fixture.commit()
        else:
            fixture.disk_works = how != "fails"
            fixture.disk_slow = how == "slow"
        fixture.finish()

    def heard(self) -> list[str]:
        """What was said, with IDs by their letters and the clock left out of dates."""
        lines = [_ID.sub(r"\1", line) for line in self.fixture.heard()]
        lines = [re.sub(r"(has not|for) \d+ ms|is \d+ ms old", r"\1 some ms", line) for line in lines]
        if self.fixture.master.failover is not None:
            lines.append(
                f"now {self.fixture.master.failover.state.value} in epoch {self.fixture.master.failover.epoch}"
            )
        return lines


def played(text: str) -> str:
    """The transcript as this code would write it."""
    play = Script()
    written: list[str] = []
    for block in text.strip("\n").split("\n\n"):
        directions = [line for line in block.split(SEPARATOR + "\n")[0].splitlines() if line != SEPARATOR]
        for line in directions:
            if not line.startswith("#"):
                play.perform(line)
        heard = play.heard()
        written.append("\n".join([*directions, SEPARATOR, *heard]) if SEPARATOR in block else "\n".join(directions))
    return "\n\n".join(written) + "\n"


class TranscriptTests(SynchronousTestCase):
    """Each file under ``tests/transcripts``."""


def _one(path: Path) -> object:
    def test(self: TranscriptTests) -> None:
        expected = path.read_text()
        actual = played(expected)
        if os.environ.get("TXSENTINEL_TRANSCRIPTS") == "write":
            path.write_text(actual)
        self.assertEqual(expected, actual)

    test.__doc__ = f"``{path.name}`` is what happens."
    return test


for _path in sorted(TRANSCRIPTS.glob("*.txt")):
    setattr(TranscriptTests, f"test_{_path.stem}", _one(_path))
