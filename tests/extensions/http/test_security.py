"""Tests of who may do what over HTTP, and of what web pages of others can make a browser do."""

from __future__ import annotations

import base64
from dataclasses import replace

from twisted.internet.address import UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.http.harness import NOW_SECONDS, Connection, HttpHarness, Reply
from txsentinel.extensions.http.authentication import MAX_SESSIONS, hash_of
from txsentinel.extensions.http.dispatcher import Dispatcher
from txsentinel.extensions.http.limits import MAX_TRACKED_ADDRESSES, LoginFailures
from txsentinel.extensions.http.protocol import HttpRequest
from txsentinel.extensions.http.settings import HttpSettings
from txsentinel.extensions.http.tokens import Token, TokenTable, parse_tokens
from txsentinel.model.snapshots import Principal


def basic(user: str, password: str) -> str:
    """Return the header of a login by password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class SecurityCase(SynchronousTestCase):
    """A server of a Sentinel whose users need passwords."""

    def setUp(self) -> None:
        self.server = HttpHarness(settings=HttpSettings(server_names=("sentinel.example", "*.svc.example")))
        self.server.operator.passwords = {"default": "open sesame", "alice": "secret"}

    def assert_problem(self, reply: Reply, status: int, code: str) -> None:
        """Assert that a request was refused."""
        self.assertEqual((reply.status, reply.code), (status, code))

    def session(self) -> str:
        """Return a token for a password."""
        reply = self.server.ask("POST", "/v1/session", {"Authorization": basic("alice", "secret")})
        self.assertEqual(reply.status, 201)
        return str(reply.document["token"])


class LoginTests(SecurityCase):
    """Logins by password."""

    def test_without(self) -> None:
        """Without a login nothing but health and the description can be read; browsers are not asked for passwords."""
        for target in ("/v1", "/v1/masters", "/v1/events", "/v1/history", "/v1/session"):
            reply = self.server.get(target)
            self.assert_problem(reply, 401, "login_required")
            self.assertEqual(
                reply.headers["www-authenticate"],
                'Bearer realm="txsentinel", Basic realm="txsentinel", charset="UTF-8"',
            )
            reply = self.server.get(target, Sec_Fetch_Site="same-origin")
            self.assertEqual(reply.headers["www-authenticate"], 'Bearer realm="txsentinel"')
        self.assertEqual(self.server.get("/live").status, 200)
        self.assertEqual(self.server.get("/v1/openapi.json").status, 200)

    def test_link(self) -> None:
        """A browser whose user has followed a link gets a page that states what a login needs; scripts get JSON."""
        browser = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        reply = self.server.ask("GET", "/table", browser)
        self.assertEqual((reply.status, reply.headers["content-type"]), (401, "text/html; charset=utf-8"))
        self.assertEqual(reply.headers["www-authenticate"], 'Bearer realm="txsentinel"')
        self.assertIn(b"needs JavaScript", reply.body)
        reply = self.server.ask("GET", "/v1/%3Cscript%3E", browser)
        self.assertEqual(reply.status, 404)
        self.assertNotIn(b"<script>", reply.body)
        self.assert_problem(self.server.get("/table", Sec_Fetch_Site="same-origin"), 401, "login_required")

    def test_password(self) -> None:
        """The right password of a user is accepted, with any spelling of the scheme."""
        for header in (basic("alice", "secret"), basic("alice", "secret").replace("Basic", "bASIC")):
            self.assertEqual(self.server.get("/v1/masters", Authorization=header).status, 200)
        self.assertEqual(self.server.operator.attempts, [("alice", "127.0.0.1")] * 2)

    def test_wrong(self) -> None:
        """A wrong login is answered after 100 ms, whatever is wrong with it."""
        for header in (
            basic("alice", "wrong"),
            basic("bob", "secret"),
            "Basic",
            "Basic !!!",
            "Basic " + base64.b64encode(b"no colon").decode(),
            "Basic " + base64.b64encode(b"\xff:\xff").decode(),
            "Bearer",
            "Bearer unknown",
            "Digest x",
            "",
        ):
            connection = self.server.connect(f"10.0.0.{len(header)}")
            connection.request("GET", "/v1/masters", {"Authorization": header})
            self.assertEqual(connection.take(), b"", header)
            self.server.advance(0.099)
            self.assertEqual(connection.take(), b"", header)
            self.server.advance(0.001)
            self.assert_problem(connection.reply(), 401, "wrong_credentials")

    def test_client_leaves(self) -> None:
        """A client that does not wait for the answer leaves nothing behind."""
        connection = self.server.connect()
        connection.request("GET", "/v1/masters", {"Authorization": "Bearer x"})
        connection.close()
        self.assertEqual(self.server.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_too_many_failures(self) -> None:
        """After ten failures in a minute an address is refused, also with the right password; others are not."""
        for _ in range(10):
            self.assertEqual(self.server.get("/v1", Authorization=basic("alice", "guess")).status, 401)
        reply = self.server.get("/v1", Authorization=basic("alice", "secret"))
        self.assert_problem(reply, 429, "too_many_failures")
        self.assertEqual(len(self.server.operator.attempts), 10)
        self.assertEqual(self.server.get("/live").status, 200)
        headers = {"Authorization": basic("alice", "secret")}
        self.assertEqual(self.server.ask("GET", "/v1", headers, host="10.0.0.2").status, 200)
        self.server.advance(float(reply.headers["retry-after"]))
        self.assertEqual(self.server.get("/v1", Authorization=basic("alice", "secret")).status, 200)

    def test_rights(self) -> None:
        """A user needs the right of the nearest command of the Sentinel."""
        denied = ("sentinel|replicas", "sentinel|masters", "txsentinel|explain", "txsentinel|history")
        self.server.operator.denied = {("alice", each) for each in denied}
        headers = {"Authorization": basic("alice", "secret")}
        one = "/v1/masters/mymaster"
        reads = (
            "/v1",
            "/v1/masters",
            f"{one}/replicas",
            f"{one}/explain",
            f"{one}/journal",
            "/v1/events",
            "/v1/history",
        )
        for target in reads:
            reply = self.server.ask("GET", target, headers)
            self.assert_problem(reply, 403, "not_permitted")
            self.assertEqual(reply.document["reasons"][0]["code"], "NOPERM")
        self.assertEqual(self.server.ask("GET", "/v1/masters/mymaster", headers).status, 200)

    def test_open_default_user(self) -> None:
        """If clients of the Sentinel port need no password, they need none for reading; with its rights."""
        del self.server.operator.passwords["default"]
        self.assertEqual(self.server.get("/v1/masters").status, 200)
        self.assertEqual(self.server.get("/v1/session").document["method"], "none")
        self.assert_problem(self.server.ask("POST", "/v1/session"), 401, "login_required")
        # The user without a password accepts any password.
        self.patch(self.server.operator, "authenticate", lambda user, _, origin: Principal(user, "password", origin))
        headers = {"Authorization": basic("default", "anything")}
        self.assertEqual(self.server.ask("GET", "/v1/masters", headers).status, 200)
        for method, target in (("POST", "/v1/session"), ("POST", "/v1/masters/mymaster/failover")):
            self.assert_problem(self.server.ask(method, target, headers), 401, "login_required")
        self.assertEqual(self.server.operator.executed, [])
        self.server.operator.denied.add(("default", "sentinel|masters"))
        self.assert_problem(self.server.get("/v1/masters"), 403, "not_permitted")


class SessionTests(SecurityCase):
    """Tokens for passwords."""

    def test_session(self) -> None:
        """A token has the rights of its user for eight hours."""
        self.server.operator.denied.add(("alice", "sentinel|remove"))
        reply = self.server.ask("POST", "/v1/session", {"Authorization": basic("alice", "secret")}, b"{}")
        document = reply.document
        self.assertEqual((document["user"], "remove" in document["rights"]), ("alice", False))
        self.assertEqual(document["expires_at"], "2027-01-15T16:01:00.000Z")
        header = f"Bearer {document['token']}"
        self.server.advance(8 * 3600 - 1)
        self.assertEqual(self.server.get("/v1/session", Authorization=header).document["method"], "token")
        self.server.advance(1)
        self.assertEqual(self.server.get("/v1/session", Authorization=header).status, 401)

    def test_end(self) -> None:
        """A token can be made invalid."""
        header = {"Authorization": f"Bearer {self.session()}"}
        self.assertEqual(self.server.ask("DELETE", "/v1/session", header).status, 204)
        self.assertEqual(self.server.ask("GET", "/v1", header).status, 401)
        reply = self.server.ask("DELETE", "/v1/session", {"Authorization": basic("alice", "secret")})
        self.assert_problem(reply, 404, "no_session")

    def test_no_token_for_a_token(self) -> None:
        """A token does not suffice for a new one."""
        header = {"Authorization": f"Bearer {self.session()}"}
        self.assert_problem(self.server.ask("POST", "/v1/session", header), 403, "password_required")

    def test_limit(self) -> None:
        """The oldest of too many sessions ends."""
        sessions = self.server.application.authenticator.sessions
        tokens = [sessions.create("alice") for _ in range(MAX_SESSIONS + 1)]
        self.assertEqual([sessions.user(each) for each in tokens[:2]], [None, "alice"])
        self.assertEqual(len(set(tokens)), len(tokens))

    def test_secrets_are_not_shown(self) -> None:
        """Neither passwords nor tokens appear in errors."""
        token = self.session()
        self.server.operator.denied.add(("alice", "sentinel"))
        for header in (f"Bearer {token}", f"Bearer {token}x", basic("alice", "secret"), basic("alice", "secretx")):
            body = self.server.get("/v1/masters", Authorization=header).body
            self.assertNotIn(token.encode(), body)
            self.assertNotIn(b"secret", body)


class TokenFileTests(SecurityCase):
    """Tokens of a file."""

    def test_token(self) -> None:
        """A token of the file is valid until its expiry."""
        text = f"ci {hash_of('t0ken')} alice 2027-01-15T08:02:00Z\n# comment\n\nmonitor {hash_of('other')} bob never\n"
        self.server.application.tokens.replace(parse_tokens(text))
        self.assertEqual(self.server.get("/v1/session", Authorization="Bearer t0ken").document["user"], "alice")
        self.assertEqual(self.server.get("/v1/session", Authorization="Bearer other").document["user"], "bob")
        self.server.advance(60)
        self.assertEqual(self.server.get("/v1", Authorization="Bearer t0ken").status, 401)
        self.assertEqual(self.server.get("/v1", Authorization="Bearer other").status, 200)

    def test_wrong_files(self) -> None:
        """The number of a wrong line is named, and nothing of its contents."""
        good = f"ci {hash_of('t')} alice never"
        for line in (
            "ci secret",
            "ci secret alice never",
            f"ci {hash_of('x').upper()} alice never",
            f"ci {hash_of('x')} alice tomorrow",
            f"ci {hash_of('x')} alice 2027-01-15T08:02:00",
            good,
        ):
            with self.assertRaises(ValueError) as caught:
                parse_tokens(f"{good}\n{line}")
            self.assertIn("line 2:", str(caught.exception))
            self.assertNotIn("secret", str(caught.exception))

    def test_table(self) -> None:
        """Without an expiry a token is valid for ever."""
        table = TokenTable(lambda: NOW_SECONDS, {"a": Token("x", "alice", None), "b": Token("x", "bob", NOW_SECONDS)})
        self.assertEqual([table.user(each) for each in "abc"], ["alice", None, None])


class LoginFailureTests(SynchronousTestCase):
    """The count of failed logins."""

    def test_networks(self) -> None:
        """All addresses of an IPv6 network of 64 bits are one client; mapped addresses are IPv4 ones."""
        failures = LoginFailures(lambda: 0.0)
        for number in range(10):
            failures.add(f"2001:db8::{number:x}")
            failures.add(f"::ffff:10.0.0.{1 + number % 1}")
        self.assertGreater(failures.retry_after("2001:db8::ffff:1"), 0)
        self.assertEqual(failures.retry_after("2001:db8:0:1::1"), 0)
        self.assertGreater(failures.retry_after("10.0.0.1"), 0)

    def test_memory(self) -> None:
        """The number of remembered addresses is limited."""
        failures = LoginFailures(lambda: 0.0)
        for number in range(MAX_TRACKED_ADDRESSES + 100):
            failures.add(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        self.assertEqual(len(failures), MAX_TRACKED_ADDRESSES)


class BrowserTests(SecurityCase):
    """What web pages of others can make a browser send."""

    def setUp(self) -> None:
        super().setUp()
        self.login = {"Authorization": basic("alice", "secret")}

    def test_rebinding(self) -> None:
        """A name that is not ours is refused on every route, whatever address it resolves to."""
        for host in (
            "evil.example",
            "evil.example:8026",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "",
            "[::1",
        ):
            for target in ("/live", "/v1/masters", "/nope", "/v1/openapi.json"):
                self.assert_problem(self.server.get(target, Host=host), 421, "wrong_host")
        for host in (
            "127.0.0.1",
            "127.0.0.1:80",
            "[::1]:8026",
            "10.1.2.3",
            "localhost",
            "LOCALHOST:1",
            "sentinel.example",
        ):
            self.assertEqual(self.server.get("/live", Host=host).status, 200, host)
        for host in ("Sentinel.Example.:8026", "s-1.svc.example", "a.b.svc.example:80"):
            self.assertEqual(self.server.get("/live", Host=host).status, 200, host)
        for host in ("svc.example", "evilsvc.example", ".svc.example.evil"):
            self.assertEqual(self.server.get("/live", Host=host).status, 421, host)

    def test_cross_site(self) -> None:
        """Requests that other sites cause are refused, except links to a page; health checks are not concerned."""
        for site in ("cross-site", "same-site"):
            for target in ("/v1/masters", "/v1/events", "/v1/session"):
                reply = self.server.ask("GET", target, {**self.login, "Sec-Fetch-Site": site})
                self.assert_problem(reply, 403, "cross_site")
            reply = self.server.ask("POST", "/v1/session", {**self.login, "Sec-Fetch-Site": site})
            self.assert_problem(reply, 403, "cross_site")
            headers = {**self.login, "Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
            self.assert_problem(self.server.ask("GET", "/v1/events", headers), 403, "cross_site")
            headers["Sec-Fetch-Dest"] = "document"
            self.assertEqual(self.server.ask("GET", "/v1/masters", headers).status, 200)
            self.assertEqual(self.server.ask("POST", "/v1/session", headers).status, 403)
            self.assertEqual(self.server.get("/live", Sec_Fetch_Site=site).status, 200)
        for site in ("same-origin", "none"):
            self.assertEqual(self.server.ask("POST", "/v1/session", {**self.login, "Sec-Fetch-Site": site}).status, 201)

    def test_origin(self) -> None:
        """A changing request of a page must come from our own origin."""
        for origin in (
            "https://evil.example",
            "null",
            "https://127.0.0.1:8026",
            "http://127.0.0.1",
            "http://127.0.0.1:8027",
        ):
            reply = self.server.ask("POST", "/v1/session", {**self.login, "Origin": origin})
            self.assert_problem(reply, 403, "cross_site")
        reply = self.server.ask("POST", "/v1/session", {**self.login, "Origin": "http://127.0.0.1:8026"})
        self.assertEqual(reply.status, 201)
        self.assertEqual(self.server.ask("GET", "/v1", {**self.login, "Origin": "https://evil.example"}).status, 200)

    def test_forms(self) -> None:
        """The media types that a form can send are refused."""
        for media_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
            reply = self.server.ask("POST", "/v1/session", {**self.login, "Content-Type": media_type}, b"{}")
            self.assert_problem(reply, 415, "unsupported_media_type")
        reply = self.server.ask("POST", "/v1/session", {**self.login, "Content-Type": "-"})
        self.assert_problem(reply, 415, "unsupported_media_type")
        headers = {**self.login, "Content-Type": "Application/JSON; charset=utf-8"}
        self.assertEqual(self.server.ask("POST", "/v1/session", headers).status, 201)

    def test_methods(self) -> None:
        """GET changes nothing: no route that needs a login has it as its method."""
        for route in self.server.application.router.routes:
            if route.access.value == "login":
                self.assertNotEqual(route.method, "GET", route.pattern)

    def test_preflight(self) -> None:
        """A preflight request gets no permission."""
        headers = {"Origin": "https://evil.example", "RouteAccess-Control-Request-Method": "POST"}
        reply = self.server.ask("OPTIONS", "/v1/session", headers)
        self.assertFalse([name for name in reply.headers if name.startswith("access-control")])

    def test_cookies(self) -> None:
        """Cookies are no login."""
        token = self.session()
        self.assertEqual(self.server.get("/v1", Cookie=f"token={token}; session={token}").status, 401)

    def test_bodies(self) -> None:
        """A body must be a JSON object with known members."""
        for body in (b"[]", b"{", b"nul", b'{"x": 1}', b"[" * 60_000, b"\xff\xfe", b'{"a": NaN'):
            reply = self.server.ask("POST", "/v1/session", self.login, body)
            self.assert_problem(reply, 400, "bad_request")


class UnixSocketTests(SecurityCase):
    """Clients of a Unix socket are known by their user."""

    def setUp(self) -> None:
        super().setUp()
        self.uid: int | None = 0

    def ask(self, method: str, target: str, headers: dict[str, str] | None = None) -> Reply:
        """Send a request over a Unix socket whose client runs as ``self.uid``."""
        connection = Connection(self.server, UNIXAddress("/run/sentinel.sock"))
        self.patch(HttpRequest, "peer_uid", lambda _: self.uid)
        connection.request(method, target, headers)
        self.server.advance(0.1)
        return connection.reply()

    def test_users(self) -> None:
        """Root and our own user are the user default and may act; others are anonymous."""
        reply = self.ask("GET", "/v1/session")
        self.assertEqual((reply.document["user"], reply.document["method"]), ("default", "local-socket"))
        self.assertEqual(self.ask("POST", "/v1/session").status, 201)
        self.uid = 12_345
        self.assert_problem(self.ask("GET", "/v1/session"), 401, "login_required")
        self.assertEqual(self.ask("GET", "/v1", {"Authorization": basic("alice", "secret")}).status, 200)

    def test_wrong_password(self) -> None:
        """A login that is wrong is not replaced by the user of the socket."""
        self.assert_problem(self.ask("GET", "/v1", {"Authorization": basic("alice", "x")}), 401, "wrong_credentials")

    def test_host(self) -> None:
        """No browser can use a Unix socket, so any Host will do."""
        self.assertEqual(self.ask("GET", "/live", {"Host": "any.name"}).status, 200)
        self.assertEqual(self.ask("GET", "/live", {"Host": "-"}).status, 200)


class ViewTests(SecurityCase):
    """Contents that a hostile server controls."""

    def test_hostile_texts(self) -> None:
        """Errors of servers and names of masters stay within their JSON strings."""
        failure = self.server.view.master("queue").failure
        assert failure is not None
        evil = '"}\r\n\r\nHTTP/1.1 200 OK\r\n\r\n<script>alert(1)</script>\u2028\udcff'
        self.server.view.put(replace(self.server.view.master("queue"), name=evil, failure=replace(failure, error=evil)))
        self.server.operator.passwords = {}
        for target in ("/v1/masters", "/v1/masters?name=*script*", "/ready"):
            reply = self.server.get(target)
            self.assertTrue(reply.body.isascii())
            self.assertNotIn(b"\r", reply.body)
            self.assertIn("script", str(reply.document))
            self.assertEqual(reply.headers["x-content-type-options"], "nosniff")
        self.assertIsInstance(self.server.application.factory.handler, Dispatcher)
