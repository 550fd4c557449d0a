"""The client of etcd: endpoints in turn, logins, and which replies are errors."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.outward.harness import RecordingClient
from txsentinel.extensions.etcd.client import MAX_ENDPOINTS, EtcdClient, EtcdError, prefix_range
from txsentinel.extensions.etcd.following import FollowedMaster, FollowedReplica, masters_of
from txsentinel.extensions.etcd.keys import MasterKeys, key_part
from txsentinel.extensions.etcd.settings import EtcdSettings
from txsentinel.model.snapshots import Endpoint


def refusal(text: str, code: int) -> bytes:
    """Return the body of a reply of the gateway with an error."""
    return json.dumps({"error": text, "message": text, "code": code}).encode()


class ClientCase(SynchronousTestCase):
    """The base: a client of two endpoints."""

    def setUp(self) -> None:
        """Make a client without a login, and one with."""
        self.sent = RecordingClient()
        self.passwords = ["first", "second"]
        self.plain = EtcdClient(self.sent, ["http://a", "http://b"])
        self.client = EtcdClient(self.sent, ["http://a"], user="u", password=lambda: self.passwords.pop(0))

    def urls(self) -> list[str]:
        """Return where requests went."""
        return [each.url for each in self.sent.requests]

    def answer(self, value: dict[str, Any]) -> None:
        """Answer the latest request."""
        self.sent.requests[-1].answer(200, json.dumps(value).encode())

    def error(self, asked: Deferred[Any]) -> EtcdError:
        """Return the error of a request."""
        error = self.failureResultOf(asked, EtcdError).value
        assert isinstance(error, EtcdError)
        return error


class EndpointTests(ClientCase):
    """Endpoints."""

    def test_in_turn(self) -> None:
        """If one cannot be reached, the next one is asked, and is the first from then on."""
        asked = self.plain.call("kv/txn", {})
        self.sent.requests[0].answered.errback(ConnectionRefusedError())
        self.answer({"succeeded": True})
        self.assertEqual(self.successResultOf(asked), {"succeeded": True})
        self.plain.call("kv/txn", {})
        self.assertEqual(self.urls(), [f"http://{each}/v3/kv/txn" for each in "abb"])

    def test_without_a_leader(self) -> None:
        """An endpoint that has no leader, or is no etcd, is passed over."""
        asked = self.plain.call("kv/txn", {})
        self.sent.requests[-1].answer(503, refusal("etcdserver: no leader", 14))
        self.sent.requests[-1].answer(404, b"<html>")
        text = str(self.error(asked))
        self.assertEqual(text, "http://a: etcdserver: no leader; http://b: no reply of etcd, but HTTP status 404")

    def test_refused(self) -> None:
        """What etcd refuses is not asked of another endpoint."""
        asked = self.plain.call("kv/put", {})
        self.sent.requests[-1].answer(404, refusal("etcdserver: requested lease not found", 5))
        self.assertEqual(str(self.error(asked)), "etcdserver: requested lease not found")
        self.assertEqual(len(self.sent.requests), 1)

    def test_many(self) -> None:
        """A call asks a few endpoints only; the next call asks the others."""
        client = EtcdClient(self.sent, [f"http://{each}" for each in range(6)])
        asked = client.call("kv/txn", {})
        for _ in range(MAX_ENDPOINTS):
            self.sent.requests[-1].answered.errback(ConnectionRefusedError())
        self.error(asked)
        client.call("kv/txn", {})
        self.assertEqual(self.urls()[-1], "http://4/v3/kv/txn")


class LoginTests(ClientCase):
    """Logins."""

    def test_login(self) -> None:
        """The first call logs in; the token is used from then on."""
        self.client.call("kv/txn", {})
        login = self.sent.requests[-1]
        self.assertEqual(login.url, "http://a/v3/auth/authenticate")
        self.assertEqual(json.loads(login.body), {"name": "u", "password": "first"})
        self.answer({"token": "t1"})
        self.answer({})
        self.client.call("kv/txn", {})
        self.assertEqual([each.headers.get("authorization") for each in self.sent.requests], [None, "t1", "t1"])

    def test_renewal(self) -> None:
        """A token that is not valid any more is renewed once, with the password of now."""
        asked = self.client.call("kv/txn", {})
        self.answer({"token": "t1"})
        self.sent.requests[-1].answer(401, refusal("etcdserver: invalid auth token", 16))
        self.assertEqual(json.loads(self.sent.requests[-1].body)["password"], "second")
        self.assertNotIn("authorization", self.sent.requests[-1].headers)
        self.answer({"token": "t2"})
        self.assertEqual(self.sent.requests[-1].headers["authorization"], "t2")
        self.sent.requests[-1].answer(401, refusal("etcdserver: invalid auth token", 16))
        self.assertEqual(str(self.error(asked)), "etcdserver: invalid auth token")

    def test_closed_connection(self) -> None:
        """If nothing answers a call with a token, the next call logs in, as some releases refuse tokens so."""
        asked = self.client.call("kv/txn", {})
        self.answer({"token": "t1"})
        self.sent.requests[-1].answered.errback(ConnectionRefusedError())
        self.error(asked)
        self.client.call("kv/txn", {})
        self.assertEqual(self.urls()[-1], "http://a/v3/auth/authenticate")

    def test_wrong_password(self) -> None:
        """A login that is refused is reported, and tried again with the next call."""
        asked = self.client.call("kv/txn", {})
        text = "etcdserver: authentication failed, invalid user ID or password"
        self.sent.requests[-1].answer(400, refusal(text, 3))
        self.assertEqual(str(self.error(asked)), text)
        self.client.call("kv/txn", {})
        self.assertEqual(self.urls(), ["http://a/v3/auth/authenticate"] * 2)


class StreamTests(ClientCase):
    """Streams."""

    def wait(self) -> Deferred[None]:
        """Wait for a line with the member ``wanted``."""
        return self.plain.wait_for_line("watch", {}, lambda line: bool(line.get("wanted")))

    def test_lines(self) -> None:
        """A line that is found ends the stream, whatever parts it arrives in."""
        waiting = self.wait()
        self.assertEqual(self.urls(), ["http://a/v3/watch"])
        for part in (b'{"x":1}\n{"wan', b'ted":', b"true}"):
            self.sent.receivers[0](part)
            self.assertNoResult(waiting)
        self.sent.receivers[0](b"\n{}\n")
        self.assertIsNone(self.successResultOf(waiting))
        self.assertTrue(self.sent.streams[0].called)

    def test_end(self) -> None:
        """A stream that ends before is an error; one that is not wanted any more is closed."""
        waiting = self.wait()
        self.sent.streams[0].callback(200)
        self.assertEqual(str(self.error(waiting)), "the stream has ended")
        waiting = self.wait()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertTrue(self.sent.streams[1].called)


class FollowingTests(SynchronousTestCase):
    """What programs elsewhere get of the keys."""

    def test_masters(self) -> None:
        """Keys become masters with replicas; what cannot be parsed is left out."""
        one = {"host": "::1", "port": 1, "config_epoch": 7}
        values = {
            "/x/a%2Fb/json": json.dumps(one),
            "/x/a%2Fb/master": "[::1]:1",
            "/x/a%2Fb/replicas/h:2": "h:2",
            "/x/a%2Fb/replicas/h:x": "h:x",
            "/x/c/json": "{}",
            "/x/d/replicas/h:2": "h:2",
        }
        (found,) = masters_of(values, "/x/")
        replicas = (FollowedReplica("h:2", Endpoint("h", 2)),)
        self.assertEqual(found, FollowedMaster("a/b", Endpoint("::1", 1), 7, replicas))


class KeyTests(SynchronousTestCase):
    """Names of keys."""

    def test_names(self) -> None:
        """A name is one part of a key, whatever it has; different names have different keys."""
        names = ["mymaster", "a/b", "a%2Fb", "ünï", "caf\udce9", "..", " ", "\n"]
        parts = [key_part(name) for name in names]
        self.assertEqual(parts[:3], ["mymaster", "a%2Fb", "a%252Fb"])
        self.assertEqual(len(set(parts)), len(names))
        self.assertTrue(all("/" not in part and part.isascii() for part in parts))
        self.assertEqual(MasterKeys(EtcdSettings(), "m").epoch, "/txsentinel/m/epoch")

    def test_prefix(self) -> None:
        """The range of a prefix ends before the first key that does not have it."""
        self.assertEqual(prefix_range("/m/"), {"key": "L20v", "range_end": "L20w"})
