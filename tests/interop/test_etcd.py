"""The extension ``etcd`` with a real etcd: fenced switches, restarts, logins, TLS, and leases of replicas."""

# mypy: allow-untyped-calls
from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.extensions.fixture import FakeView, healthy_master, replica
from tests.interop.reactor_cleanup import close_connections_of
from tests.tls.authority import Authority, Issued
from txsentinel.demo.other_programs import EtcdProcess, find_program
from txsentinel.extensions.certificate_policy import CertificatePolicy, authorities, identity
from txsentinel.extensions.etcd import service as etcd_service
from txsentinel.extensions.etcd.client import EtcdClient
from txsentinel.extensions.etcd.following import EtcdFollower
from txsentinel.extensions.etcd.service import TIMEOUT, etcd_services
from txsentinel.extensions.etcd.settings import EtcdSettings
from txsentinel.extensions.http_client import RequestClient
from txsentinel.extensions.secret_file import SecretFile
from txsentinel.model.snapshots import Endpoint

SECONDS = 60.0
BASE = "/txsentinel/mymaster/"


class Publishing:
    """A Sentinel with the extension, of which only the view is fake."""

    def __init__(self, client: EtcdClient, settings: EtcdSettings) -> None:
        self.view = FakeView(healthy_master())
        self.service = etcd_services(reactor, self.view, client, settings)
        self.service.startService()

    def move(self, host: str, epoch: int, announced: bool = False) -> None:
        """Move the master; with ``announced`` another Sentinel has made the switch."""
        if announced:
            self.view.publish("+config-update-from", "sentinel ...", "mymaster")
        self.view.put(
            replace(self.view.master("mymaster"), address=Endpoint(host, 6379), config_epoch=epoch, replicas=())
        )

    def outcomes(self) -> dict[str, int]:
        """Return the outcomes that have occurred."""
        (state,) = self.view.publishers.states()
        return {word: count for word, count in state.outcomes.items() if count}

    def pending(self) -> int:
        """Return how many changes are not published."""
        return sum(each.pending for each in self.view.publishers.states())


class EtcdCase(TestCase):
    """The base: an etcd, and Sentinels that publish in it."""

    if not find_program("etcd") or not find_program("etcdctl"):
        skip = "not on this machine: etcd, etcdctl"

    timeout = 300

    def setUp(self) -> None:
        """Make a directory."""
        self.views: list[FakeView] = []
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        close_connections_of(self)

    def start(self, **tls: Any) -> EtcdProcess:
        """Start etcd."""
        etcd = EtcdProcess(self.directory / "etcd", tls=tls)
        self.addCleanup(etcd.stop)
        etcd.start()
        return etcd

    def sentinel(self, client: EtcdClient, **settings: Any) -> Publishing:
        """Start a Sentinel, which follows others sooner than usual."""
        self.patch(etcd_service, "FOLLOWER_DELAY", (0.1, 0.2))
        sentinel = Publishing(client, EtcdSettings(**settings))
        self.views.append(sentinel.view)
        self.addCleanup(self.stop, sentinel)
        return sentinel

    def stop(self, sentinel: Publishing) -> None:
        """Stop a Sentinel if it runs."""
        if sentinel.service.running:
            sentinel.service.stopService()

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            if time.monotonic() > deadline:
                warnings = [view.publishers.warnings("mymaster") for view in self.views]
                self.fail(f"waited in vain for {what}: {warnings}")
            await deferLater(reactor, 0.02)


class SwitchTests(EtcdCase):
    """Switches of two Sentinels."""

    def test_switches(self) -> Deferred[None]:
        """Each switch is seen once, older epochs change nothing, conflicts are reported, and a restart is survived."""
        return ensureDeferred(self.switches())

    async def switches(self) -> None:
        """See ``test_switches``."""
        etcd = self.start()
        seen = self.watch(etcd, f"{BASE}master")
        one, two = (self.sentinel(EtcdClient(self.requests(), [etcd.endpoint]), lease=0.0) for _ in range(2))
        await self.until(lambda: not one.pending() and not two.pending(), "the first address")
        self.assertEqual(sorted([*one.outcomes(), *two.outcomes()]), ["published", "unchanged"])
        found = etcd.values(BASE)
        self.assertEqual(found[f"{BASE}master"], "10.0.0.1:6379")
        self.assertEqual(found[f"{BASE}epoch"], "00000000000000000007")
        document = json.loads(found[f"{BASE}json"])
        self.assertEqual((document["host"], document["config_epoch"], document["kind"]), ("10.0.0.1", 7, "initial"))

        # Epochs arrive in the wrong order.
        one.move("10.0.0.3", 9)
        await self.until(lambda: not one.pending(), "epoch 9")
        two.move("10.0.0.2", 8)
        await self.until(lambda: not two.pending(), "epoch 8")
        self.assertEqual(two.outcomes().get("outdated"), 1)
        two.move("10.0.0.3", 9, announced=True)
        await self.until(lambda: not two.pending(), "epoch 9 of the other Sentinel")

        # Two addresses with one epoch.
        two.move("10.0.0.4", 9)
        await self.until(lambda: two.outcomes().get("conflict"), "the conflict")
        (warning,) = two.view.publishers.warnings("mymaster")
        self.assertIn("refuses the address 10.0.0.4:6379 with config epoch 9", warning)
        self.assertIn(f"{BASE}json has 10.0.0.3:6379 with the same epoch", warning)
        self.assertEqual(etcd.values(BASE)[f"{BASE}master"], "10.0.0.3:6379")

        # etcd is not there while the master moves.
        etcd.kill()
        one.move("10.0.0.5", 10)
        await self.until(lambda: one.outcomes().get("failed"), "a failure")
        self.assertIn("refused", one.view.publishers.warnings("mymaster")[0])
        etcd.start()
        await self.until(lambda: not one.pending(), "the publication after the restart")
        two.move("10.0.0.5", 10, announced=True)
        await self.until(lambda: not two.pending(), "the other Sentinel")
        self.assertEqual(etcd.values(BASE)[f"{BASE}master"], "10.0.0.5:6379")

        addresses = ["10.0.0.1:6379", "10.0.0.3:6379", "10.0.0.5:6379"]
        await self.until(lambda: len(seen()) >= len(addresses), "all switches at the watcher")
        self.assertEqual(seen(), addresses)

    def requests(self) -> RequestClient:
        """Return what sends requests."""
        return RequestClient(reactor, TIMEOUT)

    def watch(self, etcd: EtcdProcess, key: str) -> Callable[[], list[str]]:
        """Watch a key by ``etcdctl``, over restarts; return a function that returns its values so far."""
        path = self.directory / "watched"
        output = path.open("wb")
        self.addCleanup(output.close)
        process = subprocess.Popen(
            etcd.control_command("watch", "--rev=1", key), stdout=output, stderr=subprocess.DEVNULL
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return lambda: [line for line in path.read_text().splitlines() if line not in ("PUT", key)]

    def test_repair(self) -> Deferred[None]:
        """Keys that were deleted or changed are restored at the next check."""
        return ensureDeferred(self.repair())

    async def repair(self) -> None:
        """See ``test_repair``."""
        etcd = self.start()
        client = EtcdClient(self.requests(), ["http://127.0.0.1:9", etcd.endpoint])
        sentinel = self.sentinel(client, lease=0.0, verify=0.2, confd=True)
        await self.until(lambda: not sentinel.pending(), "the first address")
        servers = "/services/redis/mymaster/10.0.0.1:6379/"
        written = {f"{servers}ip": "10.0.0.1", f"{servers}port": "6379", f"{servers}role": "master"}
        self.assertEqual(etcd.values("/services/"), written)
        for words in (("put", f"{BASE}master", "x"), ("del", "--prefix", BASE), ("del", f"{servers}role")):
            etcd.control(*words)
            await self.until(
                lambda: {**written, f"{BASE}master": "10.0.0.1:6379"}.items() <= etcd.values("/").items(), str(words)
            )
        sentinel.move("10.0.0.2", 8)
        await self.until(lambda: not sentinel.pending(), "the switch")
        keys = etcd.values("/services/")
        self.assertEqual({key for key in keys if key.startswith(servers)}, set())
        self.assertEqual(keys["/services/redis/mymaster/10.0.0.2:6379/role"], "master")


class LeaseTests(EtcdCase):
    """The keys of replicas."""

    def test_leases(self) -> Deferred[None]:
        """Usable replicas have keys; another Sentinel takes over those of one that ended, without a gap."""
        return ensureDeferred(self.leases())

    async def leases(self) -> None:
        """See ``test_leases``."""
        etcd = self.start()

        def client() -> EtcdClient:
            return EtcdClient(RequestClient(reactor, TIMEOUT), [etcd.endpoint])

        key = f"{BASE}replicas/10.0.0.2:6379"
        role = "/services/redis/mymaster/10.0.0.2:6379/role"

        def owner() -> str:
            """Return the lease of the key; empty if there is no such key."""
            found = json.loads(etcd.control("get", key, "--write-out=json")).get("kvs") or [{}]
            return str(found[0].get("lease", ""))

        one = self.sentinel(client(), lease=4.0, confd=True)
        await self.until(owner, "the replica")
        # The other replica of the fixture has no link to its master.
        self.assertEqual(sum("/replicas/" in each for each in etcd.values(BASE)), 1)
        await self.until(lambda: etcd.values(role) == {role: "replica"}, "the key of its role")
        two = self.sentinel(client(), lease=4.0, confd=True)
        first, owners = owner(), set()
        one.service.stopService()

        def taken_over() -> bool:
            owners.add(owner())
            return len(owners) > 1

        await self.until(taken_over, "another owner")
        self.assertIn(first, owners)
        self.assertNotIn("", owners)
        master = two.view.master("mymaster")
        two.view.put(replace(master, replicas=(replica("10.0.0.9", master=master.address),)))
        await self.until(lambda: f"{BASE}replicas/10.0.0.9:6379" in etcd.values(BASE), "the new replica")
        await self.until(lambda: key not in etcd.values(BASE), "the end of the old one")
        await self.until(lambda: not etcd.values(role), "the end of the key of its role")


class LoginTests(EtcdCase):
    """An etcd that demands certificates and a login."""

    def test_login(self) -> Deferred[None]:
        """With certificate and password it is used, also after a restart, which ends all tokens; without, it is not."""
        return ensureDeferred(self.login())

    async def login(self) -> None:
        """See ``test_login``."""
        authority = Authority(self.directory / "certificates")
        # Of clients of the gateway, etcd accepts only certificates without a common name.
        server, own, named = (
            authority.issue("", file="server"),
            authority.issue("", file="own"),
            authority.issue("named"),
        )
        etcd = self.start(
            **{
                "cert-file": server.certificate,
                "key-file": server.key,
                "trusted-ca-file": authority.certificate,
                "client-cert-auth": "true",
            }
        )
        etcd.control_options += [f"--cacert={authority.certificate}", f"--cert={own.certificate}", f"--key={own.key}"]
        for words in ("role add publisher", "role grant-permission publisher readwrite --prefix=true /txsentinel/"):
            etcd.control(*words.split())
        for user, role in (("root", "root"), ("txsentinel", "publisher")):
            etcd.control("user", "add", f"{user}:secret")
            etcd.control("user", "grant-role", user, role)
        etcd.control("auth", "enable")
        etcd.control_options.append("--user=root:secret")

        trusted = SecretFile(str(authority.certificate), authorities)

        def client(issued: Issued | None, password: str = "secret") -> EtcdClient:
            own_file = None
            if issued is not None:
                combined = self.directory / "combined.pem"
                combined.write_bytes(issued.certificate.read_bytes() + issued.key.read_bytes())
                own_file = SecretFile(str(combined), identity)
            requests = RequestClient(reactor, TIMEOUT, policy=CertificatePolicy(trusted, own_file))
            return EtcdClient(requests, [etcd.endpoint], user="txsentinel", password=lambda: password)

        good = self.sentinel(client(own), lease=0.0)
        await self.until(lambda: not good.pending(), "the first address")
        etcd.stop()
        etcd.start()
        good.move("10.0.0.2", 8)
        await self.until(lambda: not good.pending(), "the switch after the restart")
        self.assertEqual(etcd.values(BASE)[f"{BASE}master"], "10.0.0.2:6379")
        for refused, problem in (
            (client(None), "certificate"),
            (client(named), "CommonName"),
            (client(own, "wrong"), "authentication failed"),
        ):
            await self.refused(self.sentinel(refused, lease=0.0), problem)

    async def refused(self, sentinel: Publishing, problem: str) -> None:
        """Wait for a failure, which must be explained."""
        await self.until(lambda: sentinel.outcomes().get("failed"), problem)
        self.assertIn(problem, sentinel.view.publishers.warnings("mymaster")[0])


class FollowTests(EtcdCase):
    """Programs that follow the keys, and need no Sentinel."""

    def test_follow(self) -> Deferred[None]:
        """A switch is seen at once, also one while etcd was down; keys that are lost change nothing."""
        return ensureDeferred(self.follow())

    async def follow(self) -> None:
        """See ``test_follow``."""
        etcd = self.start()
        client = EtcdClient(RequestClient(reactor, TIMEOUT), ["http://127.0.0.1:9", etcd.endpoint])
        seen: list[str] = []

        def changed() -> None:
            seen.append(" ".join(f"{each.name} {each.address}" for each in follower.masters))

        follower = EtcdFollower(reactor, client, EtcdSettings(), changed)
        follower.startService()
        self.addCleanup(follower.stopService)
        await self.until(lambda: seen == [""], "the first look")
        sentinel = self.sentinel(EtcdClient(RequestClient(reactor, TIMEOUT), [etcd.endpoint]), lease=0.0, verify=0.5)
        await self.until(lambda: len(seen) == 2, "the first address")
        etcd.control("del", "--prefix", "/txsentinel/")
        await self.until(lambda: f"{BASE}master" in etcd.values(BASE), "the keys again")
        etcd.kill()
        sentinel.move("10.0.0.2", 8)
        etcd.start()
        await self.until(lambda: len(seen) == 3, "the switch")
        # What was compacted cannot be watched any more.
        revision = json.loads(etcd.control("get", "x", "--write-out=json"))["header"]["revision"]
        etcd.control("compaction", str(revision))
        sentinel.move("10.0.0.3", 9)
        await self.until(lambda: len(seen) == 4, "the next switch")
        addresses = [f"mymaster 10.0.0.{number}:6379" for number in (1, 2, 3)]
        self.assertEqual(seen, ["", *addresses])
