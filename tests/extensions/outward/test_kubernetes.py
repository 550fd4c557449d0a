"""Tests of the extension ``kubernetes`` with a double of the API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from examples.http_server import ReceivedRequest
from examples.kubernetes import NAMESPACE, PODS, SERVICE, SLICES, address_of
from examples.kubernetes.api_double import ApiDouble
from tests.extensions.fixture import instant
from txsentinel.extensions.http_client import HttpReply
from txsentinel.extensions.kubernetes.api import ApiFailed, KubernetesApi
from txsentinel.extensions.kubernetes.objects import EPOCH, UnsuitableObject
from txsentinel.extensions.kubernetes.publisher import KubernetesPublisher
from txsentinel.extensions.kubernetes.settings import KubernetesSettings, read_settings
from txsentinel.model.extension_settings import ExtensionSetting, SettingError
from txsentinel.model.publications import PublishOutcome
from txsentinel.model.snapshots import Endpoint, MasterChange

FIRST, SECOND, THIRD = (Endpoint(f"10.0.0.{number}", 6379) for number in (1, 2, 3))
LABEL = "txsentinel/role"
SELECTOR = "app=redis,tier=cache"


def change(address: Endpoint, epoch: int) -> MasterChange:
    """Return a change."""
    return MasterChange("mymaster", address, None, epoch, "switch", instant(0), 1, "0" * 32)


class DirectClient:
    """Passes requests to the double without a network."""

    def __init__(self, api: ApiDouble) -> None:
        self._api = api
        self.before_write: Callable[[], object] = lambda: None
        """Called once before the next request that writes."""

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Deferred[HttpReply]:
        """Answer a request at once."""
        if method != "GET":
            before, self.before_write = self.before_write, lambda: None
            before()
        path = "/" + url.split("/", 3)[3]
        status, reply = self._api.answer(ReceivedRequest(method, path, dict(headers or {}), body or b""))
        return succeed(HttpReply(status, {}, reply))


class KubernetesCase(SynchronousTestCase):
    """A namespace, and the publisher of one Sentinel; another one can be made."""

    lines: tuple[str, ...] = (f"service mymaster {SERVICE}",)

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        (self.directory / "token").write_text("geheim\n")
        (self.directory / "namespace").write_text(NAMESPACE)
        self.written: Callable[[object], object] = lambda _: None
        """Called with each object that is written."""

        self.api = ApiDouble(NAMESPACE, "geheim", lambda document: self.written(document))
        self.client = DirectClient(self.api)
        self.publisher = self.new_publisher()

    def settings(self, *lines: str) -> KubernetesSettings:
        """Return the settings of lines."""
        words = [line.split(" ") for line in lines]
        settings = [ExtensionSetting(name, tuple(values), "/etc/ext, line 5") for name, *values in words]
        defaults = {
            "server": "https://10.96.0.1",
            "token-file": str(self.directory / "token"),
            "namespace": NAMESPACE,
        }
        for name, *_ in words:
            defaults.pop(name, None)
        files = [ExtensionSetting(name, (value,)) for name, value in defaults.items()]
        return read_settings("", [*files, *settings], {})

    def new_publisher(self, *lines: str) -> KubernetesPublisher:
        """Return a publisher."""
        settings = self.settings(*(lines or self.lines))
        return KubernetesPublisher(KubernetesApi(self.client, settings), settings)

    def publish(self, address: Endpoint, epoch: int, publisher: KubernetesPublisher | None = None) -> PublishOutcome:
        """Publish, and return how that ended."""
        result = self.successResultOf((publisher or self.publisher).publish(change(address, epoch)))
        return PublishOutcome.PUBLISHED if result is None else result.outcome

    def verified(self) -> bool:
        """Verify."""
        return bool(self.successResultOf(self.publisher.verify("mymaster")))

    def slice(self) -> dict[str, Any]:
        """Return the EndpointSlice."""
        return self.api.get(SLICES, f"{SERVICE}-txsentinel")

    def statuses(self) -> list[tuple[str, int]]:
        """Return method and status of the requests that write."""
        return [(method, status) for method, _, status in self.api.requests if method != "GET"]


class SliceTests(KubernetesCase):
    """An EndpointSlice."""

    def test_first(self) -> None:
        """The slice is created with what makes it part of the Service; then nothing is to be done."""
        self.assertFalse(self.verified())
        self.assertEqual(self.publish(FIRST, 1), PublishOutcome.PUBLISHED)
        found = self.slice()
        self.assertEqual(address_of(found), "10.0.0.1:6379")
        self.assertEqual(found["metadata"]["labels"]["kubernetes.io/service-name"], SERVICE)
        self.assertEqual(found["metadata"]["annotations"][EPOCH], "1")
        self.assertEqual(self.publish(FIRST, 1), PublishOutcome.UNCHANGED)
        self.assertTrue(self.verified())
        self.assertEqual(self.statuses(), [("POST", 201)])

    def test_epochs(self) -> None:
        """A newer one replaces an older one, never the reverse; of one epoch the first stays."""
        other = self.new_publisher()
        self.publish(FIRST, 1, other)
        self.assertEqual(self.publish(SECOND, 2), PublishOutcome.PUBLISHED)
        self.assertEqual(self.publish(FIRST, 1, other), PublishOutcome.OUTDATED)
        self.assertEqual(self.publish(THIRD, 2, other), PublishOutcome.CONFLICT)
        self.assertEqual(address_of(self.slice()), str(SECOND))

    def test_races(self) -> None:
        """What another Sentinel writes between reading and writing is compared again."""
        other = self.new_publisher()
        self.client.before_write = lambda: self.publish(FIRST, 1, other)
        self.assertEqual(self.publish(SECOND, 2), PublishOutcome.PUBLISHED)
        self.assertEqual(self.statuses(), [("POST", 201), ("POST", 409), ("PUT", 200)])
        self.client.before_write = lambda: self.publish(THIRD, 4, other)
        self.assertEqual(self.publish(FIRST, 3), PublishOutcome.OUTDATED)
        self.assertEqual(address_of(self.slice()), str(THIRD))

    def test_ipv6(self) -> None:
        """The type of a slice cannot be changed, so a slice of another type is deleted and created."""
        self.publish(FIRST, 1)
        self.publish(Endpoint("2001:db8::1", 6379), 2)
        self.assertEqual(self.slice()["addressType"], "IPv6")
        self.assertEqual([method for method, _ in self.statuses()], ["POST", "DELETE", "POST"])

    def test_host_name(self) -> None:
        """A host name is refused, with what to do."""
        done = self.publisher.publish(change(Endpoint("redis-0.redis", 6379), 1))
        self.assertIn("announce-hostnames no", str(self.failureResultOf(done, UnsuitableObject).value))

    def test_changed_by_others(self) -> None:
        """A slice that was changed is written again."""
        self.publish(FIRST, 1)
        found = self.slice()
        found["endpoints"][0]["addresses"] = ["10.0.0.9"]
        self.api.add(SLICES, found)
        self.assertFalse(self.verified())
        self.assertEqual(self.publish(FIRST, 1), PublishOutcome.PUBLISHED)
        self.assertEqual(address_of(self.slice()), str(FIRST))

    def test_damaged_annotation(self) -> None:
        """An epoch that is no number is left, which is an error."""
        self.publish(FIRST, 1)
        found = self.slice()
        found["metadata"]["annotations"][EPOCH] = "next"
        self.api.add(SLICES, found)
        done = self.publisher.publish(change(SECOND, 2))
        self.assertIn("is no number", str(self.failureResultOf(done, UnsuitableObject).value))

    def test_refused(self) -> None:
        """What the API refuses is an error with its reason, without the token."""
        self.api.token = "another"
        error = str(self.failureResultOf(self.publisher.publish(change(FIRST, 1)), ApiFailed).value)
        self.assertEqual(error, f"GET endpointslices/{SERVICE}-txsentinel: status 401: 'Unauthorized'")


class PodTests(KubernetesCase):
    """Labels of Pods."""

    lines = (f"pods mymaster {SELECTOR}",)

    def setUp(self) -> None:
        super().setUp()
        for number in range(1, 4):
            self.add_pod(f"redis-{number}", f"10.0.0.{number}")
        self.add_pod("other", "10.0.0.1", labels={"app": "other"})

    def add_pod(self, name: str, ip: str, labels: Mapping[str, str] | None = None, phase: str = "Running") -> None:
        """Add a Pod."""
        metadata = {"name": name, "labels": dict(labels or {"app": "redis", "tier": "cache"})}
        spec = {"containers": [{"name": "redis", "image": "redis:8"}]}
        self.api.add(PODS, {"metadata": metadata, "spec": spec, "status": {"phase": phase, "podIP": ip}})

    def roles(self) -> dict[str, str | None]:
        """Return the label of each Pod."""
        names = ("redis-1", "redis-2", "redis-3", "other")
        return {name: self.api.get(PODS, name)["metadata"]["labels"].get(LABEL) for name in names}

    def test_roles(self) -> None:
        """The Pod with the address of the master is labelled as such, the others as replicas."""
        self.assertEqual(self.publish(FIRST, 1), PublishOutcome.PUBLISHED)
        expected = {"redis-1": "master", "redis-2": "replica", "redis-3": "replica", "other": None}
        self.assertEqual(self.roles(), expected)
        self.assertTrue(self.verified())
        self.assertEqual(self.publish(SECOND, 2), PublishOutcome.PUBLISHED)
        self.assertEqual(self.roles(), {**expected, "redis-1": "replica", "redis-2": "master"})

    def test_never_two_masters(self) -> None:
        """The former master loses its label first."""
        self.publish(FIRST, 1)
        masters: list[int] = []
        self.written = lambda _: masters.append(list(self.roles().values()).count("master"))
        self.publish(THIRD, 2)
        self.assertEqual(masters, [0, 0, 1])

    def test_host_name(self) -> None:
        """A Pod of a StatefulSet is found by the first label of its host name."""
        self.publish(Endpoint("redis-3.redis.default.svc", 6379), 1)
        self.assertEqual(self.roles()["redis-3"], "master")

    def test_no_pod(self) -> None:
        """If no Pod has the address, nothing is changed, and it is tried again later."""
        done = self.publisher.publish(change(Endpoint("10.0.0.77", 6379), 1))
        self.assertIn("0 Pods with", str(self.failureResultOf(done, UnsuitableObject).value))
        self.assertEqual(self.statuses(), [])

    def test_new_pod(self) -> None:
        """A Pod that was started later gets its label with the next check, one that has ended is left out."""
        self.publish(FIRST, 1)
        self.add_pod("redis-0", "10.0.0.1", phase="Failed")
        self.assertTrue(self.verified())
        self.add_pod("redis-4", "10.0.0.4")
        self.assertFalse(self.verified())
        self.assertEqual(self.publish(FIRST, 1), PublishOutcome.PUBLISHED)
        self.assertEqual(self.api.get(PODS, "redis-4")["metadata"]["labels"][LABEL], "replica")

    def test_race(self) -> None:
        """An older change that has read the Pods before a newer one was written is refused by their versions."""
        other = self.new_publisher()
        self.client.before_write = lambda: self.publish(SECOND, 2, other)
        self.assertEqual(self.publish(FIRST, 1), PublishOutcome.OUTDATED)
        self.assertEqual(self.roles()["redis-2"], "master")


class SettingTests(KubernetesCase):
    """What may be set."""

    def test_in_a_pod(self) -> None:
        """In a Pod the server, the namespace and the token are known."""
        line = ExtensionSetting("service", ("mymaster", SERVICE))
        environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
        error = self.assertRaises(ValueError, read_settings, "", [line], environment, str(self.directory))
        self.assertIn("ca.crt", str(error))
        ca = [*([line]), ExtensionSetting("server", ("https://[fd00::1]:6443",))]
        settings = read_settings("", ca, environment, str(self.directory))
        self.assertEqual((settings.namespace, settings.token.value), (NAMESPACE, "geheim"))
        self.assertNotIn("geheim", repr(settings))

    def test_refusals(self) -> None:
        """A wrong line is refused with its place and the reason."""
        for line, reason in (
            ("colour red", "unknown setting"),
            ("service mymaster", "needs a master and a Service"),
            ("service mymaster Redis_Master", "no name of a Service"),
            ("pods mymaster", "needs a master and a label selector"),
            ("namespace a b", "one value"),
            ("namespace -", "cannot be"),
            ("label a/b/c", "cannot be"),
            ("port-name a-very-long-port-name", "cannot be"),
            ("server ftp://a", "must be a URL"),
            ("insecure perhaps", "yes or no"),
        ):
            error = self.assertRaises(SettingError, self.settings, line)
            self.assertTrue(str(error).startswith("/etc/ext, line 5: "), str(error))
            self.assertIn(reason, str(error))

    def test_incomplete(self) -> None:
        """What is missing is named."""
        self.assertIn("needs a line", str(self.assertRaises(ValueError, self.settings)))
        self.assertIn("no argument", str(self.assertRaises(ValueError, read_settings, "x", [])))
        line = ExtensionSetting("service", ("mymaster", SERVICE))
        self.assertIn("this is no Pod", str(self.assertRaises(ValueError, read_settings, "", [line], {})))
        http = ExtensionSetting("server", ("http://127.0.0.1:8001",))
        self.assertIn("insecure yes", str(self.assertRaises(ValueError, read_settings, "", [line, http], {})))
