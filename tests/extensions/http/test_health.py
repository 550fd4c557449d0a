"""Tests of ``txsentinel.extensions.http.health``: each code of each route."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.fixture import FakeView, healthy_master, instant, replica, switching_master, three_masters
from tests.extensions.http.harness import HttpHarness, Reply
from txsentinel.model.snapshots import Endpoint, FailoverSnapshot, MasterSnapshot

MASTER = "10.0.0.1:6379"
REPLICA = "10.0.0.2:6379"


class HealthCase(SynchronousTestCase):
    """A server over a view with one healthy master."""

    def setUp(self) -> None:
        self.view = FakeView(healthy_master())
        self.server = HttpHarness(self.view)

    def change(self, **fields: object) -> None:
        """Change fields of the master."""
        self.view.put(replace(self.view.master("mymaster"), **fields))  # type: ignore[arg-type]

    def change_replica(self, **fields: object) -> None:
        """Change fields of its first replica."""
        first, *rest = self.view.master("mymaster").replicas
        self.change(replicas=(replace(first, **fields), *rest))  # type: ignore[arg-type]

    def assert_reason(self, reply: Reply, code: str, header: str | None = None) -> None:
        """Assert that a check failed with a code in body and header."""
        self.assertEqual((reply.status, reply.code), (503, code))
        self.assertEqual(reply.headers["x-txsentinel-reason"], header or code)
        self.assertEqual(reply.headers["content-type"], "application/problem+json")
        self.assertNotEqual(reply.document["detail"], "")


class LiveTests(HealthCase):
    """``/live`` for supervisors that restart a process."""

    def test_live(self) -> None:
        """It is 200 up to the limit: three sweeps, but at least three seconds."""
        for path in ("/live", "/livez"):
            reply = self.server.get(path)
            self.assertEqual((reply.status, reply.document), (200, {"status": "ok", "sweep_age_ms": 100}))
        self.server.advance(2.9)
        self.assertEqual(self.server.get("/live").status, 200)
        self.server.advance(0.001)
        self.assert_reason(self.server.get("/live"), "stalled")

    def test_slow_sweeps(self) -> None:
        """A longer period of sweeps is taken into account."""
        self.view.load_now = replace(self.view.load_now, sweep_period_ms=5_000)
        self.server.advance(14.9)
        self.assertEqual(self.server.get("/live").status, 200)
        self.server.advance(0.001)
        self.assert_reason(self.server.get("/live"), "stalled")

    def test_never_swept(self) -> None:
        """A Sentinel that never evaluated anything is stalled."""
        self.view.load_now = replace(self.view.load_now, swept_at=None)
        self.assert_reason(self.server.get("/live"), "stalled")


class ReadyTests(HealthCase):
    """``/ready``: whether the Sentinel can do its part."""

    def test_ready(self) -> None:
        """It is 200 if all is well; one Sentinel of three that is down changes nothing."""
        self.change(voters_reachable=2)
        for path in ("/ready", "/readyz", "/ready?master=mymaster", "/ready?strict=1"):
            self.assertEqual(self.server.get(path).status, 200, path)

    def test_states_of_the_sentinel(self) -> None:
        """Each state in which the Sentinel cannot act has its code."""
        sentinel = self.view.sentinel
        storage = sentinel.storage
        for code, state in (
            ("stopping", replace(sentinel, stopping=True)),
            ("starting", replace(sentinel, listens=())),
            ("starting", replace(sentinel, storage=replace(storage, durable_generation=0, pending=1))),
            ("storage_failing", replace(sentinel, storage=replace(storage, state="failing", last_error="ENOSPC"))),
            ("tilt", replace(sentinel, tilt=replace(sentinel.tilt, active=True, until=instant(90)))),
        ):
            self.view.sentinel = state
            self.assert_reason(self.server.get("/ready"), code)

    def test_no_majority(self) -> None:
        """Without a majority of a master's Sentinels, the check of all and that of this master fail."""
        self.view.put(replace(healthy_master("other"), voters_reachable=1))
        self.assert_reason(self.server.get("/ready"), "no_majority", "no_majority:other")
        self.assert_reason(self.server.get("/ready?master=other"), "no_majority", "no_majority:other")
        self.assertEqual(self.server.get("/ready?master=mymaster").status, 200)
        reasons = self.server.get("/ready").document["reasons"]
        self.assertEqual([(each["subject"], each["code"]) for each in reasons], [("other", "no_majority")])

    def test_unknown_master_state(self) -> None:
        """A master that never answered INFO is not known well enough."""
        view = self.view

        class WithoutInfo(FakeView):
            def probe_times(self, name: str):  # type: ignore[no-untyped-def]
                return {key: replace(each, info_at=None) for key, each in view.probe_times(name).items()}

        self.change(run_id=None)
        self.assertEqual(self.server.get("/ready").status, 200)
        server = HttpHarness(WithoutInfo(replace(healthy_master(), run_id=None)))
        self.assert_reason(server.get("/ready"), "unknown_master_state", "unknown_master_state:mymaster")

    def test_strict(self) -> None:
        """Only a strict check fails if another Sentinel has another configuration of the master."""
        first, *rest = healthy_master().peers
        self.change(peers=(replace(first, acknowledges=False), *rest))
        self.assertEqual(self.server.get("/ready").status, 200)
        self.assert_reason(self.server.get("/ready?strict=1"), "peers_disagree", "peers_disagree:mymaster")

    def test_hostile_name(self) -> None:
        """A master name cannot add a header, and is percent-encoded in it."""
        self.view.put(replace(healthy_master("a\r\nX-Evil: 1\udcff"), voters_reachable=1))
        reply = self.server.get("/ready")
        self.assert_reason(reply, "no_majority", "no_majority:a%0D%0AX-Evil%3A%201%FF")
        self.assertNotIn("x-evil", reply.headers)

    def test_errors(self) -> None:
        """Unknown masters and wrong parameters are refused."""
        self.assertEqual(self.server.get("/ready?master=nobody").code, "unknown_master")
        for query in ("strict=yes", "strict=1&strict=1", "stric=1"):
            reply = self.server.get(f"/ready?{query}")
            self.assertEqual((reply.status, reply.code), (400, "bad_request"), query)


class MasterTests(HealthCase):
    """``/master/<name>`` and ``/master/<name>/is/<address>``."""

    def test_master(self) -> None:
        """The answer has the address, the epoch, and how many Sentinels are known to agree."""
        for path in ("/master/mymaster", "/primary/mymaster", f"/master/mymaster/is/{MASTER}"):
            reply = self.server.get(path)
            self.assertEqual(reply.status, 200)
            self.assertEqual(
                reply.document,
                {
                    "status": "ok",
                    "role": "master",
                    "master": "mymaster",
                    "address": {"host": "10.0.0.1", "port": 6379, "address": MASTER},
                    "config_epoch": 7,
                    "since": "2027-01-15T08:00:10.000Z",
                    "agreed": "2/3",
                },
            )

    def test_unusable(self) -> None:
        """Both routes fail while the master is down by agreement, is failed over, or we are isolated."""
        failover = FailoverSnapshot("wait_promotion", 8, instant(55), True, False, REPLICA)
        for code, fields in (
            ("odown", {"odown_since": instant(50)}),
            ("odown", {"odown_since": instant(50), "failover": failover}),
            ("failover_in_progress", {"failover": failover}),
            ("isolated", {"voters_reachable": 1}),
        ):
            self.view = FakeView(healthy_master())
            self.server = HttpHarness(self.view)
            self.change(**fields)
            for path in ("/master/mymaster", f"/primary/mymaster/is/{MASTER}", f"/any/mymaster/is/{MASTER}"):
                self.assert_reason(self.server.get(path), code)

    def test_down_here_only(self) -> None:
        """A master that only this Sentinel considers down is still the master."""
        self.change(sdown_since=instant(50), status="sdown")
        self.assertEqual(self.server.get("/master/mymaster").status, 200)

    def test_switched(self) -> None:
        """The new master is served from the moment its address is published, while replicas are reconfigured."""
        old = switching_master()
        assert old.failover is not None
        self.view.put(
            replace(old, address=old.replicas[0].address, failover=replace(old.failover, state="reconf_slaves"))
        )
        self.assertEqual(self.server.get("/master/sessions/is/10.0.1.2:6379").status, 200)
        self.assert_reason(self.server.get("/master/sessions/is/10.0.1.1:6379"), "not_master")

    def test_switched_with_names(self) -> None:
        """So is one that clients get by its name, while its replica is known by its IP address."""
        old = switching_master()
        assert old.failover is not None
        promoted = replace(old.replicas[0], address=Endpoint("redis-2.example", 6379))
        self.view.put(replace(old, replicas=(promoted,), address=Endpoint("redis-2.example", 6379)))
        self.assertEqual(self.server.get("/master/sessions").status, 200)
        self.view.put(replace(old, replicas=(promoted,), address=Endpoint("redis-1.example", 6379)))
        self.assert_reason(self.server.get("/master/sessions"), "odown")

    def test_addresses(self) -> None:
        """An address may have a port or not, and any spelling; IPv6 needs brackets only with a port."""
        for text in (MASTER, "10.0.0.1", "10.0.0.01:6379", "10.1"):
            self.assertEqual(self.server.get(f"/master/mymaster/is/{text}").status, 200, text)
        self.change(address=Endpoint("2001:db8::5", 6379))
        for text in ("2001:db8::5", "%5B2001:db8::5%5D:6379", "[2001:DB8:0::5]", "2001:0db8::0005"):
            self.assertEqual(self.server.get(f"/master/mymaster/is/{text}").status, 200, text)
        self.change(address=Endpoint("Redis-1.example", 6379))
        for text in ("redis-1.example", "REDIS-1.EXAMPLE:6379"):
            self.assertEqual(self.server.get(f"/master/mymaster/is/{text}").status, 200, text)

    def test_not_master(self) -> None:
        """Another address, another port, or a replica is not the master, whatever state it is in."""
        self.change(odown_since=instant(50))
        for text in (REPLICA, "10.0.0.1:6380", "10.9.9.9", "example.com:6379"):
            self.assert_reason(self.server.get(f"/master/mymaster/is/{text}"), "not_master")

    def test_ambiguous(self) -> None:
        """Without a port an address must mean one instance."""
        self.change(replicas=(replica("10.0.0.1", 6380),))
        reply = self.server.get("/master/mymaster/is/10.0.0.1")
        self.assertEqual((reply.status, reply.code), (400, "bad_request"))
        self.assertIn("add the port", reply.document["detail"])
        self.assertEqual(self.server.get("/master/mymaster/is/10.0.0.1:6379").status, 200)

    def test_errors(self) -> None:
        """Unknown masters are 404; what is no address is 400."""
        for path in ("/master/nobody", f"/master/nobody/is/{MASTER}", "/replica/nobody/is/x", "/any/nobody/is/x"):
            reply = self.server.get(path)
            self.assertEqual((reply.status, reply.code), (404, "unknown_master"), path)
        for text in (
            "10.0.0.1:",
            "10.0.0.1:0",
            "10.0.0.1:65536",
            "a:b:c",
            "[::1",
            "::1:6379:9:x",
            "%00:1:2",
            "10.0.0.1:%E0%A5%A7",
        ):
            reply = self.server.get(f"/master/mymaster/is/{text}")
            self.assertEqual((reply.status, reply.code), (400, "bad_request"), text)

    def test_methods(self) -> None:
        """HEAD and OPTIONS give the code without a body, as load balancers send them."""
        for method in ("HEAD", "OPTIONS"):
            for address, status in ((MASTER, 200), (REPLICA, 503)):
                reply = self.server.ask(method, f"/master/mymaster/is/{address}")
                self.assertEqual((reply.status, reply.body), (status, b""))
            self.assertEqual(reply.headers["x-txsentinel-reason"], "not_master")
        reply = self.server.ask("POST", "/master/mymaster")
        self.assertEqual((reply.status, reply.headers["allow"]), (405, "GET, HEAD, OPTIONS"))

    def test_http_1_0(self) -> None:
        """Health checks of HTTP/1.0 without a Host header are answered."""
        reply = self.server.ask("OPTIONS", f"/master/mymaster/is/{MASTER}", {"Host": "-"}, version="1.0")
        self.assertEqual(reply.status, 200)

    def test_no_login(self) -> None:
        """Health checks need no login, and ignore a wrong one."""
        self.server.operator.passwords["default"] = "secret"
        self.server.operator.denied.add(("default", "sentinel"))
        self.assertEqual(self.server.get("/master/mymaster", Authorization="Basic !!!").status, 200)
        self.assertEqual(self.server.operator.attempts, [])


class ReplicaTests(HealthCase):
    """``/replica/<name>/is/<address>`` and ``/any/<name>/is/<address>``."""

    def test_replica(self) -> None:
        """A replica that is up, linked, and near enough is good."""
        for query in ("", "?lag=0", "?lag=16kB&max_age=1s"):
            for word in ("replica", "any"):
                reply = self.server.get(f"/{word}/mymaster/is/{REPLICA}{query}")
                self.assertEqual((reply.status, reply.document["role"]), (200, "replica"), query)
        self.assertEqual(self.server.get(f"/any/mymaster/is/{MASTER}").document["role"], "master")

    def test_not_replica(self) -> None:
        """The master and unknown addresses are no replicas."""
        self.assert_reason(self.server.get(f"/replica/mymaster/is/{MASTER}"), "not_replica")
        self.assert_reason(self.server.get("/replica/mymaster/is/10.9.9.9:1"), "not_replica")
        self.assert_reason(self.server.get("/any/mymaster/is/10.9.9.9:1"), "not_replica")

    def test_states(self) -> None:
        """Each state in which a replica should not be read from has its code."""
        path = f"/replica/mymaster/is/{REPLICA}?lag=1MB&max_age=10s"
        for code, fields in (
            ("down", {"sdown_since": instant(50), "master_link_up": False}),
            ("link_down", {"master_link_up": False, "lag_bytes": 1 << 30}),
            ("lagging", {"lag_bytes": (1 << 20) + 1}),
            ("lagging", {"lag_bytes": None}),
            ("stale_info", {"connected": False}),
        ):
            self.view = FakeView(healthy_master())
            self.server = HttpHarness(self.view)
            self.change_replica(**fields)
            self.assert_reason(self.server.get(path), code)
            self.assert_reason(self.server.get(path.replace("replica", "any")), code)

    def test_limits(self) -> None:
        """The limits themselves are accepted, in all units."""
        self.change_replica(lag_bytes=1 << 20)
        for text in ("1MB", "1mb", "1024kB", "1048576", "1048576B", "1GB", "1TB"):
            self.assertEqual(self.server.get(f"/replica/mymaster/is/{REPLICA}?lag={text}").status, 200, text)
        self.assert_reason(self.server.get(f"/replica/mymaster/is/{REPLICA}?lag=1023kB"), "lagging")
        for text in ("1s", "1000ms", "1m", "1h"):
            self.assertEqual(self.server.get(f"/replica/mymaster/is/{REPLICA}?max_age={text}").status, 200, text)
        self.assert_reason(self.server.get(f"/replica/mymaster/is/{REPLICA}?max_age=999ms"), "stale_info")

    def test_wrong_limits(self) -> None:
        """A limit that cannot be understood is refused, not ignored."""
        for query in ("lag=", "lag=1XB", "lag=-1", "lag=1.5MB", "max_age=10", "max_age=s", "lagg=1MB", "lag=1&lag=2"):
            reply = self.server.get(f"/replica/mymaster/is/{REPLICA}?{query}")
            self.assertEqual((reply.status, reply.code), (400, "bad_request"), query)


class SharedViewTests(SynchronousTestCase):
    """The three masters of the fixture."""

    def test_each(self) -> None:
        """A load balancer gets one good master of three."""
        server = HttpHarness(three_masters())
        found = {name: server.get(f"/master/{name}").status for name in ("mymaster", "sessions", "queue")}
        self.assertEqual(found, {"mymaster": 200, "sessions": 503, "queue": 503})

    def test_many_masters(self) -> None:
        """The reasons of many masters are cut off."""
        masters: list[MasterSnapshot] = [replace(healthy_master(f"m{n}"), voters_reachable=0) for n in range(50)]
        self.assertEqual(len(HttpHarness(FakeView(*masters)).get("/ready").document["reasons"]), 20)
