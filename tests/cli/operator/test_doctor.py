"""``txsentinel doctor`` over canned fleets."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from tests.cli.operator.runner import VerbCase
from tests.remote.samples import NAME, SENTINELS, fleet, master_report, replica, sentinel
from txsentinel.cli.operator import doctor
from txsentinel.remote.agreement import AddressAgreement
from txsentinel.remote.doctor.examination import Examination


class DoctorTests(VerbCase):
    """Findings, formats and statuses."""

    def setUp(self) -> None:
        super().setUp()

        def examine(agreement: AddressAgreement, *others: Any) -> Examination:
            return Examination(agreement)

        self.patch(doctor, "examine", examine)
        self.patch(doctor, "global_drifts", lambda *arguments: [])

    def test_sound(self) -> None:
        """One line, and status 0."""
        self.fleet = fleet()
        found = self.run_verb("doctor")
        self.assertEqual(
            found.stdout,
            "mymaster  0 errors, 0 warnings, 0 notes   (20 checks; 3 of 3 Sentinels and 0 of 0 servers read)\n",
        )
        self.assertEqual(found.status, 0)

    def test_errors(self) -> None:
        """Each finding has a line, and its repair another one; the status is 2."""
        zero = [replica("10.0.0.1", slave_priority="0")]
        self.fleet = fleet(*(sentinel(each, master_report(each, replicas=zero)) for each in SENTINELS))
        found = self.run_verb("doctor", NAME)
        self.assertEqual(found.status, 2)
        self.assertIn(
            " ERROR   D04  mymaster  no replica could be promoted: 10.0.0.1:6379: priority 0\n"
            " NOTE    D19  10.0.0.1:6379  it has priority 0 and is never promoted\n"
            "              fix: CONFIG SET replica-priority 100\n",
            found.stdout,
        )
        shown = json.loads(self.run_verb("doctor", NAME, "-o", "json").stdout)
        self.assertEqual([each["check"] for each in shown[0]["findings"]], ["D04", "D19"])
        self.assertEqual(shown[0]["findings"][0]["severity"], "error")

    def test_warnings(self) -> None:
        """The status of warnings is 1."""
        self.fleet = fleet(*(sentinel(each, quorum="1") for each in SENTINELS))
        found = self.run_verb("doctor", NAME, "-o", "tsv")
        self.assertEqual(found.status, 1)
        self.assertEqual(found.stdout.splitlines()[1].split("\t")[:3], [NAME, "D02", "warning"])

    def test_tilt(self) -> None:
        """Active checks are refused in TILT."""
        one, *others = fleet().sentinels
        assert one.identity is not None
        tilted = replace(one, identity=replace(one.identity, server_fields={"sentinel_tilt": "1"}))
        self.fleet = fleet(tilted, *others)
        found = self.run_verb("doctor", "--active")
        self.assertEqual(found.status, 64)
        self.assertIn("10.0.0.11:26379 is in TILT", found.stderr)
