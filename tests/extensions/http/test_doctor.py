"""The checks of groups over HTTP."""

from __future__ import annotations

from dataclasses import replace

from tests.extensions.fixture import healthy_master, instant
from tests.extensions.http.test_security import SecurityCase, basic
from txsentinel.extensions.http.doctor import MAX_GROUPS
from txsentinel.interfaces import Busy
from txsentinel.model.snapshots import TiltState

ALICE = {"Authorization": basic("alice", "secret")}


class DoctorTests(SecurityCase):
    """The route of a Sentinel with three masters."""

    def test_one(self) -> None:
        """One master, with all findings or only those of some checks."""
        reply = self.server.ask("GET", "/v1/doctor?master=mymaster", ALICE)
        (group,) = reply.document
        self.assertEqual((group["master"], group["checks"], group["sentinels_read"]), ("mymaster", 20, 2))
        self.assertEqual([each["check"] for each in group["findings"]], ["D02", "D13"])
        self.assertEqual(group["findings"][1]["fix"], "CONFIG SET")
        (group,) = self.server.ask("GET", "/v1/doctor?master=mymaster&checks=D13,D14", ALICE).document
        self.assertEqual([each["check"] for each in group["findings"]], ["D13"])
        self.assertEqual(self.server.view.examined, [("mymaster", False)] * 2)

    def test_all(self) -> None:
        """All masters unless there are too many."""
        found = self.server.ask("GET", "/v1/doctor", ALICE).document
        self.assertEqual([each["master"] for each in found], ["mymaster", "sessions", "queue"])
        for number in range(MAX_GROUPS):
            self.server.view.put(healthy_master(f"m{number}"))
        reply = self.server.ask("GET", "/v1/doctor", ALICE)
        self.assert_problem(reply, 400, "bad_request")
        self.assertIn("35 masters", reply.document["detail"])

    def test_wrong_requests(self) -> None:
        """Unknown masters and checks are refused."""
        self.assert_problem(self.server.ask("GET", "/v1/doctor?master=x", ALICE), 404, "unknown_master")
        self.assert_problem(self.server.ask("GET", "/v1/doctor?checks=D1", ALICE), 400, "bad_request")

    def test_failures(self) -> None:
        """A group that cannot be read, and too much work, are problems with their reason."""
        self.server.view.examination_problem = LookupError("the group cannot be read: refused")
        reply = self.server.ask("GET", "/v1/doctor?master=queue", ALICE)
        self.assert_problem(reply, 503, "group_unreadable")
        self.assertIn("refused", reply.document["detail"])
        self.server.view.examination_problem = Busy("8 examinations wait already")
        reply = self.server.ask("GET", "/v1/doctor?master=queue", ALICE)
        self.assert_problem(reply, 503, "busy")
        self.assertEqual(reply.headers["retry-after"], "10")

    def test_active(self) -> None:
        """Active checks need a login and the right to change settings, and TILT to be over."""
        target = "/v1/doctor?master=mymaster&active=1"
        self.assertEqual(self.server.ask("GET", target, ALICE).status, 200)
        self.assertEqual(self.server.view.examined, [("mymaster", True)])
        self.server.operator.denied = {("alice", "sentinel|set")}
        self.assert_problem(self.server.ask("GET", target, ALICE), 403, "not_permitted")
        self.assertEqual(self.server.ask("GET", "/v1/doctor?master=mymaster", ALICE).status, 200)
        self.server.operator.denied.clear()
        tilt = TiltState(True, instant(50), instant(80), "stall", 1)
        self.server.view.sentinel = replace(self.server.view.sentinel, tilt=tilt)
        self.assert_problem(self.server.ask("GET", target, ALICE), 503, "tilt")
        del self.server.operator.passwords["default"]
        self.assertEqual(self.server.get("/v1/doctor?master=mymaster").status, 200)
        self.assert_problem(self.server.get(target), 401, "login_required")
        self.server.operator.denied = {("alice", "txsentinel|doctor")}
        self.assert_problem(self.server.ask("GET", "/v1/doctor", ALICE), 403, "not_permitted")
