"""The integrations of ``examples`` with their real other sides, all through one failover of three real Sentinels."""

from __future__ import annotations

import json
import shutil
from typing import ClassVar

from twisted.trial.unittest import TestCase

from examples.dns import NameServer
from examples.failover import Failover, run
from examples.kubernetes import KubernetesObjects, address_of
from examples.nng import NngSubscriber
from examples.otel import TraceCollector
from examples.webhooks import WebhookReceiver, document_of, switch_of
from tests.servers import missing
from txsentinel.demo.other_programs import find_program

LINES: list[str] = []


class IntegrationTests(TestCase):
    """What each other side has got when the failover is over."""

    if missing("valkey"):
        skip = missing("valkey")
    if shutil.which("nanocat") is None or find_program("named") is None:
        skip = "there is no nanocat or no named"

    webhooks: ClassVar[WebhookReceiver]
    nng: ClassVar[NngSubscriber]
    traces: ClassVar[TraceCollector]
    dns: ClassVar[NameServer]
    kubernetes: ClassVar[KubernetesObjects]
    failover: ClassVar[Failover]
    logs: ClassVar[list[str]]
    dns_lines: ClassVar[list[str]]
    dns_secret: ClassVar[str]

    @classmethod
    def setUpClass(cls) -> None:
        """Run the failover."""
        super().setUpClass()
        cls.webhooks, cls.nng, cls.traces = WebhookReceiver(), NngSubscriber(), TraceCollector()
        cls.dns, cls.kubernetes = NameServer(), KubernetesObjects()
        run([cls.webhooks, cls.nng, cls.dns, cls.kubernetes, cls.traces], LINES.append, cls.finish)

    @classmethod
    def finish(cls, failover: Failover) -> None:
        """Keep what is checked after the end."""
        cls.failover = failover
        cls.dns_lines = cls.dns.show()
        cls.dns_secret = cls.dns.key_file.read_text().split('"')[3]
        cls.logs = [sentinel.log_text() for sentinel in failover.fleet.sentinels]

    def webhook_types(self, path: str) -> list[str]:
        """Return the types of all webhooks that arrived at a path."""
        arrived = [*self.webhooks.arrivals.values, *self.webhooks.records.values]
        return [value[1]["type"] for value in arrived if isinstance(value, tuple) and value[0] == path]

    def test_webhooks_once(self) -> None:
        """The leader sends the switch once, and its record, which the reference implementation verifies."""
        self.assertEqual(self.webhook_types("/once").count("txsentinel.switch-master"), 1)
        records = [document_of(each) for each in self.webhooks.records.values]
        (document,) = [each for each in records if each["data"]["outcome"] == "switched"]
        self.assertEqual(document["data"]["to_server"]["address"]["address"], self.failover.new)
        self.assertEqual(document["data"]["observer_role"], "leader")

    def test_webhooks_of_all(self) -> None:
        """Every Sentinel sends to the other target; each ID arrives once."""
        arrived = self.webhooks.arrivals.values
        switches = [document_of(each)["id"] for each in arrived if switch_of(each, "/all") is not None]
        self.assertEqual((len(switches), len(set(switches))), (3, 3))

    def test_webhooks_are_repeated(self) -> None:
        """A request that was answered with 503 is sent again with the same ID."""
        (refused,) = self.webhooks.refused
        arrived = [document_of(each)["id"] for each in self.webhooks.arrivals.values]
        self.assertIn(json.loads(refused.body)["id"], arrived)
        self.assertEqual(sum("cannot be delivered: status 503" in log for log in self.logs), 1)

    def test_nanomsg_subscriber(self) -> None:
        """A subscriber of nanomsg gets the switch of each Sentinel, and only what it has subscribed to."""
        lines = [str(line) for line in self.nng.arrivals.values]
        self.assertEqual([line.split(" ")[0] for line in lines], ["+switch-master"] * len(lines))

    def test_surveyor(self) -> None:
        """One survey gets the same answer of three Sentinels before its deadline."""
        self.assertEqual(len({each["sentinel"] for each in self.nng.answers}), 3)
        self.assertEqual(len({each["config_epoch"] for each in self.nng.answers}), 1)

    def test_one_trace(self) -> None:
        """The spans of three Sentinels are one trace with one root, under which each has its phases."""
        spans = self.traces.received()
        switched = [each for each in spans if each.attributes.get("txsentinel.outcome") == "switched"]
        self.assertEqual(len({each.trace_id for each in switched}), 1)
        (root,) = [each for each in switched if not each.parent_id]
        observers = [each for each in switched if each.parent_id == root.span_id]
        self.assertEqual(len({each.sentinel for each in observers}), 3)
        self.assertEqual({each.sentinel for each in observers if each.name == "leader"}, {root.sentinel})
        for observer in observers:
            phases = {each.name for each in spans if each.parent_id == observer.span_id}
            self.assertLessEqual({"sdown", "switched"}, phases)
            self.assertTrue(observer.events)

    def test_dns(self) -> None:
        """The zone of BIND has the new port and the config epoch; nobody got an older address after a newer one."""
        port = self.failover.new.rpartition(":")[2]
        self.assertIn(f" SRV 0 0 {port} ", self.dns_lines[1])
        (epoch,) = {each["config_epoch"] for each in self.nng.answers}  # A split vote takes more than one.
        self.assertIn(f'"txsentinel epoch={epoch} address={self.failover.new}"', self.dns_lines[2])
        self.assertEqual(len(self.dns.arrivals.values), 2)

    def test_kubernetes(self) -> None:
        """The slice in the double of the API led to the old master, and leads to the new one."""
        addresses = [address_of(each) for each in self.kubernetes.arrivals.values]
        self.assertEqual(addresses, [self.failover.old, self.failover.new])

    def test_no_secrets_in_logs(self) -> None:
        """No log has a secret, and no publisher has failed."""
        secrets = (self.webhooks.secret, self.dns_secret, self.kubernetes.token)
        self.assertEqual([secret in log for log in self.logs for secret in secrets], [False] * 9)
        self.assertEqual([line for log in self.logs for line in log.splitlines() if "cannot be published" in line], [])
