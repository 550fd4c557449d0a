"""The checks of a group: a sound one gives no finding, and for each check a broken one does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.remote.samples import (
    MASTER,
    NAME,
    REPLICAS,
    SENTINELS,
    fleet,
    identifier,
    info,
    master_fields,
    master_report,
    peer,
    replica,
    sentinel,
    unreachable,
)
from txsentinel.model.doctor import Finding, Severity
from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.agreement import Drift, agreement_on
from txsentinel.remote.doctor.all_checks import CHECKS, findings
from txsentinel.remote.doctor.examination import Certificate, Examination, ExaminedServer
from txsentinel.remote.reports import CachedInfo, InstanceReport, SentinelReport
from txsentinel.remote.servers import ServerReport

NOW = datetime(2026, 12, 1, tzinfo=timezone.utc)
SOUND_SETTINGS = {"min-replicas-to-write": "1", "save": "3600 1"}


def server(host: str, settings: dict[str, str] | None = None, written: int = 1000, **fields: str) -> ExaminedServer:
    """Return a sound server; ``written`` bytes of its stream were written in a second."""
    role = "master" if host == MASTER else "slave"
    first = dict(info(host, role).fields) | fields
    later = dict(info(host, role, 5_215_869 + written).fields)
    return ExaminedServer(
        Endpoint(host, 6379),
        ServerReport(first),
        ServerReport(later),
        1000.0,
        SOUND_SETTINGS if settings is None else settings,
        {},
        1.0,
    )


def servers(*changed: ExaminedServer) -> dict[Endpoint, ExaminedServer]:
    """Return master and replicas; ``changed`` ones replace the sound ones."""
    found = {each.endpoint: each for each in (server(host) for host in (MASTER, *REPLICAS))}
    return found | {each.endpoint: each for each in changed}


def examination(sentinels: Sequence[SentinelReport] = (), **parts: Any) -> Examination:
    """Return an examination of sound parts, except for those that are given."""
    return Examination(agreement_on(fleet(*sentinels), NAME), **{"servers": servers(), "now": NOW, **parts})


def group(
    replicas: list[InstanceReport] | None = None,
    peers: list[InstanceReport] | None = None,
    infos: list[CachedInfo] | None = None,
    **changed: Any,
) -> list[SentinelReport]:
    """Return three Sentinels that report the same."""
    return [
        sentinel(
            host,
            master_report(
                host,
                master_fields(**changed),
                replicas,
                [each for each in peers or [peer(each) for each in SENTINELS] if each.endpoint.host != host],
                infos,
            ),
        )
        for host in SENTINELS
    ]


class DoctorTests(SynchronousTestCase):
    """One broken group for each check."""

    def found(self, check: str, broken: Examination) -> list[Finding]:
        """Return what one check finds; the same finding is among those of all checks."""
        found = list(CHECKS[check](broken))
        self.assertTrue(all(each.check == check for each in found))
        self.assertLessEqual({each.text for each in found}, {each.text for each in findings(broken)})
        return found

    def one(self, check: str, severity: Severity, text: str, broken: Examination) -> Finding:
        """Check that there is one finding with this severity and text."""
        found = [each for each in self.found(check, broken) if text in each.text]
        self.assertEqual(len(found), 1, [each.text for each in self.found(check, broken)])
        self.assertEqual(found[0].severity, severity)
        return found[0]

    def test_sound(self) -> None:
        """A sound group, of C Sentinels with logins, gives none."""
        self.assertEqual(findings(examination()), ())

    def test_all_checks(self) -> None:
        """There are twenty."""
        self.assertEqual(list(CHECKS), [f"D{number:02}" for number in range(1, 21)])

    def test_errors_come_first(self) -> None:
        """Findings are sorted by severity."""
        found = findings(examination(group(replicas=[replica("10.0.0.1", slave_priority="0")], quorum="1")))
        order = [each.severity for each in found]
        self.assertEqual(order, sorted(order, key=[Severity.ERROR, Severity.WARNING, Severity.NOTE].index))
        self.assertGreater(len(set(order)), 2)

    def test_d01_addresses(self) -> None:
        """One Sentinel has another address, or another epoch."""
        odd = sentinel(SENTINELS[2], ip="10.0.0.1", config_epoch="6")
        found = self.one(
            "D01", Severity.ERROR, "it answers with 10.0.0.1:6379 of epoch 6", examination([*group()[:2], odd])
        )
        self.assertEqual(found.subject, "10.0.0.13:26379")
        odd = sentinel(SENTINELS[2], config_epoch="6")
        self.one("D01", Severity.ERROR, "it has epoch 6, the others 7", examination([*group()[:2], odd]))

    def test_d01_no_majority(self) -> None:
        """A single Sentinel answers."""
        alone = [group()[0], *(unreachable(each) for each in SENTINELS[1:])]
        self.one("D01", Severity.ERROR, "only 1 of 3 Sentinels answer", examination(alone))

    def test_d02_arithmetic(self) -> None:
        """The quorum is too high or too low, Sentinels are down or gone, or counted differently."""
        self.one("D02", Severity.ERROR, "the quorum is 4, but only 3", examination(group(quorum="4")))
        self.one("D02", Severity.WARNING, "the quorum is 1", examination(group(quorum="1")))
        gone = {"flags": "s_down,sentinel,disconnected", "last_hello_message": str(6 * 86_400_000)}
        peers = [*(peer(each) for each in SENTINELS), *(peer(f"10.0.0.{each}", **gone) for each in range(14, 18))]
        broken = examination(group(peers=peers))
        self.one("D02", Severity.ERROR, "4 of 7 Sentinels are needed for a failover, 3 are live", broken)
        self.assertEqual(len([each for each in self.found("D02", broken) if "144 hours" in each.text]), 4)
        fewer = sentinel(SENTINELS[0], master_report("", peers=[peer(SENTINELS[1])]))
        self.one(
            "D02",
            Severity.ERROR,
            "10.0.0.11:26379 knows 2, 10.0.0.12:26379 knows 3",
            examination([fewer, *group()[1:]]),
        )

    def test_d03_survival(self) -> None:
        """Two of three Sentinels, or the only fit replica, are on one host."""
        hosts = ("10.0.0.11", "10.0.0.12", "10.0.0.12")
        peers = [peer(host, port=str(26379 + place), runid=f"{place:040}") for place, host in enumerate(hosts)]
        together = [
            replace(
                sentinel(host, master_report("", peers=[each for each in peers if each is not peers[place]])),
                endpoint=peers[place].endpoint,
                sentinel_id=peers[place].run_id,
            )
            for place, host in enumerate(hosts)
        ]
        found = self.one("D03", Severity.NOTE, "1 Sentinels would be left, 2 are needed", examination(together))
        self.assertEqual(found.subject, "10.0.0.12")
        only = examination(group(replicas=[replica("10.0.0.1")]))
        found = self.one("D03", Severity.NOTE, "no fit replica would be left", only)
        self.assertEqual((found.subject, found.figures), ("10.0.0.1", {"fatal_pairs_of_others": 3}))

    def test_d04_candidates(self) -> None:
        """No replica is fit, or there is none."""
        lost = [replica("10.0.0.1", master_link_down_time="61000"), replica("10.0.0.3", slave_priority="0")]
        found = self.one("D04", Severity.ERROR, "no replica could be promoted", examination(group(replicas=lost)))
        self.assertIn("10.0.0.1:6379: it was without its master for 61,000 ms", found.text)
        self.one("D04", Severity.ERROR, "it has no replicas", examination(group(replicas=[])))

    def test_d05_rights(self) -> None:
        """What a failover needs is an error, what only a coordinated one needs a warning."""
        denied = {
            "SLAVEOF": "NOPERM User s has no permissions to run the 'slaveof' command",
            "CLIENT PAUSE": "NOPERM x",
        }
        broken = examination(servers=servers(replace(server(MASTER), denied=denied)))
        found = self.one("D05", Severity.ERROR, "SLAVEOF, needed for a failover, is refused: NOPERM", broken)
        self.assertEqual(found.fix, "ACL SETUSER USER +slaveof")
        found = self.one("D05", Severity.WARNING, "CLIENT PAUSE, needed for a coordinated failover", broken)
        self.assertEqual(found.fix, "ACL SETUSER USER +client|pause")

    def test_d06_reachability(self) -> None:
        """One Sentinel does not reach a replica, none reaches another one, and we do not reach a Sentinel."""
        first = sentinel(
            SENTINELS[0],
            master_report(
                "",
                replicas=[replica("10.0.0.1", flags="slave,disconnected"), replica("10.0.0.3", flags="slave,s_down")],
            ),
        )
        others = group(replicas=[replica("10.0.0.1"), replica("10.0.0.3", flags="slave,s_down")])[1:]
        broken = examination([first, others[0], unreachable(SENTINELS[2])])
        self.one("D06", Severity.WARNING, "the replica is not reached by 10.0.0.11:26379", broken)
        self.one("D06", Severity.WARNING, "the replica is not reached by all Sentinels", broken)
        self.one("D06", Severity.WARNING, "does not answer from here: connection refused", broken)
        closed = ExaminedServer(Endpoint(MASTER, 6379), problem="NOAUTH Authentication required.")
        self.one("D06", Severity.NOTE, "its settings are not checked: NOAUTH", examination(servers=servers(closed)))

    def test_d07_logins(self) -> None:
        """A C Sentinel answers without a login; one of ours may."""
        ours = sentinel(SENTINELS[0], kind="txsentinel", version="0.2.0")
        opened = frozenset(Endpoint(each, 26379) for each in SENTINELS[:2])
        broken = examination([ours, *group()[1:]], open_sentinels=opened)
        self.assertEqual(self.one("D07", Severity.WARNING, "without a login", broken).subject, "10.0.0.12:26379")

    def test_d08_clocks(self) -> None:
        """A clock is more than half a second ahead, with certainty."""
        one, two, three = group()
        broken = examination([one, replace(two, clock_offset_ms=4203.0), three])
        found = self.one("D08", Severity.WARNING, "its clock is 4.2 s ahead of that of 10.0.0.11:26379", broken)
        self.assertEqual(found.subject, "10.0.0.12:26379")
        self.assertEqual(
            self.found("D08", examination([one, replace(two, clock_offset_ms=4203.0, took_ms=9000.0)])), []
        )

    def test_d09_drift(self) -> None:
        """Settings of the master or of the Sentinels differ, or those that only ours have."""
        odd = sentinel(SENTINELS[2], failover_timeout="5000")
        self.one("D09", Severity.WARNING, "failover-timeout differs", examination([*group()[:2], odd]))
        drift = Drift("resolve-hostnames", {Endpoint("a", 1): "yes", Endpoint("b", 1): "no"}, None)
        self.one("D09", Severity.WARNING, "resolve-hostnames differs: a:1 has yes", examination(own_drifts=(drift,)))
        own = {Endpoint(host, 26379): {"masters": [{"name": NAME, "options_hash": host}]} for host in SENTINELS[:2]}
        self.one("D09", Severity.WARNING, "settings that C Sentinels do not have differ", examination(own=own))

    def test_d10_identities(self) -> None:
        """One server has two addresses, or a Sentinel is known under two."""
        twice = [replica("10.0.0.1"), replica("redis-1.example", runid=identifier("10.0.0.1"))]
        found = self.one("D10", Severity.ERROR, "one server is known under several", examination(group(replicas=twice)))
        self.assertEqual(found.subject, "10.0.0.1:6379, redis-1.example:6379")
        named = sentinel(
            SENTINELS[0],
            master_report("", peers=[peer("s2.example", runid=identifier(SENTINELS[1])), peer(SENTINELS[2])]),
        )
        self.one("D10", Severity.ERROR, "one Sentinel is known under several", examination([named, *group()[1:]]))

    def test_d11_lineage(self) -> None:
        """A replica has the data of another master; a Sentinel does not monitor the master."""
        infos = [info(MASTER, "master"), info("10.0.0.1", "slave", master_replid="9" * 40), info("10.0.0.3", "slave")]
        found = self.one("D11", Severity.ERROR, "its replication ID 99999999 is not", examination(group(infos=infos)))
        self.assertEqual(found.subject, "10.0.0.1:6379")
        syncing = info("10.0.0.1", "slave", master_replid="9" * 40, master_link_status="down")
        self.assertEqual(self.found("D11", examination(group(infos=[infos[0], syncing]))), [])
        idle = replace(group()[2], masters={})
        self.one("D11", Severity.ERROR, "it does not monitor it", examination([*group()[:2], idle]))

    def test_d12_timings(self) -> None:
        """A mixed group has a short down-after; the failover-timeout is short; a PING takes long."""
        ours = sentinel(SENTINELS[0], kind="txsentinel", version="0.2.0", down_after_milliseconds="1000")
        mixed = [ours, *group(down_after_milliseconds="1000")[1:]]
        self.one("D12", Severity.WARNING, "a mixed group needs 1500", examination(mixed))
        self.one("D12", Severity.WARNING, "less than three times", examination(group(failover_timeout="4000")))
        slow = servers(replace(server(MASTER), ping_ms=600.0))
        self.one("D12", Severity.WARNING, "a PING from here took 600 ms", examination(servers=slow))

    def test_d13_isolation(self) -> None:
        """The master needs no replicas, unless ours fence it."""
        open_master = servers(server(MASTER, SOUND_SETTINGS | {"min-replicas-to-write": "0"}))
        self.one("D13", Severity.WARNING, "min-replicas-to-write is 0", examination(servers=open_master))
        fenced = group(fence_isolated="min-replicas")
        self.assertEqual(self.found("D13", examination(fenced, servers=open_master)), [])

    def test_d14_backlog(self) -> None:
        """A backlog of 1 MB has the writes of five seconds at 200 kB/s."""
        small = servers(server(MASTER, written=200_000), server("10.0.0.1", repl_backlog_size="1000000"))
        found = self.one("D14", Severity.WARNING, "has the writes of 5 s", examination(servers=small))
        self.assertEqual((found.subject, found.fix), ("10.0.0.1:6379", "CONFIG SET repl-backlog-size 24000000"))

    def test_d15_persistence(self) -> None:
        """A server saves nothing."""
        volatile = servers(server("10.0.0.3", SOUND_SETTINGS | {"save": ""}, aof_enabled="0"))
        found = self.one("D15", Severity.WARNING, "it saves nothing", examination(servers=volatile))
        self.assertEqual(found.subject, "10.0.0.3:6379")

    def test_d16_chains(self) -> None:
        """A replica follows a replica that is known, or unknown ones follow a replica."""
        chained = group(replicas=[replica("10.0.0.1"), replica("10.0.0.3", master_host="10.0.0.1")])
        self.one("D16", Severity.WARNING, "it follows the replica 10.0.0.1:6379", examination(chained))
        hidden = servers(server("10.0.0.1", connected_slaves="2"))
        self.one("D16", Severity.WARNING, "2 replicas follow this replica", examination(servers=hidden))

    def test_d17_resources(self) -> None:
        """Storage fails, descriptors run out, scripts hang, a Sentinel is in TILT."""
        storage = {"state": "failing", "error": "ENOSPC, No space left on device", "path": "/etc/s.conf"}
        own = {Endpoint(SENTINELS[0], 26379): {"sentinel": {"storage": storage, "available_descriptors": 3}}}
        broken = examination(own=own)
        self.one("D17", Severity.ERROR, "it cannot save its state to /etc/s.conf: ENOSPC", broken)
        self.one("D17", Severity.ERROR, "only 3 file descriptors are left", broken)
        publisher = {"publisher": "etcd", "pending": 1, "warnings": ["mymaster: etcd refuses the address"]}
        lagging = examination(own={Endpoint(SENTINELS[0], 26379): {"sentinel": {"publishers": [publisher]}}})
        self.one("D17", Severity.ERROR, "mymaster: etcd refuses the address", lagging)
        one, *others = group()
        assert one.identity is not None
        busy = replace(
            one,
            identity=replace(
                one.identity, server_fields={"sentinel_scripts_queue_length": "101", "sentinel_tilt": "1"}
            ),
        )
        self.one("D17", Severity.ERROR, "101 scripts are queued", examination([busy, *others]))
        self.one("D17", Severity.ERROR, "it is in TILT", examination([busy, *others]))

    def test_d18_certificates(self) -> None:
        """A certificate ends soon, has ended, or names another host."""
        where = Endpoint("s1.example", 26379)

        def broken(days: int, *names: str) -> Examination:
            return examination(certificates={where: Certificate(NOW + timedelta(days=days), names)})

        self.one("D18", Severity.WARNING, "its certificate ends at 2026-12-30", broken(29, "s1.example"))
        self.one("D18", Severity.ERROR, "its certificate ended at 2026-11-30", broken(-1, "*.example"))
        self.one("D18", Severity.NOTE, "names other.example, not s1.example", broken(90, "other.example"))
        self.assertEqual(self.found("D18", broken(30, "*.example")), [])

    def test_d19_holds(self) -> None:
        """A replica has priority 0; failovers are paused."""
        parked = group(replicas=[replica("10.0.0.1"), replica("10.0.0.3", slave_priority="0")])
        self.one("D19", Severity.NOTE, "it has priority 0", examination(parked))
        own = {Endpoint(SENTINELS[0], 26379): {"masters": [{"name": NAME, "verdict": "paused"}]}}
        self.one("D19", Severity.NOTE, "failovers are paused", examination(own=own))

    def test_d20_hosts(self) -> None:
        """Two Sentinels share a host, which is that of the master."""
        hosts = (SENTINELS[0], MASTER, MASTER)
        peers = [peer(host, port=str(26379 + place), runid=f"{place:040}") for place, host in enumerate(hosts)]
        one = replace(sentinel(hosts[0], master_report("", peers=peers[1:])), sentinel_id=peers[0].run_id)
        broken = examination([one])
        self.one("D20", Severity.WARNING, "2 of 3 Sentinels are on this host", broken)
        self.one("D20", Severity.WARNING, "2 of 3 Sentinels end with the host of the master", broken)
