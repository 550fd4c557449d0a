"""Client libraries find, follow and leave masters with Sentinels of ours as with C Sentinels."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from typing import Any, ClassVar
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.clients.fixture import ROOT, Fixture, Run
from tests.clients.library import CLIENTS
from tests.servers import Fleet, Harness, call, missing

SERVER_PASSWORD, SENTINEL_PASSWORD = "data secret", "other secret"
DEFAULT, AUTH_USER_PASSWORD, PEER, APPLICATION = (
    "default-secret",
    "monitor-secret",
    "peer-secret",
    "application-secret",
)

RULES = (
    "allchannels -@all +multi +exec +ping +info +role +publish +subscribe +slaveof +config|rewrite +client|setname"
    " +client|kill +client|pause +client|unpause +failover +script|kill"
)
"""The commands that Sentinels need on a server."""

READER = (
    "resetchannels &+switch-master &+slave &+sentinel &+slave-reconf-done &switch-master &[-+]sdown &[-+]odown -@all"
    " +auth +hello +ping +info +client|setname +client|setinfo +subscribe +psubscribe +unsubscribe +punsubscribe"
    " +sentinel|get-master-addr-by-name +sentinel|masters +sentinel|master +sentinel|replicas +sentinel|slaves"
    " +sentinel|sentinels"
)
"""The commands that applications need on a Sentinel: all that any of these clients uses."""


class ClientTests:
    """
    Tests of each client: it finds the master and its replicas, writes, reads the value from a replica, subscribes to
    ``+switch-master``, receives the event when the master is killed, writes to the new master, and reads that value
    from the remaining replica.
    """

    kind = "txsentinel"
    servers = "redis"
    encrypted = False
    fixture: ClassVar[Fixture]

    @classmethod
    def harness(cls) -> Harness:
        """Return the harness of the installation."""
        return Harness()

    @classmethod
    def fleet(cls, harness: Harness) -> Fleet:
        """Return the installation, not yet started."""
        return Fleet(harness, [cls.kind] * 3, cls.servers, down_after=1500, failover_timeout=10_000)

    @classmethod
    def plan(cls) -> dict[str, Any]:
        """Return the common part of the clients' plans."""
        return {}

    @classmethod
    def setUpClass(cls) -> None:
        """Run all clients at once: most of the time is spent on starting them, and on the failover."""
        if missing(cls.kind, cls.servers):
            raise SkipTest(missing(cls.kind, cls.servers))
        with ExitStack() as stack:
            harness = stack.enter_context(cls.harness())
            fleet = cls.fleet(harness)
            fleet.start()
            cls.fixture = Fixture(stack, fleet, harness.directory, cls.plan(), cls.encrypted)
            cls.fixture.run()

    def check(self: Any, name: str) -> None:
        """Check the reports of a client, one for each protocol version that it was run with."""
        client = CLIENTS[name]
        if client.missing():
            raise SkipTest(client.missing())
        if self.encrypted and not client.encrypts:
            raise SkipTest(f"{name} cannot reach servers by TLS that it has found by Sentinels")
        for protocol in self.fixture.protocols(client):
            self.check_run(self.fixture.runs[name, protocol])

    def check_run(self: Any, run: Run) -> None:
        """Check one report."""
        report, fixture = run.report, self.fixture
        details = f"{run.key} exited {run.process.returncode}, reported {report}; standard error:\n{run.stderr}"
        self.assertEqual(run.process.returncode, 0, details)
        self.assertEqual(report["found"]["master"], fixture.old, details)
        self.assertEqual(
            report["event"]["payload"], f"{fixture.fleet.name} 127.0.0.1 {fixture.old} 127.0.0.1 {fixture.new}", details
        )
        self.assertEqual(report["wrote"]["port"], fixture.new, details)
        self.assertEqual(report["wrote"]["value"], run.stored, details)
        if run.client.reads:
            self.assertEqual(report["found"]["replicas"], fixture.replicas, details)
            self.assertIn(report["read"]["port"], fixture.replicas, details)
            self.assertIn(report["read again"]["port"], set(fixture.replicas) - {fixture.new}, details)
        if run.client.names_itself:
            self.assertEqual(run.protocols_seen, {run.protocol}, details)

    def test_redis_py(self) -> None:
        """redis-py queries all masters with their flags, again for each connection."""
        self.check("redis-py")

    def test_redis_py_asyncio(self) -> None:
        """The asyncio variant of redis-py does so as well."""
        self.check("redis-py asyncio")

    def test_valkey_py(self) -> None:
        """valkey-py behaves like the redis-py that it was forked from."""
        self.check("valkey-py")

    def test_valkey_py_asyncio(self) -> None:
        """The asyncio variant of valkey-py does so as well."""
        self.check("valkey-py asyncio")

    def test_coredis(self) -> None:
        """coredis requires RESP3 and its maps."""
        self.check("coredis")

    def test_txredisapi(self) -> None:
        """txredisapi queries all Sentinels at once, and the server for its role."""
        self.check("txredisapi")

    def test_master_follower(self) -> None:
        """``MasterFollower`` moves when the first Sentinel announces the switch."""
        self.check("MasterFollower")

    def test_ioredis(self) -> None:
        """ioredis disconnects after its query; its failover detector reconnects on an event."""
        self.check("ioredis")

    def test_iovalkey(self) -> None:
        """iovalkey behaves like the ioredis 5 that it was forked from."""
        self.check("iovalkey")

    def test_node_redis(self) -> None:
        """node-redis watches events of replicas and Sentinels, and compares epochs."""
        self.check("node-redis")

    def test_redis_cli(self) -> None:
        """Shell scripts query with redis-cli, and keep one subscribed."""
        self.check("redis-cli")


class OpenTests(ClientTests, SynchronousTestCase):
    """Redis servers and Sentinels without passwords."""


class PasswordTests(ClientTests, SynchronousTestCase):
    """Valkey servers with one password, Sentinels with another."""

    servers = "valkey"

    @classmethod
    def fleet(cls, harness: Harness) -> Fleet:
        """Set passwords everywhere."""
        return Fleet(
            harness,
            [cls.kind] * 3,
            cls.servers,
            down_after=1500,
            failover_timeout=10_000,
            password=SERVER_PASSWORD,
            sentinel_password=SENTINEL_PASSWORD,
        )

    @classmethod
    def plan(cls) -> dict[str, Any]:
        """Return the passwords."""
        return {"password": SERVER_PASSWORD, "sentinel_password": SENTINEL_PASSWORD}


class UserTests(ClientTests, SynchronousTestCase):
    """Users everywhere: applications and Sentinels on the servers, and both on the Sentinels."""

    @classmethod
    def fleet(cls, harness: Harness) -> Fleet:
        """Keep the default users for replication and for the test."""
        fleet = Fleet(
            harness,
            [cls.kind] * 3,
            cls.servers,
            down_after=1500,
            failover_timeout=10_000,
            extra=[
                f"requirepass {DEFAULT}",
                f"user application on >{APPLICATION} {READER}",
                f"user peer on >{PEER} allchannels +@all",
                "sentinel sentinel-user peer",
                f"sentinel sentinel-pass {PEER}",
                "sentinel auth-user mymaster sentinel-user",
                f"sentinel auth-pass mymaster {AUTH_USER_PASSWORD}",
            ],
        )
        for server in fleet.servers.values():
            server.password = DEFAULT
            server.extra += [
                f"user sentinel-user on >{AUTH_USER_PASSWORD} {RULES}",
                f"user application on >{APPLICATION} allkeys +@all -@dangerous +info +role",
            ]
        for sentinel in fleet.sentinels:
            sentinel.call = partial(call, sentinel.port, password=DEFAULT)  # type: ignore[method-assign]
        return fleet

    def test_nothing_refused(self) -> None:
        """The applications' user has all the rights on Sentinels that the clients use."""
        self.assertEqual(self.fixture.refused, [])

    def test_documented(self) -> None:
        """The documentation lists the rights that were used here."""
        words = (ROOT / "docs" / "compatibility.rst").read_text(encoding="utf-8").split()
        self.assertIn(READER, " ".join(words))

    @classmethod
    def plan(cls) -> dict[str, Any]:
        """Return one user name and password for everything."""
        return {
            "user": "application",
            "password": APPLICATION,
            "sentinel_user": "application",
            "sentinel_password": APPLICATION,
        }


class EncryptedTests(ClientTests, SynchronousTestCase):
    """Only TLS, with certificates on both sides."""

    encrypted = True
    secured: ClassVar[Any]

    @classmethod
    def harness(cls) -> Harness:
        """Return a harness whose servers and Sentinels have TLS ports only."""
        if find_spec("cryptography") is None:
            raise SkipTest("cryptography is not installed")
        from tests.tls.installation import TlsHarness
        from tests.tls.test_with_real_binaries import needs_tls

        needs_tls("redis-cli", "--help")
        harness = cls.secured = TlsHarness()
        return harness

    @classmethod
    def plan(cls) -> dict[str, Any]:
        """Return the certificates."""
        issued = cls.secured.authority.issue("application")
        return {
            "authority": str(cls.secured.authority.certificate),
            "certificate": str(issued.certificate),
            "private_key": str(issued.key),
        }
