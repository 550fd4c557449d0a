"""``contrib/alerts.yaml``: each alert fires for what it is for, and not otherwise, according to ``promtool``."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import unittest
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.extensions.metrics.catalogue import CATALOGUE
from txsentinel.extensions.metrics.format import Kind

ALERTS: Final = Path(__file__).resolve().parents[2] / "contrib" / "alerts.yaml"

S: Final = 'job="s",instance="a:1"'
M: Final = f'{S},master="m"'
BUILD: Final = f'txsentinel_build_info{{{S},version="1",python="3",compiled="1"}}'
FAILOVERS: Final = f'txsentinel_failovers_total{{{M},kind="automatic",outcome="%s",role="leader"}}'
ADDRESS: Final = 'txsentinel_master_info{job="s",instance="%s",master="m",address="%s",runid=""}'


@dataclass(frozen=True)
class Case:
    """
    One alert.

    ``fires`` and ``quiet`` map series, scraped each 15 s, to values in the notation of promtool; ``summary`` and
    ``labels`` are what the alert then shows, besides severity, job and instance.
    """

    name: str
    severity: str
    fires: dict[str, str]
    quiet: dict[str, str]
    summary: str
    labels: dict[str, str] = field(default_factory=dict)
    instance: bool = True
    at: str = "30m"


MASTER: Final = {"master": "m"}

CASES: Final = (
    Case(
        "TxsentinelUnreachable",
        "warning",
        {f"up{{{S}}}": "1x60 0x60", BUILD: "1x60 _x60"},
        {f"up{{{S}}}": "1x120", BUILD: "1x120", 'up{job="other",instance="b:1"}': "0x120"},
        "The Sentinel a:1 cannot be scraped",
    ),
    Case(
        "TxsentinelStalled",
        "critical",
        {f"txsentinel_last_sweep_timestamp_seconds{{{S}}}": "1700x120"},
        {f"txsentinel_last_sweep_timestamp_seconds{{{S}}}": "0+15x120"},
        "The Sentinel a:1 answers but monitors nothing",
    ),
    Case(
        "TxsentinelMasterDown",
        "critical",
        {f"txsentinel_master_odown{{{M}}}": "0x110 1x10"},
        {f"txsentinel_master_odown{{{M}}}": "0x117 1x3"},
        "The master m is down and was not failed over within a minute",
        MASTER,
        instance=False,
    ),
    Case(
        "TxsentinelNoMajority",
        "critical",
        {f"txsentinel_voters_reachable{{{M}}}": "1x120", f"txsentinel_voters_needed{{{M}}}": "2x120"},
        {f"txsentinel_voters_reachable{{{M}}}": "2x120", f"txsentinel_voters_needed{{{M}}}": "2x120"},
        "a:1 reaches too few Sentinels to fail over m: 1",
        MASTER,
    ),
    Case(
        "TxsentinelQuorumTooHigh",
        "critical",
        {f"txsentinel_voters{{{M}}}": "3x120", f"txsentinel_voters_needed{{{M}}}": "4x120"},
        {f"txsentinel_voters{{{M}}}": "3x120", f"txsentinel_voters_needed{{{M}}}": "3x120"},
        "m can never be failed over: 4 Sentinels are needed, fewer are known",
        MASTER,
    ),
    Case(
        "TxsentinelNoFailureSurvivable",
        "warning",
        {f"txsentinel_failures_survivable{{{M}}}": "0x120"},
        {f"txsentinel_failures_survivable{{{M}}}": "1x120"},
        "m cannot be failed over if one more Sentinel fails, as a:1 sees it",
        MASTER,
    ),
    Case(
        "TxsentinelGhostVoter",
        "warning",
        {f"txsentinel_voters{{{M}}}": "5x300", f"txsentinel_voters_reachable{{{M}}}": "3x300"},
        {f"txsentinel_voters{{{M}}}": "5x300", f"txsentinel_voters_reachable{{{M}}}": "5x100 3x10 5x190"},
        "a:1 has not reached 2 Sentinels of m for an hour",
        MASTER,
        at="70m",
    ),
    Case(
        "TxsentinelNoReplicaFit",
        "critical",
        {f"txsentinel_replicas_fit{{{M}}}": "0x120"},
        {f"txsentinel_replicas_fit{{{M}}}": "1x120"},
        "No replica of m could be promoted now",
        MASTER,
        instance=False,
    ),
    Case(
        "TxsentinelAddressesDiffer",
        "critical",
        {ADDRESS % ("a:1", "10.0.0.1:6379"): "1x120", ADDRESS % ("b:1", "10.0.0.2:6379"): "1x120"},
        {ADDRESS % ("a:1", "10.0.0.1:6379"): "1x120", ADDRESS % ("b:1", "10.0.0.1:6379"): "1x120"},
        "The Sentinels name 2 addresses for m",
        MASTER,
        instance=False,
    ),
    Case(
        "TxsentinelPeersDisagree",
        "warning",
        {f'txsentinel_peers_disagreeing{{{M},about="quorum"}}': "1x120"},
        {f'txsentinel_peers_disagreeing{{{M},about="quorum"}}': "0x120"},
        "1 Sentinels differ from a:1 about the quorum of m",
        {**MASTER, "about": "quorum"},
    ),
    Case(
        "TxsentinelStorageFailing",
        "critical",
        {f"txsentinel_storage_failing{{{S}}}": "0x100 1x20"},
        {f"txsentinel_storage_failing{{{S}}}": "1x100 0x20"},
        "The Sentinel a:1 cannot save its state, so it neither votes nor leads",
    ),
    Case(
        "TxsentinelTilt",
        "warning",
        {f'txsentinel_tilt_total{{{S},cause="loop-late"}}': "0x110 1x10"},
        {f'txsentinel_tilt_total{{{S},cause="loop-late"}}': "1x120"},
        "The Sentinel a:1 was in TILT: loop-late",
        {"cause": "loop-late"},
    ),
    Case(
        "TxsentinelLoopLag",
        "warning",
        {
            f'txsentinel_loop_lag_seconds_bucket{{{S},le="0.25"}}': "0x120",
            f'txsentinel_loop_lag_seconds_bucket{{{S},le="0.5"}}': "0+100x120",
            f'txsentinel_loop_lag_seconds_bucket{{{S},le="+Inf"}}': "0+100x120",
        },
        {
            f'txsentinel_loop_lag_seconds_bucket{{{S},le="0.25"}}': "0+100x120",
            f'txsentinel_loop_lag_seconds_bucket{{{S},le="0.5"}}': "0+100x120",
            f'txsentinel_loop_lag_seconds_bucket{{{S},le="+Inf"}}': "0+100x120",
        },
        "The Sentinel a:1 runs late: 497.5ms",
    ),
    Case(
        "TxsentinelFailoverFailed",
        "critical",
        {FAILOVERS % "no_good_replica": "_x100 1x20", FAILOVERS % "switched": "0x120"},
        {FAILOVERS % "no_good_replica": "1x120", FAILOVERS % "switched": "0x100 1x20"},
        "A failover of m failed: no_good_replica",
        {**MASTER, "kind": "automatic", "outcome": "no_good_replica", "role": "leader"},
    ),
    Case(
        "TxsentinelFailover",
        "info",
        {FAILOVERS % "switched": "0x100 1x20"},
        {FAILOVERS % "switched": "1x120", FAILOVERS % "not_elected": "0x100 1x20"},
        "m was failed over (automatic)",
        {**MASTER, "kind": "automatic", "outcome": "switched", "role": "leader"},
    ),
    Case(
        "TxsentinelFlapping",
        "critical",
        {FAILOVERS % "switched": "0x60 1x60 2x60 3x60 4x60"},
        {FAILOVERS % "switched": "0x240 2x60"},
        "m was failed over 4 times within an hour",
        MASTER,
        instance=False,
        at="62m",
    ),
    Case(
        "TxsentinelWritesLost",
        "critical",
        {f"txsentinel_lost_bytes_total{{{M}}}": "_x100 2048x20"},
        {f"txsentinel_lost_bytes_total{{{M}}}": "2048x120"},
        "m lost 2kiB of writes in a failover",
        MASTER,
    ),
    Case(
        "TxsentinelLoginRefused",
        "warning",
        {f'txsentinel_link_failures_total{{{S},kind="replica",cause="auth"}}': "_x100 1x20"},
        {
            f'txsentinel_link_failures_total{{{S},kind="replica",cause="auth"}}': "3x120",
            f'txsentinel_link_failures_total{{{S},kind="replica",cause="refused"}}': "0+1x120",
        },
        "a:1 is refused by a replica: auth",
        {"kind": "replica", "cause": "auth"},
    ),
    Case(
        "TxsentinelPauseEnds",
        "info",
        {f"txsentinel_pause_until_timestamp_seconds{{{M}}}": "2000x120"},
        {f"txsentinel_pause_until_timestamp_seconds{{{M}}}": "2200x120", BUILD: "1x120"},
        "The pause of failovers of m ends in 3m 20s",
        MASTER,
    ),
    Case(
        "TxsentinelDescriptors",
        "warning",
        {f"process_open_fds{{{S}}}": "95x120", f"process_max_fds{{{S}}}": "100x120", BUILD: "1x120"},
        {f"process_open_fds{{{S}}}": "95x120", f"process_max_fds{{{S}}}": "100x120"},
        "a:1 uses 95% of its file descriptors",
    ),
    Case(
        "TxsentinelPublishLag",
        "warning",
        {f'txsentinel_publish_pending{{{S},publisher="etcd"}}': "0x110 2x10"},
        {f'txsentinel_publish_pending{{{S},publisher="etcd"}}': "0x110 2x3 0x7"},
        "a:1 cannot publish the addresses of 2 masters by etcd",
        {"publisher": "etcd"},
    ),
    Case(
        "TxsentinelPublishConflict",
        "critical",
        {f'txsentinel_publish_total{{{S},publisher="etcd",outcome="conflict"}}': "0x100 1x20"},
        {f'txsentinel_publish_total{{{S},publisher="etcd",outcome="conflict"}}': "1x120"},
        "etcd has another address of a master than a:1, with the same config epoch",
        {"publisher": "etcd", "outcome": "conflict"},
    ),
)


def rules() -> dict[str, str]:
    """Return the text of each alert in the file, by name."""
    parts = re.split(r"^      - alert: (\w+)\n", ALERTS.read_text(), flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


class AlertTests(SynchronousTestCase):
    """Tests of the rules."""

    def test_every_alert_has_a_case(self) -> None:
        """The table above lists the alerts of the file, in its order."""
        self.assertEqual([case.name for case in CASES], list(rules()))

    def test_metrics_exist(self) -> None:
        """Every metric in an expression is one that the page has."""
        known = set()
        for each in CATALOGUE:
            known |= (
                {f"{each.name}_bucket", f"{each.name}_sum", f"{each.name}_count"}
                if each.kind is Kind.HISTOGRAM
                else {each.sample}
            )
        used = set(re.findall(r"\b(?:txsentinel|process)_\w+", ALERTS.read_text()))
        self.assertEqual(used - known, set())

    def test_rules(self) -> None:
        """Each alert fires for its series and for no others of the table that are quiet."""
        if shutil.which("promtool") is None:
            raise unittest.SkipTest("promtool is not installed")
        texts = rules()
        tests = []
        for case in CASES:
            action = re.search(r'^          action: ("?)(.*)\1$', texts[case.name], re.M)
            assert action is not None, case.name
            labels = {"severity": case.severity, "job": "s", **case.labels}
            if case.instance:
                labels["instance"] = "a:1"
            fired = {
                "exp_labels": labels,
                "exp_annotations": {
                    "summary": case.summary,
                    "action": action[2].replace("{{ $labels.master }}", case.labels.get("master", "")),
                },
            }
            for series, expected in ((case.fires, [fired]), (case.quiet, [])):
                tests.append(
                    {
                        "name": f"{case.name} {'fires' if expected else 'is quiet'}",
                        "interval": "15s",
                        "input_series": [{"series": name, "values": values} for name, values in series.items()],
                        "alert_rule_test": [
                            {"eval_time": case.at, "alertname": case.name, "exp_alerts": expected},
                        ],
                    }
                )
        path = Path(self.mktemp())
        path.write_text(json.dumps({"rule_files": [str(ALERTS)], "evaluation_interval": "15s", "tests": tests}))
        done = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
