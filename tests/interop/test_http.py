"""The extension ``http`` of real Sentinels: health checks that HAProxy follows, events, logins and TLS."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS, wait_moved
from tests.servers import (
    Connection,
    Fleet,
    Harness,
    ReplyError,
    SentinelProcess,
    call,
    free_port,
    missing,
    pairs,
    wait_for,
)
from tests.tls.authority import Authority, Issued

HAPROXY = shutil.which("haproxy") or ("/usr/sbin/haproxy" if os.path.exists("/usr/sbin/haproxy") else None)
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "haproxy.cfg"


class HttpSentinel(SentinelProcess):
    """A Sentinel with the extension on a port of its own."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.http_port = free_port()
        self.endpoint = f"tcp:{self.http_port}"
        self.activation: list[str] = []
        """The command of a service manager that starts the Sentinel."""

    def command_line(self) -> list[str]:
        """Return the command, with the extension if it has extensions."""
        extension = ["--extension", f"http:{self.endpoint}"] if self.kind == "txsentinel" else []
        return [*self.activation, *super().command_line(), *extension]

    def ask(
        self, target: str, method: str = "GET", headers: dict[str, str] | None = None, body: str | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request over a connection of its own; return status, headers and body."""
        connection = HTTPConnection("127.0.0.1", self.http_port, timeout=SECONDS)
        try:
            connection.request(method, target, body, headers or {})
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    def document(self, target: str) -> Any:
        """Return what a path has as JSON; it must be there."""
        status, _, body = self.ask(target)
        if status != 200:
            raise ReplyError(f"{target}: {status} {body!r}")
        return json.loads(body)


class HttpHarness(Harness):
    """A harness whose Sentinels have the extension."""

    def __enter__(self) -> HttpHarness:
        return self

    def new_sentinel(self, *arguments: Any) -> SentinelProcess:
        """Build a Sentinel."""
        return HttpSentinel(*arguments)


class EventReader(threading.Thread):
    """Reads an event stream and keeps its events."""

    def __init__(self, sentinel: HttpSentinel, last_id: str | None = None) -> None:
        super().__init__(daemon=True)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.last_id = ""
        self._connection = HTTPConnection("127.0.0.1", sentinel.http_port, timeout=60)
        headers = {} if last_id is None else {"Last-Event-ID": last_id}
        self._connection.request("GET", "/v1/events", headers=headers)
        self._response = self._connection.getresponse()
        self.content_type = self._response.getheader("Content-Type")
        self.start()

    def run(self) -> None:
        """Read until the connection ends."""
        for name, value in self._fields(self._response):
            if name == "id":
                self.last_id = value
            elif name == "event":
                event = value
            elif name == "data":
                self.events.append((event, json.loads(value)))

    def _fields(self, response: HTTPResponse) -> Iterator[tuple[str, str]]:
        try:
            while line := response.readline():
                name, colon, value = line.decode().rstrip("\n").partition(": ")
                if colon:
                    yield name, value
        except (OSError, ValueError, AttributeError):
            return

    def names(self) -> list[str]:
        """Return the names of the events that were received."""
        return [event for event, _ in list(self.events)]

    def close(self) -> None:
        """End the stream."""
        if self._connection.sock is not None:
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        self.join(SECONDS)


def first(fleet: Fleet) -> HttpSentinel:
    """Return the first Sentinel of an installation."""
    sentinel = fleet.sentinels[0]
    assert isinstance(sentinel, HttpSentinel)
    return sentinel


def haproxy_config(fleet: Fleet, sentinel: HttpSentinel, write_port: int, read_port: int) -> str:
    """Return the configuration of the manual with these servers, this Sentinel and these ports."""
    lines = []
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("    server "):
            continue
        line = line.replace("addr 127.0.0.1 port 8026", f"addr 127.0.0.1 port {sentinel.http_port}")
        line = line.replace("/mymaster/", f"/{fleet.name}/")
        lines.append(line.replace("*:6379", f"127.0.0.1:{write_port}").replace("*:6380", f"127.0.0.1:{read_port}"))
        if line.startswith("backend "):
            options = "check inter 200ms fall 1 rise 1 on-marked-down shutdown-sessions"
            lines += [f"    server 127.0.0.1:{port} 127.0.0.1:{port} {options}" for port in fleet.servers]
    return "\n".join(lines) + "\n"


class FailoverTests(SynchronousTestCase):
    """A group of three Sentinels with the extension loses its master."""

    if missing("txsentinel", "redis"):
        skip = missing("txsentinel", "redis")
    elif HAPROXY is None:
        skip = "not on this machine: haproxy"

    def start_haproxy(self, directory: Path, config: str) -> None:
        """Run HAProxy until the end of the test."""
        assert HAPROXY is not None
        path = directory / "haproxy.cfg"
        path.write_text(config)
        log = (directory / "haproxy.log").open("wb")
        self.addCleanup(log.close)
        process = subprocess.Popen([HAPROXY, "-db", "-f", str(path)], stdout=log, stderr=log)
        self.addCleanup(process.wait, 15)
        self.addCleanup(process.kill)

    def role_at(self, port: int) -> str:
        """Return the role of the server that HAProxy connects a client to."""
        reply = call(port, "ROLE", timeout=2.0)
        if not isinstance(reply, list):
            raise ReplyError(str(reply))
        return str(reply[0])

    def server_at(self, port: int) -> int:
        """Return the port of the server that HAProxy connects a client to."""
        reply = call(port, "CONFIG", "GET", "port", timeout=2.0)
        if not isinstance(reply, list) or len(reply) < 2:
            raise ReplyError(str(reply))
        return int(str(reply[1]))

    def statuses(self, sentinel: HttpSentinel, name: str) -> dict[str, int]:
        """Ask for everything that can be read; return the status by path."""
        found = {}
        for path, methods in sentinel.document("/v1/openapi.json")["paths"].items():
            if "get" in methods and path != "/v1/events":
                address = sentinel.document(f"/v1/masters/{name}")["address"]["address"]
                target = path.replace("{master}", name).replace("{address}", address).replace("{record}", "unknown")
                target = target.replace("{file}", "state.js")
                found[path] = sentinel.ask(target)[0]
        return found

    def wait_status(self, sentinel: HttpSentinel, path: str, status: int) -> None:
        """Wait for a status: a Sentinel that had to wait for the processor is not ready for a moment."""
        wait_for(lambda: sentinel.ask(path)[0] == status, SECONDS, f"status {status} of {path}")

    def wait_statuses(self, sentinel: HttpSentinel, name: str, expected: dict[str, int]) -> None:
        """Wait until everything that can be read has the expected status, or 200."""

        def as_expected() -> bool:
            found = self.statuses(sentinel, name)
            wrong = {path: status for path, status in found.items() if status != expected.get(path, 200)}
            if wrong:
                raise ReplyError(str(wrong))
            return True

        wait_for(as_expected, SECONDS, "the statuses of all paths", every=0.2)

    def test_failover(self) -> None:
        """Health checks, HAProxy, events, explanation and settings follow the failover."""
        with HttpHarness() as harness:
            fleet = Fleet(harness, ["txsentinel"] * 3, down_after=1500, failover_timeout=5_000)
            fleet.start()
            fleet.set_info_period(500)
            sentinel, old = first(fleet), fleet.master()
            replica = next(port for port in fleet.servers if port != old.port)
            address = f"127.0.0.1:{old.port}"
            is_master = f"/master/{fleet.name}/is"
            for path in ("/live", "/ready?strict=1", f"{is_master}/{address}"):
                self.wait_status(sentinel, path, 200)
            status, headers, _ = sentinel.ask(f"{is_master}/127.0.0.1:{replica}", "OPTIONS")
            self.assertEqual((status, headers["x-txsentinel-reason"]), (503, "not_master"))
            wait_for(
                lambda: sentinel.ask(f"/replica/{fleet.name}/is/127.0.0.1:{replica}?lag=1MB&max_age=10s")[0] == 200,
                SECONDS,
                "a good replica",
            )

            write_port, read_port = free_port(), free_port()
            self.start_haproxy(harness.directory, haproxy_config(fleet, sentinel, write_port, read_port))
            wait_for(lambda: self.server_at(write_port) == old.port, SECONDS, "HAProxy to find the master")
            wait_for(lambda: self.role_at(read_port) == "slave", SECONDS, "HAProxy to find a replica")

            expected = {"/replica/{master}/is/{address}": 503}
            expected |= {"/v1/history/{record}": 404, "/v1/operations/{operation}": 404}
            if shutil.which("dot") is None:
                expected |= {"/v1/topology.svg": 501, "/v1/masters/{master}/topology.svg": 501}
            self.wait_statuses(sentinel, fleet.name, expected)

            reader = EventReader(sentinel)
            self.assertEqual(reader.content_type, "text/event-stream")
            tag = sentinel.ask("/v1/masters")[1]["etag"]
            old.kill()
            new = wait_moved(fleet, old)
            wait_for(lambda: self.server_at(write_port) == new.port, SECONDS, "HAProxy to find the new master")
            # The check of the former master may be due after that of the new one.
            wait_for(lambda: call(write_port, "SET", "key", "value") == "OK", SECONDS, "a write through HAProxy")
            wait_for(lambda: "+switch-master" in reader.names(), SECONDS, "the event")
            data = next(data for event, data in reader.events if event == "+switch-master")
            self.assertEqual(data["payload"], f"{fleet.name} 127.0.0.1 {old.port} 127.0.0.1 {new.port}")
            reader.close()

            # What a client missed is sent again.
            again = EventReader(sentinel, f"{reader.last_id.partition('-')[0]}-0")
            wait_for(lambda: "+switch-master" in again.names(), SECONDS, "the event again")
            self.assertNotIn("gap", again.names())
            again.close()

            self.assertEqual(sentinel.ask("/v1/masters", headers={"If-None-Match": tag})[0], 200)
            document = sentinel.document(f"/v1/masters/{fleet.name}")
            self.assertEqual(document["address"]["address"], f"127.0.0.1:{new.port}")
            self.assertEqual(document["config_epoch"], fleet.config_epochs()[sentinel.name])
            self.assertEqual(sentinel.document("/v1")["listens"], [f"127.0.0.1:{sentinel.port}"])
            status, headers, _ = sentinel.ask(f"{is_master}/{address}")
            self.assertEqual((status, headers["x-txsentinel-reason"]), (503, "not_master"))
            self.wait_status(sentinel, f"{is_master}/127.0.0.1:{new.port}", 200)
            self.assertIn(b"\ntxsentinel_masters 1\n", sentinel.ask("/metrics")[2])
            self.wait_statuses(sentinel, fleet.name, expected)
            document = sentinel.document(f"/v1/masters/{fleet.name}/explain?journal=100")
            self.assertEqual(document["address"]["port"], new.port)
            # The leader has one record, the others have the other one.
            self.assertTrue({"switched", "config-adopted"} & {each["what"] for each in document["journal"]})

            def recorded() -> bool:
                records = [each.document("/v1/history") for each in fleet.sentinels if isinstance(each, HttpSentinel)]
                if not all(len(each) == 1 and each[0]["to_server"]["address"]["port"] == new.port for each in records):
                    return False
                self.assertEqual(len({each[0]["group"] for each in records}), 1)
                return True

            wait_for(recorded, SECONDS, "the record of the failover on all Sentinels")

    def test_isolated(self) -> None:
        """A Sentinel without a majority neither is ready nor vouches for the master."""
        with HttpHarness() as harness:
            fleet = Fleet(harness, ["txsentinel"] * 3, replicas=1)
            fleet.start()
            sentinel, name = first(fleet), fleet.name
            self.wait_status(sentinel, f"/master/{name}", 200)
            for other in fleet.sentinels[1:]:
                other.kill()

            def reasons() -> bool:
                found = [sentinel.ask(path)[1].get("x-txsentinel-reason") for path in ("/ready", f"/master/{name}")]
                return found == [f"no_majority:{name}", "isolated"]

            wait_for(reasons, SECONDS, "the isolation to be noticed")
            self.wait_status(sentinel, "/live", 200)
            self.assertEqual(sentinel.document("/v1/masters")[0]["voters_reachable"], 1)


class AccessTests(SynchronousTestCase):
    """Who may use the extension of a real Sentinel."""

    if missing("txsentinel", "redis"):
        skip = missing("txsentinel", "redis")

    def sentinel(self, harness: HttpHarness, *extra: str, password: str | None = None) -> HttpSentinel:
        """Return a Sentinel over a server, not yet started."""
        server = harness.redis()
        server.start()
        monitor = [("m", "127.0.0.1", server.port, 1)]
        sentinel = harness.sentinel("txsentinel", monitor=monitor, password=password, extra=extra)
        assert isinstance(sentinel, HttpSentinel)
        return sentinel

    def login(self, user: str, password: str) -> dict[str, str]:
        """Return the header of a login."""
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}

    def test_logins(self) -> None:
        """Users of the ACL log in with their passwords, and have their rights; changes are effective at once."""
        with HttpHarness() as harness:
            users = (
                "user reader on >let-me-read -@all +sentinel|masters +sentinel|master",
                "user client on >let-me-connect -@all +sentinel|master",
            )
            sentinel = self.sentinel(harness, *users, password="secret")
            sentinel.start()
            self.assertEqual(sentinel.ask("/live")[0], 200)
            self.assertEqual(sentinel.ask("/v1/masters")[0], 401)
            self.assertEqual(sentinel.ask("/v1/masters", headers=self.login("default", "secret"))[0], 200)
            self.assertEqual(sentinel.ask("/v1/masters", headers=self.login("reader", "let-me-read"))[0], 200)
            self.assertEqual(sentinel.ask("/v1/masters/m", headers=self.login("reader", "let-me-read"))[0], 200)
            status, _, body = sentinel.ask("/v1/masters/m/replicas", headers=self.login("reader", "let-me-read"))
            self.assertEqual((status, json.loads(body)["code"]), (403, "not_permitted"))
            self.assertEqual(sentinel.ask("/v1/masters", headers=self.login("reader", "guess"))[0], 401)
            self.assertIn("reader", str(sentinel.call("ACL", "LOG")))
            # An explanation needs the same right by either way.
            for user, password, status in (("reader", "let-me-read", 200), ("client", "let-me-connect", 403)):
                self.assertEqual(sentinel.ask("/v1/masters/m/explain", headers=self.login(user, password))[0], status)
                self.assertEqual(sentinel.ask("/v1/masters/m/journal", headers=self.login(user, password))[0], status)
                with Connection(sentinel.port) as connection:
                    connection.call("AUTH", user, password)
                    if status == 200:
                        self.assertIn("verdict", pairs(connection.call("TXSENTINEL", "EXPLAIN", "m")))
                    else:
                        with self.assertRaisesRegex(ReplyError, "NOPERM"):
                            connection.call("TXSENTINEL", "EXPLAIN", "m")
            headers = {**self.login("reader", "let-me-read"), "Content-Type": "application/json"}
            status, _, body = sentinel.ask("/v1/session", "POST", headers, "{}")
            self.assertEqual((status, json.loads(body)["rights"]), (201, ["read"]))
            token = {"Authorization": f"Bearer {json.loads(body)['token']}"}
            self.assertEqual(sentinel.ask("/v1/masters", headers=token)[0], 200)
            sentinel.call("ACL", "SETUSER", "reader", "off")
            self.assertEqual(sentinel.ask("/v1/masters", headers=token)[0], 403)

    def test_operations(self) -> None:
        """Masters and settings are changed as by commands, and a failover is started; the log has who did it."""
        with HttpHarness() as harness:
            fleet = Fleet(harness, ["txsentinel"], replicas=1, sentinel_password="secret")
            fleet.start()
            fleet.set_info_period(200)
            sentinel, old = first(fleet), fleet.master()
            headers = {**self.login("default", "secret"), "Content-Type": "application/json"}

            def act(method: str, target: str, **body: object) -> tuple[int, Any]:
                status, _, answer = sentinel.ask(target, method, headers, json.dumps(body))
                return status, json.loads(answer)

            status, document = act(
                "PATCH", f"/v1/config/{fleet.name}", down_after_ms=1500, guards={"crash-failover": "on"}
            )
            self.assertEqual((status, document["down_after_ms"]), (200, 1500))
            self.assertIn(["crash-failover", "on"], document["guards"])
            self.assertIn("down-after-milliseconds mymaster 1500", sentinel.config_path.read_text())
            status, document = act("PATCH", f"/v1/config/{fleet.name}", down_after_ms=0)
            self.assertEqual((status, document["code"]), (400, "bad_request"))
            other = harness.redis()
            other.start()
            new = {"name": "other", "host": "127.0.0.1", "port": other.port, "quorum": 1}
            self.assertEqual(act("POST", "/v1/masters", **new)[0], 201)
            self.assertEqual(act("POST", "/v1/masters", **new)[1]["code"], "exists")
            status, _, body = sentinel.ask("/v1/masters/other", headers=headers)
            self.assertEqual((status, json.loads(body)["address"]["port"]), (200, other.port))
            self.assertEqual(act("POST", "/v1/masters/other/failover")[1]["code"], "candidate_unfit")
            self.assertEqual(act("POST", "/v1/masters/other/reset")[0], 200)
            self.assertEqual(act("DELETE", "/v1/masters/other")[0], 200)
            self.assertEqual(act("DELETE", "/v1/masters/other")[1]["code"], "unknown_master")
            failover = f"/v1/masters/{fleet.name}/failover"
            self.assertEqual(act("POST", failover, expect={"config_epoch": 99})[1]["code"], "expectation_failed")
            self.assertEqual(act("POST", failover)[0], 202)
            self.assertNotEqual(wait_moved(fleet, old).port, old.port)
            text = f"Operator default (password, 127.0.0.1) executes: SENTINEL FAILOVER {fleet.name}"
            self.assertIn(text, sentinel.log_text())

    def test_unsafe(self) -> None:
        """A public address without TLS ends the start, with the reason."""
        with HttpHarness() as harness:
            sentinel = self.sentinel(harness)
            for endpoint, words in (
                (f"tcp:{sentinel.http_port}:interface=0.0.0.0", "in clear text"),
                ("tcp:x", "has no valid port"),
                (f"tcp:{sentinel.http_port};insecure=perhaps", "must be yes or no"),
                ("", "an endpoint is needed"),
            ):
                sentinel.endpoint = endpoint
                sentinel.start(ready=False)
                self.assertEqual(sentinel.wait_ended(SECONDS), 1)
                self.assertIn(words, sentinel.log_text())

    def test_tls(self) -> None:
        """An endpoint with TLS serves the certificate of its files, to public addresses if there is a password."""
        with HttpHarness() as harness:
            authority = Authority(harness.directory / "tls")
            issued = authority.issue("sentinel.example")
            sentinel = self.sentinel(harness, password="secret")
            sentinel.endpoint = (
                f"ssl:{sentinel.http_port}:interface=0.0.0.0:privateKey={issued.key}:certKey={issued.certificate}"
                ";server-names=sentinel.example"
            )
            sentinel.start()
            context = ssl.create_default_context(cafile=str(authority.certificate))
            context.check_hostname = False
            connection = HTTPSConnection("127.0.0.1", sentinel.http_port, timeout=SECONDS, context=context)
            for host, status in (("sentinel.example", 200), ("127.0.0.1", 200), ("evil.example", 421)):
                connection.request("GET", "/v1/masters", headers={**self.login("default", "secret"), "Host": host})
                response = connection.getresponse()
                response.read()
                self.assertEqual(response.status, status, host)
            connection.close()

    def test_certificates(self) -> None:
        """A certificate names its user as on the Sentinel port, also behind a proxy; one of nobody else is accepted."""
        with HttpHarness() as harness:
            authority, foreign = Authority(harness.directory / "tls"), Authority(harness.directory / "other", "other")
            server = authority.issue("server")
            users = ("tls-auth-clients-user CN", "user alice on >secret +@all", "user bob off >secret +@all")
            sentinel = self.sentinel(harness, *users, password="secret")
            files = f"privateKey={server.key}:certKey={server.certificate}"
            options = f"client-ca={authority.certificate};trusted-proxy=127.0.0.2"
            sentinel.endpoint = f"ssl:{sentinel.http_port}:{files};{options}"
            sentinel.start()

            def request(
                issued: Issued | None, target: str, method: str = "GET", proxied: bool = False
            ) -> tuple[int, Any]:
                context = ssl.create_default_context(cafile=str(authority.certificate))
                context.check_hostname = False
                if issued is not None:
                    context.load_cert_chain(issued.certificate, issued.key)
                source = ("127.0.0.2" if proxied else "127.0.0.1", 0)
                plain = socket.create_connection(("127.0.0.1", sentinel.http_port), SECONDS, source)
                if proxied:
                    plain.sendall(b"PROXY TCP4 203.0.113.7 127.0.0.1 40000 8026\r\n")
                with context.wrap_socket(plain) as connection:
                    head = (
                        f"{method} {target} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
                    )
                    connection.sendall(head.encode())
                    response = HTTPResponse(connection)
                    response.begin()
                    return response.status, json.loads(response.read())

            alice = authority.issue("alice")
            self.assertEqual(request(alice, "/v1/session")[1]["user"], "alice")
            self.assertEqual(request(alice, "/v1/session")[1]["method"], "certificate")
            self.assertEqual(request(alice, "/v1/session", "POST")[0], 201)
            self.assertEqual(request(alice, "/v1/masters/m/reset", "POST", proxied=True)[0], 200)
            line = "Operator alice (certificate, 203.0.113.7) executes: SENTINEL RESET m"
            self.assertIn(line, sentinel.log_text())
            for name in ("bob", "carol"):
                self.assertEqual(request(authority.issue(name), "/v1/session")[0], 401)
            self.assertEqual(request(None, "/v1/session")[0], 401)
            self.assertEqual(request(None, "/live")[0], 200)
            self.assertIn("tls-cert", str(sentinel.call("ACL", "LOG")))
            with self.assertRaises(OSError):
                request(foreign.issue("alice"), "/live")

    def test_unix_socket(self) -> None:
        """A client of a Unix socket is known by its user, and needs no password."""
        with HttpHarness() as harness:
            sentinel = self.sentinel(harness, password="secret")
            path = harness.directory / "http.sock"
            sentinel.endpoint = f"unix:{path}"
            sentinel.start()
            self.assertEqual(path.stat().st_mode & 0o777, 0o600)
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(SECONDS)
                client.connect(str(path))
                client.sendall(b"GET /v1/session HTTP/1.0\r\n\r\n")
                answer = b""
                while chunk := client.recv(65536):
                    answer += chunk
            self.assertIn(b'"method": "local-socket"', answer)

    def test_inherited_socket(self) -> None:
        """A socket that the service manager has opened is served; a public one only with consent."""
        if shutil.which("systemd-socket-activate") is None:
            self.skipTest("not on this machine: systemd-socket-activate")
        with HttpHarness() as harness:
            sentinel = self.sentinel(harness)
            sentinel.endpoint = "systemd:domain=INET:name=http"
            command = ["systemd-socket-activate", "--fdname=http", "--listen"]
            sentinel.activation = [*command, f"127.0.0.1:{sentinel.http_port}"]
            sentinel.start(ready=False)
            # The manager starts the program when the first client connects.
            wait_for(lambda: sentinel.ask("/live")[0] == 200, SECONDS, "an answer")
            self.assertEqual(sentinel.call("PING"), "PONG")
            sentinel.stop()
            sentinel.activation = [*command, f"0.0.0.0:{sentinel.http_port}"]
            sentinel.start(ready=False)
            address = ("127.0.0.1", sentinel.http_port)
            with wait_for(lambda: socket.create_connection(address, 5), SECONDS, "the manager to listen"):
                wait_for(lambda: "without TLS" in sentinel.log_text(), SECONDS, "the refusal")
            wait_for(lambda: sentinel.call("PING") == "PONG", SECONDS, "the Sentinel to serve")

    def test_port_in_use(self) -> None:
        """A port that is in use does not end the Sentinel; it is served once it is free."""
        with HttpHarness() as harness, socket.socket() as other:
            sentinel = self.sentinel(harness)
            other.bind(("127.0.0.1", sentinel.http_port))
            other.listen()
            sentinel.start()
            wait_for(lambda: "trying again every" in sentinel.log_text(), SECONDS, "the log line")
            self.assertEqual(sentinel.call("PING"), "PONG")
            other.close()
            wait_for(lambda: sentinel.ask("/live")[0] == 200, SECONDS, "the port to be served")
