"""The metrics of a fleet, over canned answers."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from tests.remote.samples import (
    MASTER,
    NAME,
    SENTINELS,
    fleet,
    info,
    master_report,
    replica,
    sentinel,
    unreachable,
)
from txsentinel.cli.operator.fleet_metrics import MAX_AGE, FleetPages, page
from txsentinel.extensions.metrics.format import Format
from txsentinel.remote.fleet import FleetReport
from txsentinel.remote.reports import InstanceReport, SentinelIdentity


def samples(found: FleetReport) -> dict[str, str]:
    """Return the samples of the page."""
    lines = page(found, Format.TEXT).decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


class PageTests(SynchronousTestCase):
    """The page."""

    def test_names_of_redis_exporter(self) -> None:
        """Each sample of redis_exporter has a label for the Sentinel besides its own ones."""
        identity = SentinelIdentity("redis", "7.0.15", None, {"sentinel_masters": "1", "sentinel_tilt": "1"})
        found = samples(fleet(replace(sentinel(SENTINELS[0]), identity=identity)))
        own = 'sentinel="10.0.0.11:26379"'
        names = f'{own},master_name="{NAME}",master_address="10.0.0.2:6379"'
        for line, value in (
            (f"redis_sentinel_masters{{{own}}}", "1"),
            (f"redis_sentinel_tilt{{{own}}}", "1"),
            (f'redis_sentinel_master_status{{{names},master_status="ok"}}', "1"),
            (f"redis_sentinel_master_slaves{{{names}}}", "2"),
            (f"redis_sentinel_master_sentinels{{{names}}}", "3"),
            (f"redis_sentinel_master_ok_slaves{{{names}}}", "2"),
            (f"redis_sentinel_master_ok_sentinels{{{names}}}", "3"),
            (f"redis_sentinel_master_setting_ckquorum{{{names}}}", "2"),
            (f"redis_sentinel_master_setting_down_after_milliseconds{{{names}}}", "1500"),
            (f"redis_sentinel_master_config_epoch{{{names}}}", "7"),
            (f"redis_sentinel_master_last_ok_ping_reply_seconds{{{names}}}", "0.15"),
        ):
            self.assertEqual(found.get(line), value, line)

    def test_replicas(self) -> None:
        """Replicas that would not be promoted are counted by reason; the lag is that of the cached INFO."""
        replicas = [
            replica("10.0.0.1"),
            replica("10.0.0.3", slave_priority="0"),
            replica("10.0.0.4", flags="slave,s_down"),
        ]
        infos = [info(MASTER, "master"), info("10.0.0.1", "slave"), info("10.0.0.3", "slave", 4_000_000)]
        found = samples(fleet(sentinel(SENTINELS[0], master_report(SENTINELS[0], None, replicas, None, infos))))
        of = f'sentinel="10.0.0.11:26379",master="{NAME}"'
        unfit = {name: value for name, value in found.items() if name.startswith("txsentinel_replica_unfit")}
        expected = {f'txsentinel_replica_unfit{{{of},reason="{reason}"}}': "1" for reason in ("down", "priority_zero")}
        self.assertEqual(unfit, expected)
        lags = {name: value for name, value in found.items() if name.startswith("txsentinel_replica_lag_bytes")}
        places = {name.partition('replica="')[2].partition(":")[0] for name in lags}
        self.assertEqual(places, {"10.0.0.1", "10.0.0.3"})
        self.assertEqual(min(map(int, lags.values())), 0)
        self.assertGreater(max(map(int, lags.values())), 1_000_000)

    def test_down(self) -> None:
        """A master that is objectively down is not only subjectively down; the value is 0 then."""
        report = master_report(SENTINELS[0])
        for flags, word in (("master,s_down,o_down", "odown"), ("master,s_down", "sdown")):
            down = replace(report, master=InstanceReport({**report.master.fields, "flags": flags}))
            found = samples(fleet(replace(sentinel(SENTINELS[0]), masters={NAME: down})))
            (value,) = [value for name, value in found.items() if f'master_status="{word}"' in name]
            self.assertEqual(value, "0")

    def test_disagreement(self) -> None:
        """Different addresses are counted, and a Sentinel that does not answer is shown."""
        report = master_report(SENTINELS[0])
        moved = replace(report, master=InstanceReport({**report.master.fields, "ip": "10.0.0.1"}))
        found = samples(
            fleet(
                sentinel(SENTINELS[0]),
                replace(sentinel(SENTINELS[1]), masters={NAME: moved}),
                unreachable(SENTINELS[2]),
            )
        )
        self.assertEqual(found[f'txsentinel_master_addresses{{master="{NAME}"}}'], "2")
        reachable = [found[f'txsentinel_sentinel_reachable{{sentinel="{each}:26379"}}'] for each in SENTINELS]
        self.assertEqual(reachable, ["1", "1", "0"])

    def test_read_once_a_second(self) -> None:
        """Pages of all formats share what was read, for a second."""
        now, read = [0.0], [0]

        def reader() -> FleetReport:
            read[0] += 1
            return fleet(sentinel(SENTINELS[0]))

        pages = FleetPages(reader, lambda: now[0])
        pages.page(Format.TEXT)
        self.assertTrue(pages.page(Format.OPEN_METRICS).endswith(b"# EOF\n"))
        self.assertEqual(read, [1])
        now[0] += MAX_AGE
        pages.page(Format.TEXT)
        self.assertEqual(read, [2])
