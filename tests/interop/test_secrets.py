"""Passwords by reference, with real servers: they work, are changed without a restart, and appear nowhere."""

from __future__ import annotations

import base64
import os
import signal
import urllib.error
import urllib.request
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS, shorten_periods, wait_moved
from tests.servers import Fleet, Harness, ReplyError, SentinelProcess, call, missing, wait_for

OLD, NEW = "data-3f1c old", "data-9b27 new"
PEERS, NEW_PEERS = "peers-51aa", "peers-c803"
SECRETS = OLD, NEW, PEERS, NEW_PEERS

COMMANDS = (
    "SENTINEL MASTERS",
    "SENTINEL REPLICAS mymaster",
    "SENTINEL SENTINELS mymaster",
    "SENTINEL CONFIG GET *",
    "SENTINEL PENDING-SCRIPTS",
    "TXSENTINEL EXPLAIN mymaster",
    "TXSENTINEL HISTORY mymaster",
    "TXSENTINEL AGREE mymaster",
    "TXSENTINEL DOCTOR mymaster",
    "ACL LIST",
    "ACL LOG",
    "CLIENT LIST",
    "INFO",
)
MASTER = "v1/masters/mymaster"
ROUTES = ("", "v1", "v1/masters", MASTER, f"{MASTER}/explain", "v1/history", "v1/config/mymaster", "metrics")

SCRIPT = """#!/bin/sh
env >> "$(dirname "$0")/script.log"
echo "$@" >> "$(dirname "$0")/script.log"
"""


class SecretTests(SynchronousTestCase):
    """Three Sentinels whose files name secrets, and have none."""

    if missing("txsentinel", "redis"):
        skip = missing("txsentinel", "redis")

    def test_rotation_and_silence(self) -> None:
        """
        Sentinels with references fail over. While the password of the servers is changed they use the second one; after
        SIGHUP they use and require the new ones. Neither files nor logs, replies, pages or scripts have a secret.
        """
        with ExitStack() as stack:
            harness = stack.enter_context(Harness())
            credentials = harness.directory / "credentials"
            credentials.mkdir()
            (credentials / "peers").write_text(PEERS + "\n")
            (credentials / "redis").write_text(OLD)
            fleet = Fleet(
                harness,
                ["txsentinel"] * 3,
                "redis",
                down_after=800,
                failover_timeout=4000,
                http=True,
                extra=[
                    f"#: txsentinel secret auth-pass mymaster file:{credentials}/redis",
                    "#: txsentinel secret.next auth-pass mymaster env:REDIS_PASS",
                    "#: txsentinel secret sentinel-pass cred:peers",
                    "#: txsentinel secret requirepass cred:peers",
                ],
            )
            for server in fleet.servers.values():
                server.password = OLD
            for sentinel in fleet.sentinels:
                sentinel.password = None  # So that no directive is written.
                sentinel.directory.mkdir(parents=True, exist_ok=True)
                script = sentinel.directory / "script.sh"
                script.write_text(SCRIPT)
                script.chmod(0o755)
                sentinel.extra.append(f"sentinel notification-script mymaster {script}")
                sentinel.prepare()
                sentinel.prepare = lambda: None  # type: ignore[method-assign]
                sentinel.password = PEERS
                sentinel.variables = {"CREDENTIALS_DIRECTORY": str(credentials), "REDIS_PASS": NEW}
            fleet.start()
            shorten_periods(fleet.sentinels)
            written = [
                self.everything(sentinel, page) for sentinel, page in zip(fleet.sentinels, fleet.pages, strict=True)
            ]

            for server in fleet.servers.values():
                server.call("CONFIG", "SET", "masterauth", NEW)
                server.call("CONFIG", "SET", "requirepass", NEW)
                server.password = NEW
                for kind in ("normal", "pubsub"):
                    server.call("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            fleet.wait_quiet(SECONDS)
            wait_for(lambda: self.authenticated(fleet), SECONDS, "links with the second password")

            (credentials / "redis").write_text(NEW + "\n")
            (credentials / "peers").write_text(NEW_PEERS + "\n")
            for sentinel in fleet.sentinels:
                assert sentinel.pid is not None
                os.kill(sentinel.pid, signal.SIGHUP)
            for sentinel in fleet.sentinels:
                line = "cred:peers has changed: requirepass is used for new connections."
                wait_for(partial(self.logged, sentinel, line), SECONDS, line)
                with self.assertRaises(ReplyError):
                    call(sentinel.port, "AUTH", PEERS)
                sentinel.password = NEW_PEERS
                line = f"file:{credentials}/redis has changed: auth-pass of master"
                wait_for(partial(self.logged, sentinel, line), SECONDS, line)

            old = fleet.master()
            old.kill()
            wait_moved(fleet, old)
            fleet.revive(old)
            fleet.wait_quiet(SECONDS)
            with self.assertRaises(ReplyError) as refused:
                fleet.sentinels[0].call("SENTINEL", "SET", "mymaster", "auth-pass", "x")
            self.assertIn("auth-pass is read from file:", str(refused.exception))

            for sentinel, page in zip(fleet.sentinels, fleet.pages, strict=True):
                written.append(self.everything(sentinel, page))
                self.assertIn("secret auth-pass mymaster file:", sentinel.config_path.read_text())
            for sentinel in fleet.sentinels:
                called = sentinel.directory / "script.log"
                wait_for(partial(self.contains, called, "+switch-master"), SECONDS, "the script")
                written += [path.read_bytes() for path in Path(sentinel.directory).rglob("*") if path.is_file()]
            contents = b"\n".join(written)
            self.assertGreater(len(contents), 50_000)
            for secret in SECRETS:
                for form in (secret, base64.b64encode(secret.encode()).decode()):
                    self.assertNotIn(form.encode(), contents)

    @staticmethod
    def logged(sentinel: SentinelProcess, line: str) -> bool:
        """Whether the log of a Sentinel has ``line``."""
        return line in sentinel.log_text()

    @staticmethod
    def contains(path: Path, text: str) -> bool:
        """Whether a file has a text; it may not be there yet."""
        return text in path.read_text()

    @staticmethod
    def authenticated(fleet: Fleet) -> bool:
        """Whether every server has a command connection and a subscriber of each Sentinel."""
        for server in fleet.servers.values():
            names = str(server.call("CLIENT", "LIST"))
            if names.count("-cmd") != len(fleet.sentinels) or names.count("-pubsub") != len(fleet.sentinels):
                return False
        return True

    @staticmethod
    def everything(sentinel: SentinelProcess, page: str) -> bytes:
        """Return all replies, all pages and the command line."""
        parts = [repr(sentinel.call(*command.split())).encode() for command in COMMANDS]
        password = sentinel.password or ""
        authorization = "Basic " + base64.b64encode(f"default:{password}".encode()).decode()
        for route in ROUTES:
            request = urllib.request.Request(page + route, headers={"Authorization": authorization})
            assert urlsplit(request.full_url).hostname == "127.0.0.1"
            try:
                with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                    parts.append(answer.read())
            except urllib.error.HTTPError as error:
                parts.append(error.read())
        parts.append(Path(f"/proc/{sentinel.pid}/cmdline").read_bytes())
        return b"\n".join(parts)
