"""A real Prometheus that scrapes real Sentinels, and the values of redis_exporter read over RESP."""

from __future__ import annotations

import json
import re
import shutil
import unittest
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Final

from prometheus_client.openmetrics.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS, listing, shorten_periods, wait_moved
from tests.servers import (
    ChildProcess,
    DeadlineExpired,
    Fleet,
    Harness,
    ReplyError,
    SentinelProcess,
    free_port,
    info_fields,
    missing,
    pairs,
    wait_for,
)
from txsentinel.extensions.metrics.catalogue import CATALOGUE, REDIS_PEER, REDIS_REPLY_AGE
from txsentinel.extensions.metrics.format import Format

CONTRIB: Final = Path(__file__).resolve().parents[2] / "contrib"
NAME: Final = "mymaster"

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

MACROS: Final = {
    "$__rate_interval": "1m",
    "$job": ".*",
    "$instance": ".*",
    "$master": ".*",
}
"""What Grafana puts into queries."""


def get(port: int, path: str, accept: str = "application/json") -> bytes:
    """Return the body of a page of an HTTP server on this machine."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as response:
        body: bytes = response.read()
        return body


class Prometheus(ChildProcess):
    """A Prometheus that scrapes Sentinels every half second."""

    label = "prometheus"

    def __init__(self, port: int, directory: Path, targets: list[int]) -> None:
        super().__init__(port, directory)
        self._targets = targets

    def command_line(self) -> list[str]:
        return [
            "prometheus",
            f"--config.file={self.directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn",
        ]

    def prepare(self) -> None:
        targets = [f"127.0.0.1:{port}" for port in self._targets]
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [str(CONTRIB / "alerts.yaml")],
            "scrape_configs": [{"job_name": "txsentinel", "static_configs": [{"targets": targets}]}],
        }
        (self.directory / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML

    def wait_ready(self, seconds: float = 30.0) -> None:
        """Wait until it serves queries."""

        def ready() -> bool:
            try:
                return b"is Ready" in get(self.port, "/-/ready", "*/*")
            except urllib.error.URLError as error:
                raise ReplyError(str(error)) from error

        wait_for(ready, seconds, "Prometheus to be ready")

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an instant query."""
        path = "/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        try:
            answer = json.loads(get(self.port, path))
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from error
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def values(self, expression: str, label: str = "instance") -> dict[str, float]:
        """Return the values of an instant query by a label."""
        return {each["metric"].get(label, ""): float(each["value"][1]) for each in self.query(expression)}


def samples_of(text: str) -> Samples:
    """Return the samples of a page."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def exported(sentinel: SentinelProcess, name: str) -> Samples:
    """Return what redis_exporter reads of a Sentinel over RESP, as README and code of that program describe it."""
    found: Samples = {}

    def put(metric: str, value: object, **labels: str) -> None:
        found[f"redis_sentinel_{metric}", tuple(sorted(labels.items()))] = float(str(value))

    info = info_fields(str(sentinel.call("INFO", "sentinel")))
    for field in ("masters", "tilt", "running_scripts", "scripts_queue_length", "simulate_failure_flags"):
        put(field, info[f"sentinel_{field}"])
    line = dict(pair.split("=", 1) for pair in info["master0"].split(","))
    of = {"master_name": line["name"], "master_address": line["address"]}
    put("master_status", int(line["status"] == "ok"), **of, master_status=line["status"])
    put("master_slaves", line["slaves"], **of)
    put("master_sentinels", line["sentinels"], **of)
    fields = pairs(sentinel.call("SENTINEL", "MASTER", name))
    of = {"master_name": fields["name"], "master_address": f"{fields['ip']}:{fields['port']}"}
    for metric, field in (
        ("setting_ckquorum", "quorum"),
        ("setting_failover_timeout", "failover-timeout"),
        ("setting_parallel_syncs", "parallel-syncs"),
        ("setting_down_after_milliseconds", "down-after-milliseconds"),
        ("config_epoch", "config-epoch"),
    ):
        put(f"master_{metric}", fields[field], **of)
    try:
        possible = str(sentinel.call("SENTINEL", "CKQUORUM", name)).startswith("OK")
    except ReplyError:
        possible = False
    # The deviation that docs/metrics.rst names: the word alone.
    put("master_ckquorum_status", int(possible), master_name=name, message="OK" if possible else "NOQUORUM")
    for what, metric, own in (("SENTINELS", "ok_sentinels", 1), ("REPLICAS", "ok_slaves", 0)):
        up = [each for each in listing(sentinel, what, name) if not {"s_down", "o_down"} & {*each["flags"].split(",")}]
        put(f"master_{metric}", len(up) + own, **of)
    return found


class PrometheusTests(SynchronousTestCase):
    """Three Sentinels over a master with two replicas, and a Prometheus that scrapes all three."""

    if missing("txsentinel", "redis"):
        skip = missing("txsentinel", "redis")

    def begin(self, harness: Harness) -> None:
        """Start everything."""
        if shutil.which("prometheus") is None:
            raise unittest.SkipTest("prometheus is not installed")
        self.fleet = Fleet(harness, ["txsentinel"] * 3, "redis", name=NAME, quorum=2, down_after=1_000)
        self.ports = [free_port() for _ in self.fleet.sentinels]
        for sentinel, port in zip(self.fleet.sentinels, self.ports, strict=True):
            sentinel.arguments.extend(["--extension", f"http:tcp:{port}:interface=127.0.0.1"])
        self.fleet.start()
        shorten_periods(self.fleet.sentinels)
        self.prometheus = Prometheus(free_port(), harness.directory / "prometheus", self.ports)
        self.addCleanup(self.prometheus.stop)
        self.prometheus.start()

    def instances(self) -> list[str]:
        """The values of the label of the three."""
        return sorted(f"127.0.0.1:{port}" for port in self.ports)

    def page(self, number: int = 0) -> Samples:
        """Return the samples of a Sentinel."""
        return samples_of(get(self.ports[number], "/metrics", Format.OPEN_METRICS.value).decode())

    def wait_compatible(self, number: int) -> Samples:
        """Wait until the names of redis_exporter have the values that RESP shows; return these."""
        sentinel = self.fleet.sentinels[number]

        def equal() -> bool:
            # The state may change between the two, and a page may be a second old.
            expected, page = exported(sentinel, NAME), self.page(number)
            found = {key: value for key, value in page.items() if key[0].startswith("redis_sentinel_")}
            ages = [key for key in found if key[0] == REDIS_REPLY_AGE.name]
            for key in ages:
                del found[key]
            if found != expected or len(ages) != 1:
                raise ReplyError(f"only here: {found.items() - expected.items()}, {expected.items() - found.items()}")
            self.compared = found
            return True

        wait_for(equal, SECONDS, "the metrics to equal what RESP shows")
        return self.compared

    def test_failover(self) -> None:
        """Values, queries of the dashboard and alerts, before and after the loss of the master."""
        with Harness() as harness:
            self.begin(harness)
            before = self.wait_compatible(0)
            self.assertNotIn(REDIS_PEER.sample, {name for name, _ in before})

            def scraped() -> bool:
                return sorted(self.prometheus.values("txsentinel_master_up == 1")) == self.instances()

            wait_for(scraped, SECONDS, "Prometheus to scrape all Sentinels")
            self.assertEqual(set(self.prometheus.values("up").values()), {1.0})
            self.check_rules()
            old = self.fleet.master()
            old.kill()
            new = wait_moved(self.fleet, old)

            def switched() -> bool:
                addresses = self.prometheus.values("txsentinel_master_info", "address")
                moved = self.prometheus.values("txsentinel_master_switched_timestamp_seconds > 0")
                return set(addresses) == {f"127.0.0.1:{new.port}"} and sorted(moved) == self.instances()

            wait_for(switched, SECONDS, "Prometheus to see the new address")

            def counted() -> bool:
                led = self.prometheus.query('sum(txsentinel_failovers_total{outcome="switched",role="leader"})')
                return [each["value"][1] for each in led] == ["1"]

            wait_for(counted, SECONDS, "one failover to be counted by its leader")
            for number in range(3):
                self.wait_compatible(number)
            self.check_measurements(self.page())
            self.check_dashboard()
            self.check_rules()

    def check_measurements(self, page: Samples) -> None:
        """Check that what is measured has values."""
        for kind in ("master", "replica", "peer"):
            self.assertGreater(page["txsentinel_ping_round_trip_seconds_count", (("kind", kind),)], 0)
        for name in ("txsentinel_commits_total", "txsentinel_loop_lag_seconds_count", "txsentinel_links"):
            self.assertGreater(page[name, ()], 0, name)
        self.assertGreater(page["txsentinel_events_total", (("channel", "+switch-master"),)], 0)
        refused = page["txsentinel_link_failures_total", (("cause", "refused"), ("kind", "replica"))]
        self.assertGreater(refused, 0)
        phases = self.prometheus.query('sum(txsentinel_failover_phase_seconds_count{phase="total"}) > 0')
        self.assertEqual(len(phases), 1)
        known = {each.name for each in CATALOGUE}
        families = {
            each.name
            for each in text_string_to_metric_families(
                get(self.ports[0], "/metrics", Format.OPEN_METRICS.value).decode()
            )
        }
        self.assertEqual(families - known, set())

    def check_dashboard(self) -> None:
        """Check that every query of the dashboard is valid, and has samples unless nothing of its kind happened."""
        dashboard = json.loads((CONTRIB / "grafana-dashboard.json").read_text())
        expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
        expressions += [each["expr"] for each in dashboard["annotations"]["list"]]
        self.assertGreater(len(expressions), 25)
        for macro, value in MACROS.items():
            expressions = [each.replace(macro, value) for each in expressions]
        self.assertEqual([each for each in expressions if "$" in each], [])
        for expression in expressions:
            self.prometheus.query(expression)
        missing = [each for each in expressions if not re.search(r"lost_bytes|> 0$", each)]

        def answered() -> bool:
            # A rate needs two scrapes of a series, and some series begin with the failover.
            missing[:] = [each for each in missing if not self.prometheus.query(each)]
            return not missing

        try:
            wait_for(answered, SECONDS, "samples of every query of the dashboard")
        except DeadlineExpired as error:
            raise AssertionError(f"there are no samples of {missing}") from error

    def check_rules(self) -> None:
        """Check that all alerts are evaluated without errors."""
        expected = (CONTRIB / "alerts.yaml").read_text("utf-8").count("- alert:")

        def evaluated() -> bool:
            groups = json.loads(get(self.prometheus.port, "/api/v1/rules"))["data"]["groups"]
            states = {
                rule["name"]: (rule["health"], rule.get("lastError")) for group in groups for rule in group["rules"]
            }
            failed = {name: state for name, state in states.items() if state[0] == "err"}
            self.assertEqual(failed, {})
            return len(states) == expected and {health for health, _ in states.values()} == {"ok"}

        wait_for(evaluated, SECONDS, "all alerts to be evaluated")
