"""The extension ``consul`` over HTTP, with a server that is written from the documentation of Consul."""

# mypy: allow-untyped-calls
from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.request import Request, urlopen

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from examples.consul.fake_consul import FakeConsul
from tests.extensions.fixture import FakeView, healthy_master, replica
from tests.interop.reactor_cleanup import close_connections_of
from txsentinel.extensions.consul import service as consul_service
from txsentinel.extensions.consul.client import ConsulClient
from txsentinel.extensions.consul.service import TIMEOUT, consul_services
from txsentinel.extensions.consul.settings import ConsulSettings
from txsentinel.extensions.http_client import RequestClient
from txsentinel.model.snapshots import Endpoint

SECONDS = 60.0
KEY = "txsentinel/mymaster"


class ConsulTests(TestCase):
    """A server, and Sentinels of which only the views are fake."""

    timeout = 300

    def setUp(self) -> None:
        """Start the server."""
        self.patch(consul_service, "FOLLOWER_DELAY", (0.05, 0.1))
        self.consul = FakeConsul("secret")
        self.addCleanup(self.consul.close)
        close_connections_of(self)

    def sentinel(self, token: str = "secret", **settings: Any) -> FakeView:
        """Start a Sentinel, whose first endpoint cannot be reached."""
        view = FakeView(healthy_master())
        endpoints = ["http://127.0.0.1:9", self.consul.endpoint]
        client = ConsulClient(RequestClient(reactor, TIMEOUT), endpoints, token=lambda: token)
        service = consul_services(reactor, view, client, ConsulSettings(tuple(endpoints), **settings))
        service.startService()
        self.addCleanup(service.stopService)
        return view

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            if time.monotonic() > deadline:
                self.fail(f"waited in vain for {what}")
            await deferLater(reactor, 0.01)

    async def published(self, view: FakeView) -> None:
        """Wait until a Sentinel has nothing left to publish."""
        await self.until(lambda: not sum(each.pending for each in view.publishers.states()), "a publication")

    def move(self, view: FakeView, host: str, epoch: int) -> None:
        """Move the master, which has no replicas then."""
        view.put(replace(view.master("mymaster"), address=Endpoint(host, 6379), config_epoch=epoch, replicas=()))

    def stored(self) -> tuple[str, int]:
        """Return address and epoch of the key."""
        document = json.loads(self.consul.state.keys[KEY].value)
        return document["address"], document["config_epoch"]

    def outcomes(self, view: FakeView) -> dict[str, int]:
        """Return the outcomes that have occurred."""
        (state,) = view.publishers.states()
        return {word: count for word, count in state.outcomes.items() if count}

    def test_switches(self) -> Deferred[None]:
        """Each switch is written once, older epochs change nothing, and a failure of the server is survived."""
        return ensureDeferred(self.switches())

    async def switches(self) -> None:
        """See ``test_switches``."""
        view, other = self.sentinel(), self.sentinel()
        await self.published(view)
        await self.published(other)
        self.assertEqual(self.stored(), ("10.0.0.1:6379", 7))
        self.assertEqual({**self.outcomes(view), **self.outcomes(other)}.keys(), {"published", "unchanged"})
        index = self.consul.state.index
        waiting = deferToThread(self.wait_changed, index)
        self.move(view, "10.0.0.3", 9)
        await self.published(view)
        self.assertEqual((await waiting)["address"], "10.0.0.3:6379")
        self.move(other, "10.0.0.2", 8)
        await self.published(other)
        self.assertEqual(self.outcomes(other)["outdated"], 1)
        self.move(other, "10.0.0.4", 9)
        await self.published(other)
        self.assertIn(f"the key {KEY} has 10.0.0.3:6379", other.publishers.warnings("mymaster")[0])
        self.assertEqual((self.stored(), self.consul.state.index), (("10.0.0.3:6379", 9), index + 1))
        self.consul.failing = True
        self.move(view, "10.0.0.5", 10)
        await self.until(lambda: self.outcomes(view).get("failed"), "a failure")
        self.assertIn("HTTP status 500: No cluster leader", view.publishers.warnings("mymaster")[0])
        self.consul.failing = False
        await self.published(view)
        self.assertEqual(self.stored(), ("10.0.0.5:6379", 10))

    def wait_changed(self, index: int) -> Any:
        """Return the key when it was changed after an index, by a blocking query."""
        url = f"{self.consul.endpoint}/v1/kv/{KEY}?raw&index={index}&wait=20s"
        with urlopen(Request(url, headers={"X-Consul-Token": "secret"})) as reply:
            return json.loads(reply.read())

    def test_services(self) -> Deferred[None]:
        """Master and usable replicas are services; a switch changes key and services at once, replicas later."""
        return ensureDeferred(self.services())

    def tags(self) -> dict[str, str]:
        """Return the tag of each registered address."""
        return {f"{each['Address']}:{each['Port']}": each["Tags"][0] for each in self.consul.state.services.values()}

    async def services(self) -> None:
        """See ``test_services``."""
        self.patch(consul_service, "CHANGE_DELAY", 0.05)
        view = self.sentinel(service=True, verify=0.5)
        await self.published(view)
        self.assertEqual(self.tags(), {"10.0.0.1:6379": "master", "10.0.0.2:6379": "replica"})
        index = self.consul.state.index
        self.move(view, "10.0.0.2", 8)
        await self.published(view)
        self.assertEqual(self.tags(), {"10.0.0.2:6379": "master"})
        self.assertEqual(self.consul.state.index, index + 1)
        master = view.master("mymaster")
        view.put(replace(master, replicas=(replica("10.0.0.9", master=master.address),)))
        await self.until(lambda: self.tags().get("10.0.0.9:6379") == "replica", "the replica")
        before = self.consul.state.keys[KEY].modified
        self.consul.state.services.clear()
        await self.until(lambda: len(self.tags()) == 2, "the services again")
        self.assertEqual(self.consul.state.keys[KEY].modified, before)
        self.consul.state.keys.clear()
        await self.until(lambda: KEY in self.consul.state.keys, "the key again")

    def test_token(self) -> Deferred[None]:
        """A token that is not accepted is an error that is shown."""
        return ensureDeferred(self.token())

    async def token(self) -> None:
        """See ``test_token``."""
        view = self.sentinel("wrong")
        await self.until(lambda: self.outcomes(view).get("failed"), "a failure")
        self.assertIn("HTTP status 403: Permission denied", view.publishers.warnings("mymaster")[0])
