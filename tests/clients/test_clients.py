"""Client libraries find, follow and leave masters by our Sentinels as they do by the C ones."""

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

SERVER_PASSWORD, SENTINEL_PASSWORD = "data secret", "door secret"
DEFAULT, AUTH_USER_PASSWORD, PEER, APPLICATION = "default-secret", "watcher-secret", "peer-secret", "application-secret"

RULES = (
    "allchannels -@all +multi +exec +ping +info +role +publish +subscribe +slaveof +config|rewrite +client|setname"
    " +client|kill +client|pause +client|unpause +failover +script|kill"
)
"""What Sentinels need of a server, and not a command more."""

READER = (
    "resetchannels &+switch-master &+slave &+sentinel &+slave-reconf-done &switch-master &[-+]sdown &[-+]odown -@all"
    " +auth +hello +ping +info +client|setname +client|setinfo +subscribe +psubscribe +unsubscribe +punsubscribe"
    " +sentinel|get-master-addr-by-name +sentinel|masters +sentinel|master +sentinel|replicas +sentinel|slaves"
    " +sentinel|sentinels"
)
"""What applications need of a Sentinel: what any of the clients here asks for."""


class ClientTests:
    """
    What each client does: it finds the master and its replicas, writes, reads that from a replica, subscribes to
    ``+switch-master``, hears of it as the master is killed, writes to the new one, and reads that from the replica
    that is left.
    """

    kind = "txsentinel"
    servers = "redis"
    encrypted = False
    fixture: ClassVar[Fixture]

    @classmethod
    def harness(cls) -> Harness:
        """Where the installation is made."""
        return Harness()

    @classmethod
    def fleet(cls, harness: Harness) -> Fleet:
        """The installation, not yet started."""
        return Fleet(harness, [cls.kind] * 3, cls.servers, down_after=1500, failover_timeout=10_000)

    @classmethod
    def plan(cls) -> dict[str, Any]:
        """What all clients are told."""
        return {}

    @classmethod
    def setUpClass(cls) -> None:
        """All clients play at once: most of the time goes into starting them, and into the failover."""
        if missing(cls.kind, cls.servers):
            raise SkipTest(missing(cls.kind, cls.servers))
        with ExitStack() as stack:
            harness = stack.enter_context(cls.harness())
            fleet = cls.fleet(harness)
            fleet.start()
            cls.fixture = Fixture(stack, fleet, harness.directory, cls.plan(), cls.encrypted)
            cls.fixture.run()

    def check(self: Any, name: str) -> None:
        """Read the reports of a client, one for each version of the protocol that it was run with."""
        client = CLIENTS[name]
        if client.missing():
            raise SkipTest(client.missing())
        if self.encrypted and not client.encrypts:
            raise SkipTest(f"{name} cannot reach servers by TLS that it has found by Sentinels")
        for protocol in self.fixture.protocols(client):
            self.check_run(self.fixture.runs[name, protocol])

    def check_run(self: Any, run: Run) -> None:
        """Read one report."""
        report, fixture = run.report, self.fixture
        details = f"{run.key} exited {run.process.returncode}, reported {report} and said:\n{run.stderr}"
        self.assertEqual(run.process.returncode, 0, details)
        self.assertEqual(report["found"]["master"], fixture.old, details)
        self.assertEqual(
            report["event"]["payload"], f"{fixture.fleet.name} 127.0.0.1 {fixture.old} 127.0.0.1 {fixture.new}", details
        )
        self.assertEqual(report["wrote"]["port"], fixture.new, details)
        self.assertEqual(report["wrote"]["value"], run.kept, details)
        if run.client.reads:
            self.assertEqual(report["found"]["replicas"], fixture.replicas, details)
            self.assertIn(report["read"]["port"], fixture.replicas, details)
            self.assertIn(report["read again"]["port"], set(fixture.replicas) - {fixture.new}, details)
        if run.client.names_itself:
            self.assertEqual(run.protocols_seen, {run.protocol}, details)

    def test_redis_py(self) -> None:
        """redis-py asks for all masters and flags, and asks again with each connection."""
        self.check("redis-py")

    def test_redis_py_asyncio(self) -> None:
        """So does its asyncio form."""
        self.check("redis-py asyncio")

    def test_valkey_py(self) -> None:
        """valkey-py does as redis-py did when it was made from it."""
        self.check("valkey-py")

    def test_valkey_py_asyncio(self) -> None:
        """So does its asyncio form."""
        self.check("valkey-py asyncio")

    def test_coredis(self) -> None:
        """coredis insists on RESP3 and its maps."""
        self.check("coredis")

    def test_txredisapi(self) -> None:
        """txredisapi asks all Sentinels at once, and the server for its role."""
        self.check("txredisapi")

    def test_master_follower(self) -> None:
        """Our own follower moves as the first Sentinel announces it."""
        self.check("MasterFollower")

    def test_ioredis(self) -> None:
        """ioredis asks and leaves, and its detector reconnects on what it hears."""
        self.check("ioredis")

    def test_iovalkey(self) -> None:
        """iovalkey does as ioredis 5 did when it was made from it."""
        self.check("iovalkey")

    def test_node_redis(self) -> None:
        """node-redis watches events of replicas and Sentinels, and compares epochs."""
        self.check("node-redis")

    def test_redis_cli(self) -> None:
        """Shell scripts ask by redis-cli, and leave one subscribed."""
        self.check("redis-cli")


class OpenTests(ClientTests, SynchronousTestCase):
    """Redis servers and Sentinels that are open to everybody."""


class PasswordTests(ClientTests, SynchronousTestCase):
    """Valkey servers with one password, Sentinels with another."""

    servers = "valkey"

    @classmethod
    def fleet(cls, harness: Harness) -> Fleet:
        """Everything has a password."""
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
        """The passwords."""
        return {"password": SERVER_PASSWORD, "sentinel_password": SENTINEL_PASSWORD}


class UserTests(ClientTests, SynchronousTestCase):
    """Users wherever there can be: applications and Sentinels on the servers, and both on the Sentinels."""

    @classmethod
    def fleet(cls, harness: Harness) -> Fleet:
        """The default users keep to replication and to the test."""
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
                "sentinel auth-user mymaster watcher",
                f"sentinel auth-pass mymaster {AUTH_USER_PASSWORD}",
            ],
        )
        for server in fleet.servers.values():
            server.password = DEFAULT
            server.extra += [
                f"user watcher on >{AUTH_USER_PASSWORD} {RULES}",
                f"user application on >{APPLICATION} allkeys +@all -@dangerous +info +role",
            ]
        for sentinel in fleet.sentinels:
            sentinel.call = partial(call, sentinel.port, password=DEFAULT)  # type: ignore[method-assign]
        return fleet

    def test_nothing_refused(self) -> None:
        """The applications' user has all the rights on Sentinels that any of them makes use of."""
        self.assertEqual(self.fixture.refused, [])  # type: ignore[no-untyped-call]

    def test_documented(self) -> None:
        """The rights that were enough are those that the documentation names."""
        words = (ROOT / "docs" / "compatibility.rst").read_text(encoding="utf-8").split()
        self.assertIn(READER, " ".join(words))  # type: ignore[no-untyped-call]

    @classmethod
    def plan(cls) -> dict[str, Any]:
        """One user name and password for everything."""
        return {
            "user": "application",
            "password": APPLICATION,
            "sentinel_user": "application",
            "sentinel_password": APPLICATION,
        }


class EncryptedTests(ClientTests, SynchronousTestCase):
    """Nothing but TLS, with certificates on both sides."""

    encrypted = True
    secured: ClassVar[Any]

    @classmethod
    def harness(cls) -> Harness:
        """Its servers and Sentinels have TLS ports only."""
        if find_spec("cryptography") is None:
            raise SkipTest("cryptography is not installed")
        from tests.tls.installation import TlsBench
        from tests.tls.test_with_real_binaries import needs_tls

        needs_tls("redis-cli", "--help")
        harness = cls.secured = TlsBench()
        return harness

    @classmethod
    def plan(cls) -> dict[str, Any]:
        """Whom to trust, and who to be."""
        issued = cls.secured.authority.issue("application")
        return {
            "authority": str(cls.secured.authority.certificate),
            "certificate": str(issued.certificate),
            "private_key": str(issued.key),
        }
