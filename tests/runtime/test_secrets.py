"""Secrets that are read again, without real files."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.config.secrets import SecretReference
from txsentinel.model.events import Level
from txsentinel.runtime.secrets import SecretRenewal
from txsentinel.sim.fleet import Fleet
from txsentinel.sim.groups import Shape

AUTH = SecretReference("auth-pass", "m1", "file:/run/redis")
NEXT = SecretReference("auth-pass", "m1", "file:/run/next", upcoming=True)
PEERS = SecretReference("sentinel-pass", "", "file:/run/peers")
OWN = SecretReference("requirepass", "", "cred:own")
KEY = SecretReference("tls-key-file-pass", "", "file:/run/key")
VARIABLE = SecretReference("requirepass", "", "env:OTHER", upcoming=True)


class RenewalTests(SynchronousTestCase):
    """One simulated Sentinel with files that the test changes."""

    def setUp(self) -> None:
        self.fleet = Fleet(1, Shape(sentinels=2, masters=1, replicas=1))
        self.fleet.start()
        self.fleet.run(5.0)
        sentinel = self.fleet.sentinels[0]
        self.service, self.host = sentinel.alive, sentinel.host
        self.core, self.access = self.service.core, self.service.context.access
        self.generic = self.service.context.options
        self.lines: list[str] = []
        known = dict.fromkeys((AUTH, NEXT, PEERS, OWN, KEY, VARIABLE), "before")
        master = self.core.registry.master("m1").options
        master.auth_pass, master.auth_pass_source = "before", AUTH.source
        master.next_auth_pass, master.next_auth_pass_source = "before", NEXT.source
        self.access.renew_requirepass(lambda: self.require("before"))
        for path in ("/run/redis", "/run/next", "/run/peers", "/run/credentials/own", "/run/key"):
            self.host.files.contents[path] = b"before\n"
        self.renewal = SecretRenewal(
            known,
            {"CREDENTIALS_DIRECTORY": "/run/credentials"},
            self.host,
            self.core,
            self.access,
            self.generic,
            self.note,
        )

    def require(self, password: str) -> None:
        """Set our own password."""
        self.generic.requirepass = password

    def note(self, level: Level, text: str) -> None:
        """Keep a log line."""
        self.lines.append(text)

    def renewed(self) -> str:
        """Read the files again; return what was wrong."""
        done = self.renewal()
        self.fleet.run(0.5)
        return self.successResultOf(done)

    def links_of(self, kind: Callable[[object], bool]) -> set[tuple[str | None, str | None]]:
        """Return the two passwords of all links to a kind of instance."""
        return {(each.link.password, each.link.next_password) for each in self.core.registry.instances() if kind(each)}

    def test_unchanged(self) -> None:
        """Nothing is logged or changed if the files are as before."""
        self.assertEqual(self.renewed(), "")
        self.assertEqual(self.lines, [])

    def test_changed(self) -> None:
        """Each changed value is used, for new connections, and the log has no secret."""
        for path in ("/run/redis", "/run/next", "/run/peers", "/run/credentials/own", "/run/key"):
            self.host.files.contents[path] = path.encode()
        self.assertEqual(self.renewed(), "")
        master = self.core.registry.master("m1")
        servers = [master, *master.replicas.values()]
        self.assertEqual(
            {(each.link.password, each.link.next_password) for each in servers}, {("/run/redis", "/run/next")}
        )
        self.assertEqual({peer.link.password for peer in master.peers.values()}, {"/run/peers"})
        self.assertTrue(self.access.default.accepts(b"/run/credentials/own"))
        self.assertFalse(self.access.default.accepts(b"before"))
        self.assertEqual(self.core.options.requirepass, "/run/credentials/own")
        self.assertEqual(self.generic.tls_key_file_pass, "/run/key")
        self.assertEqual(
            self.lines,
            [
                "file:/run/redis has changed: auth-pass of master m1 is used for new connections.",
                "file:/run/next has changed: the second auth-pass of master m1 is used for new connections.",
                "file:/run/peers has changed: sentinel-pass is used for new connections.",
                "cred:own has changed: requirepass is used for new connections.",
                "file:/run/key has changed: tls-key-file-pass is used when the key is read.",
            ],
        )

    def test_invalid(self) -> None:
        """What is missing or invalid stays in use; all problems are named."""
        del self.host.files.contents["/run/redis"]
        self.host.files.contents["/run/peers"] = b""
        problems = self.renewed()
        self.assertIn("auth-pass of master m1: file:/run/redis cannot be read: No such file", problems)
        self.assertIn("; sentinel-pass: file:/run/peers is empty", problems)
        self.assertEqual(len(self.lines), 2)
        self.assertEqual(self.core.registry.master("m1").options.auth_pass, "before")

    def test_other_users(self) -> None:
        """A user ``default`` that a rule has given another password keeps it."""
        self.access.default.require("by a rule")
        self.host.files.contents["/run/credentials/own"] = b"new"
        self.renewed()
        self.assertTrue(self.access.default.accepts(b"by a rule"))
        self.assertEqual(
            self.lines, ["cred:own has changed: requirepass has no effect here: the user default has other passwords."]
        )

    def test_next_of_a_directive(self) -> None:
        """The second password is renewed also if the first one is a directive."""
        options = self.core.registry.master("m1").options
        options.auth_pass, options.auth_pass_source = "clear", ""
        self.host.files.contents["/run/next"] = b"new"
        self.renewed()
        self.assertEqual((options.auth_pass, options.next_auth_pass), ("clear", "new"))

    def test_removed_master(self) -> None:
        """A master that was removed, or is monitored anew without the reference, is left alone."""
        self.core.registry.master("m1").options.auth_pass_source = ""
        self.host.files.contents["/run/redis"] = b"new"
        self.renewed()
        self.assertEqual(self.core.registry.master("m1").options.auth_pass, "before")
