"""Access to the Unix socket of a Sentinel."""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack

from twisted.trial.unittest import SynchronousTestCase

from tests.servers import Harness, missing


class UnixSockets:
    """Tests for every kind of Sentinel."""

    kind: str

    def test_mode(self) -> None:
        """The mode is that of ``unixsocketperm``; without it the umask decides, as for every file."""
        with ExitStack() as stack:
            harness = stack.enter_context(Harness())
            for umask, lines, mode in (
                (0o077, [], 0o700),
                (0o022, [], 0o755),
                (0o077, ["unixsocketperm 770"], 0o770),
                (0o022, ["unixsocketperm 700"], 0o700),
            ):
                path = harness.directory / f"{umask:o}{len(lines)}.sock"
                sentinel = harness.sentinel(self.kind, extra=[f"unixsocket {path}", *lines])
                before = os.umask(umask)
                try:
                    sentinel.start(ready=False)
                finally:
                    os.umask(before)
                sentinel.wait_ready()
                assert stat.S_IMODE(path.stat().st_mode) == mode, (oct(umask), lines)
                sentinel.stop()


class TxsentinelTests(UnixSockets, SynchronousTestCase):
    """Sentinels of ours."""

    kind = "txsentinel"
    if missing(kind):
        skip = missing(kind)


class RedisTests(UnixSockets, SynchronousTestCase):
    """The Sentinel of Redis, as the reference."""

    kind = "redis"
    if missing(kind):
        skip = missing(kind)
