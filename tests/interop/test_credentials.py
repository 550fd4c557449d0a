"""Passwords, users and renamed commands, with real servers and between Sentinels."""

from __future__ import annotations

from contextlib import ExitStack
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import LONG, SECONDS, shorten_periods, wait_moved
from tests.servers import Fleet, Harness, ReplyError, call, missing, pairs, wait_for

DATA, AUTH_USER_PASSWORD, SENTINEL_PASSWORD = "data secret", 'sentinel-user "secret"', "peer-secret"

RULES = (
    "allchannels -@all +multi +exec +ping +info +role +publish +subscribe +slaveof +config|rewrite +client|setname"
    " +client|kill +client|pause +client|unpause +failover +script|kill"
)
"""The commands that a user for Sentinels needs."""

NEW_NAMES = {"SLAVEOF": "GO-AFTER", "CONFIG": "ADJUST-9F2", "PUBLISH": "ANNOUNCE"}


class CredentialTests(SynchronousTestCase):
    """Three Sentinels with servers that require authentication."""

    def fail_over_by_loss(self, fleet: Fleet) -> None:
        """Fail over by a loss and wait until all servers are back."""
        old = fleet.master()
        old.kill()
        wait_moved(fleet, old)
        fleet.revive(old)
        shorten_periods(fleet.sentinels)
        fleet.wait_quiet(SECONDS)

    def fail_over_by_command(self, fleet: Fleet) -> None:
        """Fail over by a command."""
        old = fleet.master()
        fleet.sentinels[0].call("SENTINEL", "FAILOVER", fleet.name)
        wait_moved(fleet, old)
        fleet.wait_quiet(SECONDS)

    def test_users_and_passwords(self) -> None:
        """
        Failovers work with a user of few rights on the servers, given by auth-user and auth-pass, and a password
        between the Sentinels; without the password a Sentinel answers nothing.

        Servers whose password has changed refuse the old one: they are not considered down, and the log has the
        reason. The new password can be set while the Sentinels run.
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
                extra=["sentinel auth-user mymaster sentinel-user", f'sentinel auth-pass mymaster "{secret}"'],
            )
            for server in fleet.servers.values():
                server.password = DATA
                server.extra.append(f'user sentinel-user on resetpass ">{secret}" {RULES}')
            fleet.start()
            for sentinel in fleet.sentinels:
                with self.assertRaises(ReplyError) as refused:
                    call(sentinel.port, "SENTINEL", "MASTERS")
                self.assertIn("NOAUTH", str(refused.exception))
            self.fail_over_by_loss(fleet)
            for sentinel in fleet.sentinels:
                self.assertNotIn("NOPERM", sentinel.log_text())

            for server in fleet.servers.values():
                server.call("ACL", "SETUSER", "sentinel-user", "resetpass", ">another")
                server.call("CLIENT", "KILL", "USER", "sentinel-user")
            # It is logged when S_DOWN would have begun.
            logged = f"master {fleet.name} 127.0.0.1 {fleet.master_port()} is not considered down, as it answers"
            wait_for(
                lambda: all(logged in sentinel.log_text() for sentinel in fleet.sentinels), SECONDS, f"line {logged!r}"
            )
            wait_for(lambda: self.refused_and_up(fleet), SECONDS, "all masters to be up and to refuse the password")
            for sentinel in fleet.sentinels:
                sentinel.call("SENTINEL", "SET", "mymaster", "AUTH-PASS", "another")
            fleet.wait_quiet(SECONDS)
            if LONG:
                self.fail_over_by_command(fleet)

    @staticmethod
    def refused_and_up(fleet: Fleet) -> bool:
        """Whether the master refuses the password of all Sentinels, and none considers it down."""
        masters = [pairs(sentinel.call("SENTINEL", "MASTER", fleet.name)) for sentinel in fleet.sentinels]
        return all(each.get("last-failure-class") == "auth" and "s_down" not in each["flags"] for each in masters)

    def test_renamed_commands(self) -> None:
        """
        If SLAVEOF, CONFIG and PUBLISH are renamed on the servers, ``rename-command`` of the Sentinels makes up for it.
        """
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
            self.fail_over_by_loss(fleet)
            if LONG:
                self.fail_over_by_command(fleet)
            for server in fleet.servers.values():
                # CONFIG REWRITE was executed under its new name.
                expected = f"replicaof 127.0.0.1 {fleet.master_port()}" if server is not fleet.master() else None
                lines = (server.directory / "redis.conf").read_text().splitlines()
                self.assertEqual(next((line for line in lines if line.startswith("replicaof")), None), expected)
