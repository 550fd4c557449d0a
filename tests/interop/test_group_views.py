"""What a Sentinel shows of the whole group over HTTP, beside a C Sentinel and a stopped one."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS
from tests.interop.test_http import HttpHarness, first
from tests.servers import Fleet, missing, wait_for


class GroupTests(SynchronousTestCase):
    """Two of our Sentinels and one of Redis, over servers that need a password."""

    if missing("txsentinel", "redis"):
        skip = missing("txsentinel", "redis")

    def test_group(self) -> None:
        """Explanation, drift, metrics and checks see all three Sentinels, and which one differs."""
        with HttpHarness() as harness:
            fleet = Fleet(harness, ["txsentinel", "txsentinel", "redis"], password="secret", down_after=60_000)
            fleet.start()
            fleet.set_info_period(500)
            sentinel, (_, other, c_sentinel) = first(fleet), fleet.sentinels
            explain = f"/v1/masters/{fleet.name}/explain?fleet=1"
            ids = {str(each.call("SENTINEL", "MYID")) for each in (other, c_sentinel)}
            c_id = str(c_sentinel.call("SENTINEL", "MYID"))

            def explained() -> dict[str, Any]:
                found: dict[str, Any] = sentinel.document(explain)
                return {each["sentinel_id"]: each for each in found["fleet"]}

            def both() -> dict[str, Any] | None:
                found = explained()
                return found if found.keys() == ids else None

            found = wait_for(both, SECONDS, "both to answer")
            self.assertEqual({each["contradiction"] for each in found.values()}, {None})
            self.assertEqual([each["verdict"] for key, each in found.items() if key == c_id], [None])
            self.assertEqual(sentinel.document(f"/v1/config/{fleet.name}")["drift"], [])

            # The checks read the servers with the password of the Sentinel.
            def all_read() -> Any:
                (group,) = sentinel.document("/v1/doctor")
                counts = [group[name] for name in ("sentinels", "sentinels_read", "servers", "servers_read")]
                return group if counts == [3] * 4 else None

            group = wait_for(all_read, SECONDS, "all to be read", every=0.5)
            self.assertEqual([each for each in group["findings"] if each["severity"] == "error"], [])
            self.assertIn("D13", {each["check"] for each in group["findings"]})
            self.assertEqual(sentinel.document("/v1/doctor")[0]["at"], group["at"], "the result is kept")

            c_sentinel.call("SENTINEL", "SET", fleet.name, "quorum", 3)
            other.call("SENTINEL", "SET", fleet.name, "parallel-syncs", 4)
            found = wait_for(both, SECONDS, "both to answer")
            self.assertIn("its quorum is 3, that of this Sentinel 2", found[c_id]["contradiction"])
            drift = sentinel.document(f"/v1/config/{fleet.name}")["drift"]
            options = {(each["option"], each["here"], each["there"]) for each in drift}
            self.assertEqual(options, {("quorum", "2", "3"), ("parallel-syncs", "1", "4")})

            def metrics() -> bool:
                text = sentinel.ask("/metrics")[2].decode()
                values = {line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in text.splitlines()}
                wanted = {"address": "0", "epoch": "0", "quorum": "1", "options": "1"}
                name = f'txsentinel_peers_disagreeing{{master="{fleet.name}",about='
                return all(values.get(f'{name}"{about}"}}') == count for about, count in wanted.items())

            wait_for(metrics, SECONDS, "the metrics", every=0.3)
            other.freeze()

            def one_answers() -> Any:
                found = sentinel.document(explain)
                return found if [each["sentinel_id"] for each in found["fleet"]] == [c_id] else None

            document = wait_for(one_answers, SECONDS, "the other one to answer")
            other.thaw()
            self.assertEqual(set(document["missing"]), ids - {c_id})
            self.assertIn("no answer in time", " ".join(document["warnings"]))
