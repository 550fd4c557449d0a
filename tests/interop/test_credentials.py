"""Passwords, users and renamed commands, on real servers and between Sentinels."""

from __future__ import annotations

from contextlib import ExitStack
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import LONG, SECONDS, hurry, wait_moved
from tests.servers import Fleet, Harness, ReplyError, call, missing, pairs, wait_for

DATA, AUTH_USER_PASSWORD, SENTINEL_PASSWORD = "data secret", 'watcher "secret"', "door-secret"

RULES = (
    "allchannels -@all +multi +exec +ping +info +role +publish +subscribe +slaveof +config|rewrite +client|setname"
    " +client|kill +client|pause +client|unpause +failover +script|kill"
)
"""What a user for Sentinels needs, and not a command more."""

NEW_NAMES = {"SLAVEOF": "GO-AFTER", "CONFIG": "ADJUST-9F2", "PUBLISH": "SHOUT"}


class CredentialTests(SynchronousTestCase):
    """Three Sentinels over servers that are not open to everybody."""

    def replace_lost(self, fleet: Fleet) -> None:
        """A failover by loss, with everyone in place at the end."""
        old = fleet.master()
        old.kill()
        wait_moved(fleet, old)
        fleet.revive(old)
        hurry(fleet.sentinels)
        fleet.wait_quiet(SECONDS)

    def replace_by_hand(self, fleet: Fleet) -> None:
        """A failover that is ordered."""
        old = fleet.master()
        fleet.sentinels[0].call("SENTINEL", "FAILOVER", fleet.name)
        wait_moved(fleet, old)
        fleet.wait_quiet(SECONDS)

    def test_users_and_passwords(self) -> None:
        """
        With a user of few rights on the servers, named by auth-user and auth-pass, and a password between the
        Sentinels, failovers go as ever; without the password a Sentinel tells nothing. A password that
        changes can be told to the Sentinels while they run.
        """
        if missing("txsentinel", "valkey"):
            raise SkipTest(missing("txsentinel", "valkey"))
        with ExitStack() as stack:
            harness = stack.enter_context(Harness())
            secret = AUTH_USER_PASSWORD.replace('"', '\\"')
            fleet = Fleet(
                harness,
                ["txsentinel"] * 3,
                "valkey",
                down_after=700,
                failover_timeout=3000,
                sentinel_password=SENTINEL_PASSWORD,
                extra=["sentinel auth-user mymaster watcher", f'sentinel auth-pass mymaster "{secret}"'],
            )
            for server in fleet.servers.values():
                server.password = DATA
                server.extra.append(f'user watcher on resetpass ">{secret}" {RULES}')
            fleet.start()
            for sentinel in fleet.sentinels:
                with self.assertRaises(ReplyError) as refused:
                    call(sentinel.port, "SENTINEL", "MASTERS")
                self.assertIn("NOAUTH", str(refused.exception))
            self.replace_lost(fleet)
            for sentinel in fleet.sentinels:
                self.assertNotIn("NOPERM", sentinel.log_text())

            for server in fleet.servers.values():
                server.call("ACL", "SETUSER", "watcher", "resetpass", ">another")
                server.call("CLIENT", "KILL", "USER", "watcher")
            wait_for(lambda: self.all_find_it_down(fleet), SECONDS, "the refusal to show")
            for sentinel in fleet.sentinels:
                sentinel.call("SENTINEL", "SET", "mymaster", "AUTH-PASS", "another")
            fleet.wait_quiet(SECONDS)
            if LONG:
                self.replace_by_hand(fleet)

    @staticmethod
    def all_find_it_down(fleet: Fleet) -> bool:
        """Do all Sentinels hold the master for down?"""
        flags = [pairs(sentinel.call("SENTINEL", "MASTER", fleet.name))["flags"] for sentinel in fleet.sentinels]
        return all("s_down" in each for each in flags)

    def test_renamed_commands(self) -> None:
        """Where the servers know SLAVEOF, CONFIG and PUBLISH by other names, ``rename-command`` makes up for it."""
        if missing("txsentinel", "redis"):
            raise SkipTest(missing("txsentinel", "redis"))
        with ExitStack() as stack:
            harness = stack.enter_context(Harness())
            fleet = Fleet(
                harness,
                ["txsentinel"] * 3,
                "redis",
                down_after=700,
                failover_timeout=3000,
                extra=[f"sentinel rename-command mymaster {old} {new}" for old, new in NEW_NAMES.items()],
            )
            for server in fleet.servers.values():
                server.extra += [f"rename-command {old} {new}" for old, new in NEW_NAMES.items()]
            fleet.start()
            self.replace_lost(fleet)
            if LONG:
                self.replace_by_hand(fleet)
            for server in fleet.servers.values():
                # CONFIG REWRITE took place under its new name.
                wanted = f"replicaof 127.0.0.1 {fleet.master_port()}" if server is not fleet.master() else None
                lines = (server.directory / "redis.conf").read_text().splitlines()
                self.assertEqual(next((line for line in lines if line.startswith("replicaof")), None), wanted)
