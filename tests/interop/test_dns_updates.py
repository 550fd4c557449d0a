"""The publisher for DNS with BIND 9: prerequisites, signatures, and kinds of addresses."""

from __future__ import annotations

import socket
import struct
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import dns.flags
import dns.message
import dns.opcode
import dns.query
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.fixture import instant
from txsentinel.demo.named import NamedProcess
from txsentinel.demo.other_programs import find_program
from txsentinel.extensions.dns.messages import DnsFailed
from txsentinel.extensions.dns.publisher import DnsPublisher
from txsentinel.extensions.dns.settings import read_settings
from txsentinel.model.publications import Publication, PublishOutcome
from txsentinel.model.snapshots import Endpoint, MasterChange

ZONE = "redis.example"
FIRST, SECOND, THIRD = (Endpoint(f"10.0.0.{number}", 6379 + number) for number in (1, 2, 3))


def change(address: Endpoint, epoch: int, master: str = "mymaster") -> MasterChange:
    """Return a change."""
    return MasterChange(master, address, None, epoch, "switch", instant(0), 1, "0" * 32)


def generate_key(path: Path) -> Path:
    """Write a key of the name that the zone accepts."""
    path.write_text(subprocess.check_output([find_program("tsig-keygen") or "tsig-keygen", "sentinels"], text=True))
    return path


class BindCase(SynchronousTestCase):
    """One server for all tests of a class; each test has a master of its own."""

    if find_program("named") is None:
        skip = "there is no named"

    named: ClassVar[NamedProcess]
    key_file: ClassVar[Path]

    @classmethod
    def setUpClass(cls) -> None:
        """Start the server."""
        super().setUpClass()
        cls.directory = tempfile.TemporaryDirectory()
        directory = Path(cls.directory.name)
        cls.key_file = generate_key(directory / "key")
        cls.named = NamedProcess(directory, ZONE, cls.key_file)
        cls.named.start()

    @classmethod
    def tearDownClass(cls) -> None:
        """Stop the server."""
        cls.named.stop()
        cls.directory.cleanup()
        super().tearDownClass()

    directory: ClassVar[tempfile.TemporaryDirectory[str]]

    def setUp(self) -> None:
        self.master = self.id().rpartition(".")[2].replace("_", "-")
        self.before_update: Callable[[], object] = lambda: None
        """Called once before the next update is sent."""

        self.publisher = self.new_publisher()

    def new_publisher(self, key_file: Path | None = None, zone: str = ZONE, lines: str = "") -> DnsPublisher:
        """Return the publisher of one Sentinel."""
        argument = f"127.0.0.1:{self.named.port};zone={zone};key-file={key_file or self.key_file};ttl=7{lines}"
        return DnsPublisher(read_settings(argument, []), self.send)

    def send(self, wire: bytes) -> Deferred[bytes]:
        """Send a message, and wait for the answer."""
        if dns.opcode.from_flags(struct.unpack("!H", wire[2:4])[0]) == dns.opcode.UPDATE:
            before, self.before_update = self.before_update, lambda: None
            before()
        try:
            with socket.create_connection(("127.0.0.1", self.named.port), 5) as connection:
                connection.sendall(struct.pack("!H", len(wire)) + wire)
                with connection.makefile("rb") as stream:
                    (length,) = struct.unpack("!H", stream.read(2))
                    return succeed(stream.read(length))
        except OSError as error:
            return fail(error)

    def publish(self, address: Endpoint, epoch: int, publisher: DnsPublisher | None = None) -> PublishOutcome:
        """Publish, and return how that ended."""
        done = (publisher or self.publisher).publish(change(address, epoch, self.master))
        result: Publication | None = self.successResultOf(done)
        return PublishOutcome.PUBLISHED if result is None else result.outcome

    def verified(self, publisher: DnsPublisher | None = None) -> bool:
        """Verify."""
        return bool(self.successResultOf((publisher or self.publisher).verify(self.master)))

    def ask(self, kind: str, prefix: str = "") -> list[str]:
        """Return the records of the master, as any client gets them."""
        name = f"{prefix}{self.master}.{ZONE}"
        answer = dns.query.udp(dns.message.make_query(name, kind, flags=0), "127.0.0.1", 5, self.named.port)
        for rrset in answer.answer:
            self.assertEqual(rrset.ttl, 7)
        return [each.to_text() for rrset in answer.answer for each in rrset]

    def records(self) -> tuple[list[str], list[str]]:
        """Return address and port."""
        return self.ask("A"), self.ask("SRV", "_redis._tcp.")

    def expected(self, address: Endpoint) -> tuple[list[str], list[str]]:
        """Return what :meth:`records` returns for an address."""
        return [address.host], [f"0 0 {address.port} {self.master}.{ZONE}."]


class EpochTests(BindCase):
    """Which of two changes stays."""

    def test_first(self) -> None:
        """The first change of a master is published; after that nothing is to be done."""
        self.assertFalse(self.verified())
        self.assertEqual(self.publish(FIRST, 1), PublishOutcome.PUBLISHED)
        self.assertEqual(self.records(), self.expected(FIRST))
        self.assertEqual(self.ask("TXT", "_txsentinel."), [f'"txsentinel epoch=1 address={FIRST}"'])
        self.assertEqual(self.publish(FIRST, 1), PublishOutcome.UNCHANGED)
        self.assertTrue(self.verified())

    def test_newer(self) -> None:
        """A newer change replaces an older one, whichever Sentinel has published that."""
        self.publish(FIRST, 1, self.new_publisher())
        self.assertEqual(self.publish(SECOND, 2), PublishOutcome.PUBLISHED)
        self.assertEqual(self.records(), self.expected(SECOND))

    def test_older(self) -> None:
        """An older change is not published, and is no reason to publish again."""
        self.publish(SECOND, 2, self.new_publisher())
        self.assertEqual(self.publish(FIRST, 1), PublishOutcome.OUTDATED)
        self.assertEqual(self.records(), self.expected(SECOND))
        self.assertTrue(self.verified())

    def test_conflict(self) -> None:
        """Of two addresses of one epoch the first stays."""
        self.publish(FIRST, 1, self.new_publisher())
        self.assertEqual(self.publish(SECOND, 1), PublishOutcome.CONFLICT)
        self.assertEqual(self.records(), self.expected(FIRST))

    def test_race_lost(self) -> None:
        """A newer change that is published between our question and our update is not replaced."""
        self.publish(FIRST, 1)
        other = self.new_publisher()
        self.before_update = lambda: self.publish(THIRD, 3, other)
        self.assertEqual(self.publish(SECOND, 2), PublishOutcome.OUTDATED)
        self.assertEqual(self.records(), self.expected(THIRD))

    def test_race_won(self) -> None:
        """An older one is."""
        other = self.new_publisher()
        self.before_update = lambda: self.publish(FIRST, 1, other)
        self.assertEqual(self.publish(SECOND, 2), PublishOutcome.PUBLISHED)
        self.assertEqual(self.records(), self.expected(SECOND))

    def test_removed_records(self) -> None:
        """Records that another program has removed or changed are found and restored."""
        self.publish(FIRST, 1)
        self.nsupdate(f"update delete {self.master}.{ZONE} A")
        self.assertFalse(self.verified())
        self.assertEqual(self.publish(FIRST, 1), PublishOutcome.PUBLISHED)
        self.nsupdate(f"update add _redis._tcp.{self.master}.{ZONE} 7 SRV 0 0 1 elsewhere.{ZONE}.")
        self.assertFalse(self.verified())
        self.assertEqual(self.publish(FIRST, 1), PublishOutcome.PUBLISHED)
        self.assertEqual(self.records(), self.expected(FIRST))

    def test_text_of_others(self) -> None:
        """A record of ours that another program has replaced by something else is left, which is an error."""
        self.nsupdate(f'update add _txsentinel.{self.master}.{ZONE} 7 TXT "v=spf1"')
        error = self.failureResultOf(self.publisher.publish(change(FIRST, 1, self.master)), DnsFailed)
        self.assertIn("not one of ours", str(error.value))

    def nsupdate(self, line: str) -> None:
        """Change the zone with the program of BIND."""
        script = f"server 127.0.0.1 {self.named.port}\nzone {ZONE}\n{line}\nsend\n"
        subprocess.run(
            [find_program("nsupdate") or "nsupdate", "-k", str(self.key_file)], input=script, text=True, check=True
        )


class AddressTests(BindCase):
    """Kinds of addresses."""

    def test_ipv6_and_names(self) -> None:
        """The record fits the address, and that of another kind is removed."""
        self.publish(Endpoint("2001:db8::1", 6379), 1)
        self.assertEqual((self.ask("AAAA"), self.ask("A")), (["2001:db8::1"], []))
        self.publish(Endpoint("redis-2.Internal.example", 6380), 2)
        self.assertEqual(self.ask("CNAME"), ["redis-2.Internal.example."])
        self.assertEqual(self.ask("SRV", "_redis._tcp."), ["0 0 6380 redis-2.Internal.example."])
        self.assertEqual(self.ask("AAAA"), ["redis-2.Internal.example."])
        self.assertTrue(self.verified())
        self.publish(THIRD, 3)
        self.assertEqual(self.records(), self.expected(THIRD))

    def test_set_name(self) -> None:
        """A master can have another name in the zone."""
        name = self.master
        settings = read_settings(f"127.0.0.1:{self.named.port};zone={ZONE};key-file={self.key_file};ttl=7", [])
        settings.names["My Master!"] = name
        self.master = "My Master!"
        self.assertEqual(self.publish(FIRST, 1, DnsPublisher(settings, self.send)), PublishOutcome.PUBLISHED)
        self.failureResultOf(self.publisher.publish(change(FIRST, 1, self.master)), ValueError)
        self.master = name
        self.assertEqual(self.records(), self.expected(FIRST))


class RefusalTests(BindCase):
    """What the server, or we, refuse."""

    def refused(self, publisher: DnsPublisher) -> str:
        """Return why nothing was published."""
        return str(self.failureResultOf(publisher.publish(change(FIRST, 1, self.master)), DnsFailed).value)

    def test_other_key(self) -> None:
        """A key that the server does not have is refused, with a reason without the key."""
        key = generate_key(Path(self.directory.name) / "other")
        reason = self.refused(self.new_publisher(key))
        self.assertIn("BadSignature", reason)
        self.assertNotIn(key.read_text().split('"')[3], reason)
        self.assertEqual(self.records(), ([], []))

    def test_other_zone(self) -> None:
        """A zone that the server does not have is named as the reason."""
        self.assertIn("REFUSED", self.refused(self.new_publisher(zone="other.example")))

    def test_new_key(self) -> None:
        """A key is replaced while the Sentinel runs."""
        settings = read_settings(f"127.0.0.1:{self.named.port};zone={ZONE};key-file={self.key_file};ttl=7", [])
        right = settings.key.value
        other = generate_key(Path(self.directory.name) / "third")
        settings.key.replace(read_settings(f"a;zone=b;key-file={other}", []).key.value)
        publisher = DnsPublisher(settings, self.send)
        self.refused(publisher)
        settings.key.replace(right)
        self.assertEqual(self.publish(FIRST, 1, publisher), PublishOutcome.PUBLISHED)

    def test_forged_answers(self) -> None:
        """An answer that is not signed, or was changed, is not believed."""
        send = self.send

        def unsigned(wire: bytes) -> Deferred[bytes]:
            answer = dns.message.make_response(dns.message.from_wire(wire, keyring=False), recursion_available=False)
            answer.flags |= dns.flags.AA
            return succeed(answer.to_wire())

        def changed(wire: bytes) -> Deferred[bytes]:
            answer = bytearray(self.successResultOf(send(wire)))
            answer[12 + 20] ^= 1
            return succeed(bytes(answer))

        settings = read_settings(f"127.0.0.1:{self.named.port};zone={ZONE};key-file={self.key_file}", [])
        self.assertIn("TSIG", self.refused(DnsPublisher(settings, unsigned)))
        self.assertIn("answer", self.refused(DnsPublisher(settings, changed)))
