"""The extension ``haproxy``: its settings, answers to agent checks, and commands over a runtime socket."""

# mypy: allow-untyped-calls
from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.fixture import START_MS, FakeView, healthy_master, three_masters
from txsentinel.extensions.haproxy.agent import IDLE_SECONDS, AgentAnswers, AgentFactory
from txsentinel.extensions.haproxy.runtime import HaproxyRefused, RuntimePublisher
from txsentinel.extensions.haproxy.settings import HaproxyServer, HaproxySettings, parse
from txsentinel.model.extension_settings import ExtensionSetting
from txsentinel.model.publications import Publication, PublishOutcome
from txsentinel.model.snapshots import Endpoint, Instant, MasterChange


class SettingTests(SynchronousTestCase):
    """Arguments and lines."""

    def test_accepted(self) -> None:
        """Agents listen on this machine by default; sockets are paths or addresses."""
        self.assertEqual(parse("tcp:8027", ()).agents, ("tcp:8027:interface=127.0.0.1",))
        lines = [
            ExtensionSetting("socket", ("/run/haproxy/admin.sock",)),
            ExtensionSetting("socket", ("[::1]:9999",)),
            ExtensionSetting("server", ("m", "redis/master")),
            ExtensionSetting("verify", ("10s",)),
        ]
        sockets = ("unix:/run/haproxy/admin.sock", "tcp:\\:\\:1:9999")
        servers = (HaproxyServer("m", "redis", "master"),)
        self.assertEqual(parse("", lines), HaproxySettings((), sockets, servers, 10.0))
        self.assertEqual(parse(";socket=./a;server=m b/s,n b/t", ()).sockets, (f"unix:{os.path.abspath('a')}",))

    def test_refused(self) -> None:
        """What is wrong is named."""
        for argument, problem in {
            "": "an endpoint for agent checks or a runtime socket is needed",
            "8027": "the endpoint '8027' is none of tcp, tcp6, ssl, unix and systemd",
            ";socket=/x": "a runtime socket needs servers",
            "tcp:1;server=m b/s": "a runtime socket needs servers, and they need a socket",
            ";socket=x": "socket must be the path of a Unix socket, or host:port, not 'x'",
            ";socket=/x;server=m": "server needs the name of a master, and BACKEND/SERVER",
            ";socket=/x;server=m b": "server must be BACKEND/SERVER as in the configuration of HAProxy, not 'b'",
            ";socket=/x;server=m b/s,n b/s": "the server 'b/s' is set twice",
            "tcp:1;x=1": "no such setting: 'x' (known: agent, socket, server, verify)",
        }.items():
            with self.subTest(argument=argument):
                error = self.assertRaises(ValueError, parse, argument, ())
                self.assertTrue(str(error).startswith(problem), error)


class AgentTests(SynchronousTestCase):
    """Agent checks."""

    def setUp(self) -> None:
        """Make a factory."""
        self.clock = Clock()
        self.answers = AgentAnswers(three_masters(), lambda: START_MS / 1000 + 60)
        self.factory = AgentFactory(self.clock, self.answers)

    def connect(self) -> tuple[Any, StringTransport]:
        """Connect."""
        protocol, transport = self.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1)), StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def test_answers(self) -> None:
        """The master is up; others are down, with the code of the health check. Replicas can be asked for."""
        for line, answer in {
            "mymaster 10.0.0.1:6379": "up ready",
            "mymaster 10.0.0.1": "up ready",
            "mymaster 10.0.0.2:6379": "down #not_master",
            "mymaster 10.0.0.2:6379 master": "down #not_master",
            "mymaster 10.0.0.2:6379 replica": "up ready",
            "mymaster 10.0.0.2:6379 replica lag=1MB": "up ready",
            "mymaster 10.0.0.3:6379 replica": "down #link_down",
            "mymaster 10.0.0.1:6379 replica": "down #not_replica",
            "sessions 10.0.1.1:6379": "down #odown",
            "queue [2001:db8::5]:6390": "down #isolated",
            "unknown 10.0.0.1:6379": "down #unknown_master",
            "mymaster": "down #expected: MASTER ADDRESS [replica [lag=SIZE]]",
            "mymaster x:y:z": "down #bad_request",
            "mymaster 10.0.0.2:6379 replica lag=x": "down #bad_request",
            "mymaster 10.0.0.2:6379 replica x": "down #expected: MASTER ADDRESS [replica [lag=SIZE]]",
        }.items():
            with self.subTest(line=line):
                self.assertEqual(self.answers.answer(line), answer)

    def test_parked(self) -> None:
        """A parked replica gets no new clients, and keeps those that it has."""
        master = healthy_master()
        parked = replace(master.replicas[0], fit=False, unfit_code="parked")
        answers = AgentAnswers(FakeView(replace(master, replicas=(parked,))), lambda: START_MS / 1000 + 60)
        self.assertEqual(answers.answer("mymaster 10.0.0.2:6379 replica"), "drain")
        self.assertEqual(answers.answer("mymaster 10.0.0.1:6379"), "up ready")

    def test_connection(self) -> None:
        """One line is answered, whatever parts it arrives in, and the connection is closed."""
        protocol, transport = self.connect()
        for part in (b"mymaster 10.0", b".0.1:6379\r", b"\n"):
            self.assertEqual(transport.value(), b"")
            protocol.dataReceived(part)
        self.assertEqual(transport.value(), b"up ready\n")
        self.assertTrue(transport.disconnecting)
        protocol.dataReceived(b"more\n")
        protocol.connectionLost()
        self.assertEqual(transport.value(), b"up ready\n")
        self.assertEqual((self.clock.getDelayedCalls(), self.factory.connections), ([], set()))

    def test_limits(self) -> None:
        """A line that is too long or does not end is no reason to keep a connection."""
        protocol, transport = self.connect()
        protocol.dataReceived(b"x" * 2000)
        self.assertTrue(transport.disconnected)
        protocol, transport = self.connect()
        self.clock.advance(IDLE_SECONDS)
        self.assertTrue(transport.disconnected)


class FakeSocket:
    """A runtime socket with one server; the texts are those of HAProxy 2.6.12."""

    def __init__(self) -> None:
        self.address = ("10.0.0.9", "6379")
        self.commands: list[str] = []
        self.lost = ""
        """The beginning of commands that are not answered."""

    def ask(self, command: str) -> Deferred[str]:
        """Answer a command."""
        self.commands.append(command)
        if self.lost and command.startswith(self.lost):
            return fail(OSError("lost"))
        words = command.split()
        if command.startswith("show servers state"):
            if words[3] != "b":
                return succeed("Can't find backend.")
            names = "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_port"
            return succeed(f"1\n{names}\n3 b 1 s {self.address[0]} 2 {self.address[1]}")
        if words[-1] != "b/s" and words[2] != "b/s":
            return succeed("No such server.")
        if words[0] == "shutdown":
            return succeed("")
        wanted = (words[4], words[6])
        if wanted == self.address:
            return succeed("no need to change the addr, no need to change the port by 'stats socket command'")
        before, self.address = self.address, wanted
        return succeed(f"IP changed from '{before[0]}' to '{wanted[0]}' by 'stats socket command'")


class RuntimeTests(SynchronousTestCase):
    """The runtime socket."""

    def setUp(self) -> None:
        """Make a publisher."""
        self.socket = FakeSocket()
        self.publisher = self.of("b/s")

    def of(self, server: str) -> RuntimePublisher:
        """Return the publisher of one server."""
        backend, _, name = server.partition("/")
        socket: Any = self.socket
        return RuntimePublisher(Clock(), socket, [HaproxyServer("m", backend, name)])

    def publish(self, publisher: RuntimePublisher, host: str) -> Deferred[Publication | None]:
        """Publish an address."""
        change = MasterChange("m", Endpoint(host, 6379), None, 1, "switch", Instant(0), 1, "")
        return publisher.publish(change)

    def test_switch(self) -> None:
        """The address is set, and the connections to the former server are closed, once."""
        self.assertIsNone(self.successResultOf(self.publish(self.publisher, "10.0.0.1")))
        self.assertEqual(
            self.socket.commands,
            ["set server b/s addr 10.0.0.1 port 6379", "shutdown sessions server b/s"],
        )
        result = self.successResultOf(self.publish(self.publisher, "10.0.0.1"))
        self.assertEqual(result, Publication(PublishOutcome.UNCHANGED))
        self.assertEqual(len(self.socket.commands), 3)

    def test_lost_answer(self) -> None:
        """If HAProxy ends between the two commands, the next attempt makes up for the second."""
        self.socket.lost = "shutdown"
        self.failureResultOf(self.publish(self.publisher, "10.0.0.1"), OSError)
        self.socket.lost = ""
        self.assertIsNone(self.successResultOf(self.publish(self.publisher, "10.0.0.1")))
        self.assertEqual(self.socket.commands[-1], "shutdown sessions server b/s")

    def test_verify(self) -> None:
        """An address that HAProxy has forgotten, as after a reload, is noticed."""
        self.successResultOf(self.publish(self.publisher, "10.0.0.1"))
        self.assertTrue(self.successResultOf(self.publisher.verify("m")))
        self.socket.address = ("10.0.0.9", "6379")
        self.assertFalse(self.successResultOf(self.publisher.verify("m")))

    def test_unknown_server(self) -> None:
        """A server that HAProxy does not have is an error with its name."""
        error = self.failureResultOf(self.publish(self.of("x/s"), "10.0.0.1"), HaproxyRefused).value
        self.assertEqual(str(error), "x/s: No such server.")
        error = self.failureResultOf(self.of("x/s").verify("m"), HaproxyRefused).value
        self.assertEqual(str(error), "Can't find backend.")

    def test_wanted(self) -> None:
        """Only masters with a server are published."""
        self.assertEqual([self.publisher.wanted(name) for name in ("m", "n")], [True, False])
        self.assertEqual(FakeView().names(), ())
