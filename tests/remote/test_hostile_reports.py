"""Whatever Sentinels report, the verbs show it: nothing raises, and no control character is printed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.remote.samples import NAME, SENTINELS, fleet, info, master_fields, master_report, peer, replica, sentinel
from txsentinel.cli.operator.doctor import doctor_result
from txsentinel.cli.operator.drawing import dot_text
from txsentinel.cli.operator.explanation import show_explanation
from txsentinel.cli.operator.listing import list_masters, list_sentinels
from txsentinel.cli.operator.pause_column import PausesRead
from txsentinel.cli.operator.screen import FORMATS, rendered
from txsentinel.cli.operator.topology import show_topology
from txsentinel.model.snapshots import Instant
from txsentinel.remote.agreement import agreement_on
from txsentinel.remote.doctor.all_checks import findings
from txsentinel.remote.doctor.examination import Examination
from txsentinel.remote.explaining import explain_fleet
from txsentinel.remote.reports import CachedInfo, InstanceReport
from txsentinel.remote.switchover_checks import choose_candidate, choose_leader, group_problems

NO_PAUSES = PausesRead(Instant(0))

NUMBERS = st.sampled_from(["", "-1", "0", "1", "99999999999999999999", "-9999999999999999999", "18446744073709551615"])
TEXTS = st.text(st.characters(exclude_categories=[]), max_size=8)
VALUES = st.one_of(NUMBERS, TEXTS, st.sampled_from(["master,s_down,o_down", "slave,disconnected", "?", "*", "up"]))


def changed(fields: dict[str, str]) -> st.SearchStrategy[dict[str, str]]:
    """Return the fields with some values replaced, and some missing."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(fields, VALUES)).flatmap(
        lambda new: st.sets(st.sampled_from(sorted(fields)), max_size=3).map(
            lambda missing: {key: value for key, value in (fields | new).items() if key not in missing or key == "name"}
        )
    )


MASTERS = changed(master_fields() | {"s-down-time": "1", "o-down-time": "1", "failover-state": "none"}).map(
    lambda fields: fields | {"name": NAME}
)
SERVERS = changed(dict(replica("10.0.0.1").fields))
PEERS = changed(dict(peer("10.0.0.12").fields))
INFOS = changed(dict(info("10.0.0.1", "slave").fields))


class HostileReportTests(SynchronousTestCase):
    """Fields of any text."""

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(
            st.tuples(MASTERS, st.lists(SERVERS, max_size=2), st.lists(PEERS, max_size=2), INFOS),
            min_size=1,
            max_size=3,
        )
    )
    def test_shown(
        self, reported: list[tuple[dict[str, str], list[dict[str, str]], list[dict[str, str]], dict[str, str]]]
    ) -> None:
        """Every verb that only reads renders every format."""
        sentinels = []
        for host, (master, servers, peers, cached) in zip(SENTINELS, reported, strict=False):
            report = master_report(
                host, master, [InstanceReport(each) for each in servers], [InstanceReport(each) for each in peers], []
            )
            infos = {"1": CachedInfo(0, cached)}
            sentinels.append(sentinel(host, type(report)(report.master, report.replicas, report.peers, "", infos)))
        found = fleet(*sentinels)
        agreement = agreement_on(found, NAME)
        examination = Examination(agreement)
        results = [
            list_masters(found, NO_PAUSES),
            list_sentinels(found, NAME, NO_PAUSES),
            show_topology(found, NAME),
            show_explanation(explain_fleet(agreement, Instant(1_800_000_000_000)), "here"),
            doctor_result([(examination, findings(examination))]),
        ]
        for result in results:
            for form in FORMATS:
                text = rendered(result, form)
                self.assertTrue(text.replace("\n", "").replace("\t", "").isprintable(), repr(text))
        self.assertTrue(dot_text(agreement))
        candidate = choose_candidate(agreement, None)
        self.assertIsInstance(list(group_problems(agreement, candidate)), list)
        choose_leader(agreement)
