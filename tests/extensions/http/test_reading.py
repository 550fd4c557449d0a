"""Tests of ``txsentinel.extensions.http.reading``."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.fixture import PEER_IDS, FakeView, failover_record, healthy_master, publisher_state, settings
from tests.extensions.http.harness import HttpHarness
from txsentinel.model.history import FailoverKind


class ReadingCase(SynchronousTestCase):
    """A server over the three masters of the fixture."""

    def setUp(self) -> None:
        self.server = HttpHarness()

    def names(self, target: str) -> list[str]:
        """Return the names of the masters in a list."""
        return [each["name"] for each in self.server.get(target).document]


class MastersTests(ReadingCase):
    """The list of masters."""

    def test_all(self) -> None:
        """All masters are there, sorted by name."""
        self.assertEqual(self.names("/v1/masters"), ["mymaster", "queue", "sessions"])
        first = self.server.get("/v1/masters").document[0]
        self.assertEqual(first["address"]["address"], "10.0.0.1:6379")
        self.assertEqual((first["replicas"], first["ok_replicas"], first["href"]), (2, 2, "/v1/masters/mymaster"))

    def test_filters(self) -> None:
        """Masters are selected by state and by a pattern of names."""
        self.assertEqual(self.names("/v1/masters?status=odown"), ["sessions"])
        self.assertEqual(self.names("/v1/masters?status=ok,sdown"), ["mymaster", "queue"])
        self.assertEqual(self.names("/v1/masters?name=*s*"), ["mymaster", "sessions"])
        self.assertEqual(self.names("/v1/masters?name=*s*&status=ok"), ["mymaster"])

    def test_pages(self) -> None:
        """Following the links gives every master once, also if one is removed meanwhile."""
        view = FakeView(*(healthy_master(f"m {n:03}") for n in range(25)))
        server = HttpHarness(view)
        target: str | None = "/v1/masters?limit=10&status=ok"
        found = []
        while target is not None:
            reply = server.get(target)
            found += [each["name"] for each in reply.document]
            link = reply.headers.get("link")
            target = None if link is None else link[1 : link.index(">")]
            if len(found) == 10:
                view.remove("m 009")
        self.assertEqual(found, [f"m {n:03}" for n in range(25)])

    def test_default_page(self) -> None:
        """Without a limit there are 200 elements, and never more than 1000."""
        server = HttpHarness(FakeView(*(healthy_master(f"m{n:04}") for n in range(1200))))
        self.assertEqual(len(server.get("/v1/masters").document), 200)
        self.assertEqual(len(server.get("/v1/masters?limit=1000").document), 1000)
        self.assertEqual(server.get("/v1/masters?limit=1001").code, "bad_request")

    def test_wrong_parameters(self) -> None:
        """Wrong parameters are named."""
        for query in ("limit=0", "limit=x", "limit=99999999999999999999", "status=up", "status=", f"name={'a' * 257}"):
            reply = self.server.get(f"/v1/masters?{query}")
            self.assertEqual((reply.status, reply.code), (400, "bad_request"), query)
            self.assertIn(query.partition("=")[0], reply.document["detail"])

    def test_etag(self) -> None:
        """An unchanged state is not sent again; a change is."""
        for target in ("/v1/masters", "/v1/masters/mymaster", "/v1/masters/mymaster/replicas"):
            tag = self.server.get(target).headers["etag"]
            for text in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
                reply = self.server.get(target, If_None_Match=text)
                self.assertEqual((reply.status, reply.body), (304, b""), text)
                self.assertEqual(reply.headers["etag"], tag)
            self.server.view.put(replace(self.server.view.master("mymaster"), config_epoch=9))
            self.assertEqual(self.server.get(target, If_None_Match=tag).status, 200)

    def test_etag_of_another_process(self) -> None:
        """Revisions begin anew in each process; a tag of another one does not match."""
        tag = self.server.get("/v1/masters").headers["etag"]
        self.server.view.sentinel = replace(self.server.view.sentinel, run_id="0" * 40)
        self.assertEqual(self.server.get("/v1/masters", If_None_Match=tag).status, 200)


class MasterTests(ReadingCase):
    """One master and its parts."""

    def test_master(self) -> None:
        """It has what the snapshot has, the majority, TILT, and when instances last answered."""
        document = self.server.get("/v1/masters/sessions").document
        self.assertEqual(document["failover"]["state"], "wait_promotion")
        self.assertEqual((document["majority"], document["tilt"]), (2, False))
        self.assertEqual(document["replicas"][0]["name"], "10.0.1.2:6379")
        self.assertEqual(document["probes"]["10.0.1.2:6379"]["info_at"], "2027-01-15T08:00:59.000Z")
        self.assertEqual(self.server.get("/v1/masters/queue").document["address"]["address"], "[2001:db8::5]:6390")

    def test_parts(self) -> None:
        """Replicas, Sentinels, settings and the journal have routes of their own."""
        replicas = self.server.get("/v1/masters/mymaster/replicas").document
        self.assertEqual([each["unfit_code"] for each in replicas], [None, "priority_zero"])
        sentinels = self.server.get("/v1/masters/mymaster/sentinels").document
        self.assertEqual([each["kind"] for each in sentinels], ["txsentinel", "c"])
        self.assertEqual(self.server.get("/v1/config/mymaster").document["down_after_ms"], settings().down_after_ms)
        journal = self.server.get("/v1/masters/mymaster/journal?after=1").document
        self.assertEqual([each["what"] for each in journal], ["odown", "vote-given"])
        self.assertEqual(len(self.server.get("/v1/masters/mymaster/journal?limit=1").document), 1)

    def test_explain(self) -> None:
        """The journal is part of an explanation if the client wants it; the newest records then."""
        document = self.server.get("/v1/masters/queue/explain").document
        self.assertEqual(document["verdict"]["code"], "majority_unreachable")
        self.assertEqual(document["unblock"][0]["do"], "start the Sentinel at 10.0.0.12:26379")
        self.assertEqual(document["journal"], [])
        journal = self.server.get("/v1/masters/queue/explain?journal=2").document["journal"]
        self.assertEqual([each["sequence"] for each in journal], [2, 3])
        self.assertEqual(self.server.view.explained, ["queue", "queue"])

    def test_explanations_of_the_group(self) -> None:
        """The other Sentinels are asked if the client wants it; who has not answered is named."""
        document = self.server.get("/v1/masters/mymaster/explain?fleet=1&journal=1").document
        (opinion,) = document["fleet"]
        self.assertEqual(opinion["sentinel_id"], PEER_IDS[0])
        self.assertEqual((opinion["config_epoch"], opinion["contradiction"]), (6, "it has epoch 6"))
        self.assertEqual(document["missing"], [PEER_IDS[1]])
        self.assertEqual([each["sequence"] for each in document["journal"]], [3])
        self.assertEqual(self.server.get("/v1/masters/mymaster/explain?fleet=0").document["fleet"], [])
        self.assertEqual(self.server.get("/v1/masters/mymaster/explain?fleet=2").status, 400)

    def test_drift(self) -> None:
        """Settings have those that other Sentinels have differently; an epoch is no setting."""
        document = self.server.get("/v1/config/mymaster").document
        self.assertEqual(document["quorum"], 2)
        (drift,) = document["drift"]
        self.assertEqual(
            drift,
            {
                "sentinel": PEER_IDS[0],
                "address": {"host": "10.0.0.12", "port": 26379, "address": "10.0.0.12:26379"},
                "option": "quorum",
                "here": "2",
                "there": "3",
            },
        )
        self.assertEqual(document["missing"], [{"sentinel": PEER_IDS[1], "text": "no answer in time"}])

    def test_names(self) -> None:
        """Any name can be asked for, and is shown as it is."""
        for name in ("a/b", "ä ö", 'quo"te', "<script>", "a\r\nb", "\udcff\udc80", "%2F", ".."):
            self.server.view.put(healthy_master(name))
            path = f"/v1/masters/{quote(name, safe='', errors='surrogateescape')}"
            reply = self.server.get(path)
            self.assertEqual((reply.status, reply.document["name"]), (200, name))
            self.assertTrue(reply.body.isascii())
            self.assertIn(path, [each["href"] for each in self.server.get("/v1/masters").document])

    def test_unknown(self) -> None:
        """Unknown masters are 404 on every route, with the name escaped."""
        for path in ("", "/replicas", "/sentinels", "/explain", "/journal"):
            reply = self.server.get(f"/v1/masters/no%0abody{path}")
            self.assertEqual((reply.status, reply.code), (404, "unknown_master"), path)
            self.assertIn("'no\\nbody'", reply.document["detail"])
        self.assertEqual(self.server.get("/v1/config/nobody").code, "unknown_master")


class SentinelTests(ReadingCase):
    """The Sentinel itself."""

    def test_sentinel(self) -> None:
        """It has its identity, state and load."""
        document = self.server.get("/v1").document
        self.assertEqual((document["pid"], document["masters"]), (4242, 3))
        self.assertEqual((document["storage"]["state"], document["load"]["links"]), ("ok", 9))
        self.assertEqual(document["started_at"], "2027-01-15T08:00:00.000Z")

    def test_publishers(self) -> None:
        """It has what publishers could not publish, not what they have published of all masters."""
        self.server.view.publishers.add(lambda master: [publisher_state()])
        (publisher,) = self.server.get("/v1").document["publishers"]
        self.assertEqual((publisher["publisher"], publisher["masters"], publisher["pending"]), ("etcd", 3, 1))
        self.assertEqual([each["master"] for each in publisher["problems"]], ["mymaster", "queue"])
        self.assertEqual(publisher["outcomes"]["failed"], 3)

    def test_openapi(self) -> None:
        """The description has every route once."""
        document = self.server.get("/v1/openapi.json").document
        found = {(path, method) for path, methods in document["paths"].items() for method in methods}
        routes = self.server.application.router.routes
        self.assertEqual(found, {(each.pattern, each.method.lower()) for each in routes})
        self.assertEqual([each.pattern for each in routes if not each.summary], [])


class HistoryTests(ReadingCase):
    """Past failovers."""

    def setUp(self) -> None:
        super().setUp()
        forced = replace(failover_record("sessions", 6), kind=FailoverKind.FORCED)
        self.server.view.records.append(forced)

    def epochs(self, query: str) -> list[int]:
        """Return the epochs of the failovers that match."""
        return [each["epoch"] for each in self.server.get(f"/v1/history{query}").document]

    def test_filters(self) -> None:
        """Failovers are selected by master, kind and time."""
        self.assertEqual(self.epochs(""), [7, 5, 6])
        self.assertEqual(self.epochs("?master=sessions"), [6])
        self.assertEqual(self.epochs("?kind=automatic"), [7, 5])
        self.assertEqual(self.epochs("?limit=1"), [7])
        self.assertEqual(self.epochs("?since=2027-01-15T08:00:10Z"), [7, 5, 6])
        self.assertEqual(self.epochs("?since=2027-01-15T10:00:10.001%2B02:00"), [])
        for query in (
            "?kind=odd",
            "?since=yesterday",
            "?since=2027-01-15T08:00:10",
        ):
            self.assertEqual(self.server.get(f"/v1/history{query}").status, 400, query)

    def test_merge(self) -> None:
        """Records of one failover become one entry."""
        self.server.view.records.append(replace(failover_record("mymaster", 7), observer="b" * 40))
        document = self.server.get("/v1/history?merge=1").document
        self.assertEqual([len(each["records"]) for each in document], [2, 1, 1])
        self.assertEqual(document[0]["epoch"], 7)

    def test_record(self) -> None:
        """One record is found by its ID or its group."""
        record = failover_record()
        for word in (record.record_id, record.group):
            self.assertEqual(self.server.get(f"/v1/history/{word}").document["record_id"], record.record_id)
        reply = self.server.get("/v1/history/unknown")
        self.assertEqual((reply.status, reply.code), (404, "unknown_record"))
