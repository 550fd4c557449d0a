"""Scripts of the operator, run by a real Sentinel: their arguments, inherited descriptors, and exit statuses."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS, wait_moved
from tests.servers import EventRecorder, Fleet, Harness, missing, pairs, wait_for

SCRIPT = """\
#!/bin/sh
# Writes down how it was called and what it inherited, and ends as set in the file "plan".
cd "$(dirname "$0")" || exit 3
{ printf '%s\\n' "$0" "$@"; } > "tmp.$$"
for each in /proc/$$/fd/*; do readlink "$each"; done > "fds.$$"
readlink "/proc/$PPID/cwd" > "cwd.$$"
mv "tmp.$$" "call.$$"
read -r plan < plan
case "$plan" in
    sleep) exec sleep 600 ;;
    kill) kill -9 $$ ;;
    *) exit "$plan" ;;
esac
"""


class ScriptTests(SynchronousTestCase):
    """One Sentinel that decides alone, with a notification-script and a client-reconfig-script."""

    if missing("txsentinel", "valkey"):
        skip = missing("txsentinel", "valkey")

    def begin(self, stack: ExitStack, down_after: int) -> None:
        """Start everything."""
        harness = stack.enter_context(Harness())
        self.place = harness.directory / "scripts"
        self.place.mkdir()
        self.plan("0")
        self.notify, self.reconfigure = str(self.place / "notify"), str(self.place / "reconfigure")
        for path in (self.notify, self.reconfigure):
            Path(path).write_text(SCRIPT)
            Path(path).chmod(0o755)
        extra = [
            f"sentinel notification-script mymaster {self.notify}",
            f"sentinel client-reconfig-script mymaster {self.reconfigure}",
        ]
        self.fleet = Fleet(harness, ["txsentinel"], "valkey", replicas=1, down_after=down_after, extra=extra)
        self.fleet.start()
        self.sentinel = self.fleet.sentinels[0]
        self.recorder = EventRecorder(self.fleet.ports).start()
        stack.callback(self.recorder.stop)

    def plan(self, ending: str) -> None:
        """Set how scripts end from now on."""
        (self.place / "plan.new").write_text(ending + "\n")
        (self.place / "plan.new").rename(self.place / "plan")

    def calls(self, channel: str = "") -> list[list[str]]:
        """Return the arguments of all calls so far, or of those for one event."""
        calls = [path.read_text().splitlines() for path in self.place.glob("call.*")]
        return [words for words in calls if channel in ("", words[1])]

    def cause_warning(self) -> None:
        """Cause a warning about the master."""
        for path in self.place.glob("call.*"):
            path.unlink()
        self.began = time.monotonic()
        self.sentinel.call("SENTINEL", "SET", "mymaster", "PARALLEL-SYNCS", 1)

    def wait_calls(self, count: int) -> None:
        """Wait until the script was called for it so many times."""
        wait_for(lambda: len(self.calls("+set")) >= count, SECONDS, f"{count} calls")

    def wait_idle(self) -> None:
        """Wait until no script runs or waits for a retry."""
        wait_for(lambda: self.sentinel.call("SENTINEL", "PENDING-SCRIPTS") == [], SECONDS, "an empty queue")

    def event_received(self, channel: str) -> list[str]:
        """Return the payloads of events since the last warning."""
        return [event.payload for event in self.recorder.since(self.began, channel)]

    def test_arguments_and_environment(self) -> None:
        """
        Each warning about a master calls the notification-script with event and payload, a failover the other script
        with
        the old and the new address. Scripts start in the directory of the Sentinel and get its standard streams and no
        other descriptor.
        """
        with ExitStack() as stack:
            self.begin(stack, 2_000)
            old = self.fleet.master()
            beginning = [self.notify, "+monitor", f"master mymaster 127.0.0.1 {old.port} quorum 1"]
            wait_for(lambda: beginning in self.calls(), SECONDS, "the first call")
            old.kill()
            new = wait_moved(self.fleet, old)
            addresses = ["127.0.0.1", str(old.port), "127.0.0.1", str(new.port)]
            notices = {
                "+sdown": f"master mymaster 127.0.0.1 {old.port}",
                "+odown": f"master mymaster 127.0.0.1 {old.port} #quorum 1/1",
                "+new-epoch": "1",
                "+try-failover": f"master mymaster 127.0.0.1 {old.port}",
                "+vote-for-leader": f"{self.sentinel.call('SENTINEL', 'MYID')} 1",
                "+elected-leader": f"master mymaster 127.0.0.1 {old.port}",
                "+promoted-slave": f"slave 127.0.0.1:{new.port} 127.0.0.1 {new.port} @ mymaster 127.0.0.1 {old.port}",
                "+switch-master": " ".join(["mymaster", *addresses]),
            }
            expected = [[self.notify, channel, payload] for channel, payload in notices.items()]
            expected.append([self.reconfigure, "mymaster", "leader", "start", *addresses])
            for words in expected:
                wait_for(lambda: words in self.calls(), SECONDS, f"a call {words}")  # noqa: B023
            published = [[event.channel, event.payload] for event in self.recorder.events]
            for words in self.calls():
                if words[0] == self.notify and words != beginning:
                    self.assertIn(words[1:], published)
            self.assert_clean()

    def assert_clean(self) -> None:
        """Check the inherited descriptors and streams."""
        self.wait_idle()
        streams = {"/dev/null", str(self.sentinel.log_path)}
        for path in self.place.glob("fds.*"):
            # A shell has its own script open; the file that it writes these lines to replaces a stream.
            unexpected = [
                target
                for target in path.read_text().splitlines()
                if target not in streams and not target.startswith(str(self.place))
            ]
            self.assertEqual(unexpected, [])
        self.assertEqual(
            {path.read_text().strip() for path in self.place.glob("cwd.*")}, {str(self.sentinel.directory)}
        )

    def test_exit_statuses(self) -> None:
        """
        Status 1 and death by a signal are retried, ten times in all, higher ones not; a script that runs for too long
        is
        killed. Scripts that are given up are published.
        """
        with ExitStack() as stack:
            self.begin(stack, 600_000)
            self.wait_idle()
            self.sentinel.call("SENTINEL", "DEBUG", "SCRIPT-RETRY-DELAY", 100, "SCRIPT-MAX-RUNTIME", 600_000)

            for ending in ("1", "kill"):
                self.plan(ending)
                self.cause_warning()
                self.wait_calls(3)
                self.plan("0")
                self.wait_idle()
                self.assertEqual(self.event_received("-script-error"), [])

            self.plan("2")
            self.cause_warning()
            wait_for(lambda: self.event_received("-script-error"), SECONDS, "-script-error")
            self.assertEqual(self.event_received("-script-error"), [f"{self.notify} 0 2"])
            self.assertEqual(len(self.calls("+set")), 1)
            self.wait_idle()

            self.plan("sleep")
            self.cause_warning()
            self.wait_calls(1)
            job = pairs_of(self.sentinel.call("SENTINEL", "PENDING-SCRIPTS"))
            self.assertEqual((job["flags"], job["retry-num"]), ("running", "1"))
            self.sentinel.call("SENTINEL", "DEBUG", "SCRIPT-MAX-RUNTIME", 300)
            wait_for(lambda: self.event_received("-script-timeout"), SECONDS, "-script-timeout")
            self.assertEqual(self.event_received("-script-timeout")[0], f"{self.notify} {job['pid']}")
            self.plan("0")
            self.wait_idle()
            self.sentinel.call("SENTINEL", "DEBUG", "SCRIPT-MAX-RUNTIME", 600_000)
            self.assertEqual(self.event_received("-script-error"), [])
            self.assertGreaterEqual(len(self.calls("+set")), 2)

            self.sentinel.call("SENTINEL", "DEBUG", "SCRIPT-RETRY-DELAY", 1)
            self.plan("1")
            self.cause_warning()
            wait_for(lambda: self.event_received("-script-error"), SECONDS, "-script-error")
            self.assertEqual(self.event_received("-script-error"), [f"{self.notify} 0 1"])
            self.assertEqual(len(self.calls("+set")), 10)


def pairs_of(reply: object) -> dict[str, str]:
    """Return the first and only entry of PENDING-SCRIPTS."""
    assert isinstance(reply, list)
    (entry,) = reply
    return pairs(entry)
