"""
Elections as transcripts: the input is above the dashes, the output of the Sentinel below.

A transcript is reviewed like code. If a change alters one, run with ``TXSENTINEL_TRANSCRIPTS=write``, and review each
line of the difference before it is committed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, FakeServer, Fixture, identity
from txsentinel.core.effects import PublishHello
from txsentinel.core.instances import Peer
from txsentinel.core.link import LinkKind
from txsentinel.model.address import Address

TRANSCRIPTS = Path(__file__).parent.parent / "transcripts"
SEPARATOR = "----"
_ID = re.compile(r"([a-z])\1{39}")


def address_of(word: str) -> Address:
    """Return the address of ``master``, a replica's number, or a peer's letter."""
    if word == "master":
        return MASTER
    if word.isdigit():
        return Address.literal(f"10.0.0.{word}", 6379)
    return Address.literal(f"10.0.1.{ord(word)}", 26379)


def settings(words: list[str]) -> dict[str, object]:
    """Parse ``offset=5 reports-down`` as keyword arguments."""
    found: dict[str, object] = {}
    for word in words:
        name, _, value = word.partition("=")
        negated = name.startswith("no-")
        key = name.removeprefix("no-").replace("-", "_")
        found[key] = int(value) if value.lstrip("-").isdigit() else value or not negated
    return found


class Script:
    """Executes one transcript."""

    def __init__(self) -> None:
        self.fixture = Fixture()
        self.killed_at = self.fixture.now

    def perform(self, line: str) -> None:
        """Execute one command line."""
        verb, *words = line.split()
        getattr(self, "do_" + verb.replace("-", "_"))(*words)

    def do_master(self, *words: str) -> None:
        """Set the options of the master, and ``me=<letter>``, ``rng=<n>``."""
        options = settings(list(words))
        me, rng = options.pop("me", "m"), options.pop("rng", 0)
        self.fixture = Fixture(
            {name: int(str(value)) for name, value in options.items()}, my_id=identity(str(me)), rng=int(str(rng))
        )

    def do_replica(self, number: str, *words: str) -> None:
        """Add a replica."""
        self.fixture.add_replica(int(number), **settings(list(words)))

    def do_peer(self, letter: str, *words: str) -> None:
        """Add a peer."""
        self.fixture.add_peer(letter, **settings(list(words)))

    def do_set(self, who: str, *words: str) -> None:
        """Change the behaviour of a server or peer."""
        for name, value in settings(list(words)).items():
            if name == "votes_for":
                letter, _, epoch = str(value).partition("@")
                self.fixture.servers[address_of(who)].answer = (identity(letter), int(epoch))
            elif name == "ping_text":
                self.fixture.servers[address_of(who)].ping_text = str(value).encode()
            else:
                setattr(self.fixture.servers[address_of(who)], name, value)

    def do_kill(self, who: str) -> None:
        """Stop a process: connections are lost and new ones are refused."""
        self.killed_at = self.fixture.now
        self.fixture.kill(address_of(who))

    def do_hang(self, who: str) -> None:
        """Hang a process: connected, but silent."""
        self.fixture.servers[address_of(who)].hung = True

    def do_revive(self, who: str) -> None:
        """Start a process again, or let it continue."""
        self.fixture.revive(address_of(who))

    def do_wait(self, milliseconds: str, step: str = "1") -> None:
        """Advance the time."""
        self.fixture.wait(int(milliseconds), int(step))

    def do_stall(self, milliseconds: str) -> None:
        """Stop this process for some time."""
        self.fixture.now += int(milliseconds)
        self.fixture.sweep()

    def do_jump(self, milliseconds: str) -> None:
        """Set the wall clock."""
        self.fixture.wall_skew += int(milliseconds)
        self.fixture.wait(10)

    def do_request(self, letter: str, epoch: str, candidate: str = "") -> None:
        """Request our vote in the name of a peer or, with ``*``, ask for our opinion."""
        fixture = self.fixture
        who = "*" if candidate == "*" else identity(candidate or letter)
        at = fixture.master.address
        vote = fixture.core.vote_requested(at.ip, at.port, int(epoch), who, fixture.now)
        held = "" if vote.generation <= fixture.core.durable_generation else " once durable"
        fixture.lines.append(f"reply {int(vote.down)} {vote.leader} {vote.leader_epoch}{held}")
        fixture.finish()

    def do_hello(self, letter: str, who: str, config_epoch: str, epoch: str = "") -> None:
        """Deliver a hello of a peer about the master."""
        self.fixture.hello(letter, address_of(who), int(config_epoch), int(epoch) if epoch else None)

    def do_publish(self, payload: str) -> None:
        """Deliver a payload on the hello channel; single letters in braces are IDs."""
        fixture = self.fixture
        words = re.sub(r"\{(.)\}", lambda found: identity(found[1]), payload)
        fixture.core.hello_received(words.encode(), fixture.now)
        fixture.finish()

    def do_sentinel_at(self, ip: str, letter: str) -> None:
        """Let the Sentinel of that letter answer at ``ip``."""
        at = Address.literal(ip, 26379)
        self.fixture.servers[at] = FakeServer(at, sentinel_id=identity(letter).encode())

    def do_hellos(self) -> None:
        """Record when each peer was sent an address since the last time, in ms since the last kill."""
        fixture = self.fixture
        for at, effect in fixture.sent:
            if isinstance(effect, PublishHello) and isinstance(effect.instance, Peer):
                fields = effect.payload.decode().split(",")
                letter = effect.instance.name[0]
                fixture.lines.append(f"{at - self.killed_at} ms: {letter} receives {fields[5]} in epoch {fields[7]}")
        fixture.sent.clear()

    def do_reconnect(self, who: str, *kinds: str) -> None:
        """Reset connections, which are back at once: ``cmd``, ``pubsub``, or both."""
        self.fixture.reset_connections(address_of(who), *(LinkKind(kind) for kind in kinds))

    def do_option(self, name: str, value: str) -> None:
        """Change an option of the master."""
        setattr(self.fixture.master.options, name.replace("-", "_"), int(value))

    def do_restart(self) -> None:
        """Crash this Sentinel and start it again."""
        self.fixture.restart()

    def do_reset(self) -> None:
        """Reset the master."""
        self.fixture.core.administration.reset("*", self.fixture.now)
        self.fixture.finish()

    def do_remove(self) -> None:
        """Remove the master."""
        self.fixture.core.administration.remove("mymaster", self.fixture.now)
        self.fixture.finish()

    def do_monitor(self, who: str) -> None:
        """Monitor a master of the same name."""
        at = address_of(who)
        self.fixture.master = self.fixture.core.administration.monitor("mymaster", at.ip, at.port, 2, self.fixture.now)
        self.fixture.finish()

    def do_failover(self) -> None:
        """Order a failover."""
        self.fixture.core.administration.failover("mymaster", self.fixture.now)
        self.fixture.finish()

    def do_simulate(self, *words: str) -> None:
        """Order a simulated crash."""
        self.fixture.core.simulate_crash.update(words)

    def do_disk(self, how: str) -> None:
        """Let the disk be ``works``, ``fails``, or ``slow``: nothing is saved until ``disk commits``."""
        fixture = self.fixture
        if how == "commits":
            fixture.commit()
        else:
            fixture.disk_works = how != "fails"
            fixture.disk_slow = how == "slow"
        fixture.finish()

    def output(self) -> list[str]:
        """Return the output, with letters for IDs and without times in dates."""
        lines = [_ID.sub(r"\1", line) for line in self.fixture.output()]
        lines = [re.sub(r"(has not|for) \d+ ms|is \d+ ms old", r"\1 some ms", line) for line in lines]
        if self.fixture.master.failover is not None:
            lines.append(
                f"now {self.fixture.master.failover.state.value} in epoch {self.fixture.master.failover.epoch}"
            )
        return lines


def replay(text: str) -> str:
    """Return the transcript as this code would write it."""
    script = Script()
    written: list[str] = []
    for block in text.strip("\n").split("\n\n"):
        directions = [line for line in block.split(SEPARATOR + "\n")[0].splitlines() if line != SEPARATOR]
        for line in directions:
            if not line.startswith("#"):
                script.perform(line)
        output = script.output()
        written.append("\n".join([*directions, SEPARATOR, *output]) if SEPARATOR in block else "\n".join(directions))
    return "\n\n".join(written) + "\n"


class TranscriptTests(SynchronousTestCase):
    """Each file under ``tests/transcripts``."""


def _one(path: Path) -> object:
    def test(self: TranscriptTests) -> None:
        expected = path.read_text()
        actual = replay(expected)
        if os.environ.get("TXSENTINEL_TRANSCRIPTS") == "write":
            path.write_text(actual)
        self.assertEqual(expected, actual)

    test.__doc__ = f"``{path.name}`` is what happens."
    return test


for _path in sorted(TRANSCRIPTS.glob("*.txt")):
    setattr(TranscriptTests, f"test_{_path.stem}", _one(_path))
