"""What-if analyses of operators' files: their reports and reasons, and that the files are not changed."""

from __future__ import annotations

import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.sim.__main__ import main as simulator
from txsentinel.sim.whatif.command import main

IDS = [f"{number:040x}" for number in range(1, 6)]


def peers(name: str, count: int = 3, first: int = 2) -> str:
    """Return the lines by which a Sentinel at 10.0.1.1 has the others of ``count``."""
    numbers = range(first, count + 1)
    return "".join(f"sentinel known-sentinel {name} 10.0.1.{n} 26379 {IDS[n - 1]}\n" for n in numbers)


HEAD = f"port 26379\nsentinel announce-ip 10.0.1.1\nsentinel myid {IDS[0]}\n"
GROUP = """sentinel monitor mymaster 10.0.0.1 6379 2
sentinel down-after-milliseconds mymaster 1000
sentinel failover-timeout mymaster 5000
sentinel known-replica mymaster 10.0.0.2 6379
sentinel known-replica mymaster 10.0.0.3 6379
"""
DEFAULTS = HEAD + GROUP + peers("mymaster")
OTHER = """sentinel monitor cache 10.0.0.4 6379 2
sentinel down-after-milliseconds cache 1500
sentinel failover-timeout cache 5000
sentinel known-replica cache 10.0.0.5 6379
"""


class WhatIfTestCase(SynchronousTestCase):
    """Helpers to run the command."""

    def run_whatif(self, contents: str, *arguments: str) -> tuple[int, str, str]:
        """Return exit status, standard output and standard error of a what-if on a file with these contents."""
        self.path = self.mktemp()
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(contents)
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                status = main([self.path, *arguments])
            except SystemExit as end:
                status = int(str(end.code))
        return status, out.getvalue(), err.getvalue()

    def run_json(self, contents: str, *arguments: str, status: int = 0) -> Any:
        """Return the only run of the JSON output."""
        found, out, err = self.run_whatif(contents, *arguments, "--json")
        self.assertEqual((found, err), (status, ""), out)
        published = json.loads(out)
        self.assertEqual([run["failures"] for run in published["runs"]], [[]] * len(published["runs"]))
        self.published = published
        return published["runs"][0]

    def master(self, run: Any, name: str = "mymaster") -> Any:
        """Return the result for one master."""
        return next(master for master in run["masters"] if master["name"] == name)


class TimelineTests(WhatIfTestCase):
    """Failovers that succeed."""

    def test_killed_master(self) -> None:
        """The steps come in order, each with its time, and the old master follows when it returns."""
        run = self.run_json(DEFAULTS, "--kill", "mymaster@3")
        master = self.master(run)
        (change,) = master["changes"]
        steps = [change[f"{step}_at"] for step in ("detected", "agreed", "elected", "promoted", "finished")]
        self.assertEqual(steps, sorted(steps))
        self.assertTrue(1.0 <= steps[0] < 1.1, steps)
        self.assertEqual(sorted(change["published"]), ["s1", "s2", "s3"])
        self.assertEqual(set(change["votes"].values()), {change["leader"]})
        (outage,) = master["outages"]
        self.assertTrue(steps[3] < outage["seconds"] < steps[3] + 0.2, outage)
        self.assertEqual(master["after"], change["chosen"])
        self.assertEqual(master["lost"], 0)
        self.assertIn(f"mymaster/1 follows {change['chosen']}", master["returned"][0])
        published = [entry["channel"] for entry in run["timeline"] if entry["who"] == change["leader"]]
        wanted = ["+sdown", "+odown", "+try-failover", "+elected-leader", "+selected-slave", "+promoted-slave"]
        self.assertEqual([*dict.fromkeys(channel for channel in published if channel in wanted)], wanted)
        self.assertEqual(run["timeline"][1]["text"], "mymaster/1 is killed")
        self.assertEqual(run["timeline"][1]["at"], 0.0)

    def test_text(self) -> None:
        """The text has the addresses of the file, the steps, the reasons, and the effect on writes."""
        status, out, _ = self.run_whatif(DEFAULTS, "--kill", "mymaster")
        self.assertEqual(status, 0)
        for words in (
            "quorum 2, down after 1000 ms",
            "mymaster/3   10.0.0.3:6379",
            "s1  10.0.1.1:26379, whose file this is",
            "holds mymaster/1 down: no acceptable answer for 1000 ms",
            "votes for itself in epoch 1",
            "promoted for: smaller run ID",
            "is the master\n",
            "detection      1.00",
            "writes had no master for 1.0",
            "acknowledged writes lost: 0 of ",
        ):
            self.assertIn(words, out)

    def test_priority_wins(self) -> None:
        """The ranking shows each candidate's values, and that the selected one has the lower priority."""
        run = self.run_json(DEFAULTS, "--kill", "mymaster", "--replica-priority", "mymaster/3=10")
        first, second = self.master(run)["changes"][0]["candidates"]
        self.assertEqual((first["name"], first["priority"], first["behind"]), ("mymaster/3", 10, None))
        self.assertEqual((second["name"], second["priority"], second["behind"]), ("mymaster/2", 100, "lower priority"))
        self.assertEqual(self.master(run)["after"], "mymaster/3")

    def test_more_data_wins(self) -> None:
        """A replica with less data is not selected, whatever the run IDs are."""
        for behind, ahead in (("mymaster/2", "mymaster/3"), ("mymaster/3", "mymaster/2")):
            fault = "--kill" if behind == "mymaster/2" else "--power-loss"
            run = self.run_json(DEFAULTS, fault, "mymaster@1", "--replica-lag", f"{behind}=300")
            first, second = self.master(run)["changes"][0]["candidates"]
            self.assertEqual((first["name"], second["name"]), (ahead, behind))
            self.assertGreater(first["offset"], second["offset"])
            self.assertEqual(second["behind"], "more data")

    def test_lag_loses_writes(self) -> None:
        """If all replicas lag, the writes acknowledged within the lag are lost, and counted."""
        run = self.run_json(DEFAULTS, "--kill", "mymaster@1", "--replica-lag", "mymaster/replicas=500")
        master = self.master(run)
        self.assertTrue(40 <= master["lost"] <= 60, master["lost"])
        self.assertEqual(master["lost_of"], {"mymaster/1": master["lost"]})

    def test_two_masters(self) -> None:
        """Masters that fail at once are both replaced, each after its own down-after."""
        contents = DEFAULTS + OTHER + peers("cache")
        run = self.run_json(contents, "--kill", "all-masters")
        delays = [self.master(run, name)["changes"][0]["detected_at"] for name in ("mymaster", "cache")]
        self.assertEqual([round(delay, 1) for delay in delays], [1.0, 1.5])
        self.assertEqual(self.master(run, "cache")["after"], "cache/2")
        _, out, _ = self.run_whatif(contents, "--kill", "all-masters")
        self.assertRegex(out, r"votes for itself in epoch \d+, for cache")

    def test_one_after_the_other(self) -> None:
        """The name of a master means the present master at that time."""
        run = self.run_json(DEFAULTS, "--kill", "mymaster@0+5", "--kill", "mymaster@20")
        first, second = self.master(run)["changes"]
        self.assertEqual(second["old"], first["chosen"])
        self.assertEqual(second["fault_at"], 20.0)
        self.assertNotEqual(second["chosen"], first["chosen"])

    def test_names(self) -> None:
        """Masters, replicas and Sentinels may be given by host name only."""
        contents = DEFAULTS.replace("10.0.0.", "redis-").replace("10.0.1.", "sentinel-")
        contents = "sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n" + contents
        run = self.run_json(contents, "--kill", "redis-1")
        self.assertIn(self.master(run)["after"], ("mymaster/2", "mymaster/3"))
        self.assertEqual(run["unstable_reasons"], [])
        self.assertEqual(self.published["sentinels"]["s2"], "sentinel-2:26379")

    def test_ipv6(self) -> None:
        """Addresses may be IPv6."""
        contents = DEFAULTS.replace("10.0.0.", "fd00::").replace("10.0.1.", "fd01::")
        run = self.run_json(contents, "--power-loss", "fd00::1")
        self.assertIn(self.master(run)["after"], ("mymaster/2", "mymaster/3"))

    def test_frozen_master(self) -> None:
        """A server that hangs is replaced, and converted when it continues."""
        run = self.run_json(DEFAULTS, "--freeze", "mymaster@1+10")
        self.assertNotEqual(self.master(run)["after"], "mymaster/1")
        self.assertIn("mymaster/1 is running on", [entry["text"] for entry in run["timeline"]])

    def test_restart_in_time(self) -> None:
        """A master that returns before any Sentinel has it down stays the master."""
        run = self.run_json(DEFAULTS.replace(" 1000\n", " 3000\n"), "--restart", "mymaster@1+0.4")
        master = self.master(run)
        self.assertEqual((master["after"], master["changes"]), ("mymaster/1", []))
        self.assertTrue(0.4 <= master["outages"][0]["seconds"] < 0.6, master["outages"])

    def test_ordered_failover(self) -> None:
        """SENTINEL FAILOVER can be simulated: with COORDINATED not one write is lost."""
        run = self.run_json(DEFAULTS, "--handover", "mymaster=2@1")
        master = self.master(run)
        self.assertEqual((master["changes"][0]["leader"], master["lost"]), ("s2", 0))
        self.assertNotEqual(master["after"], "mymaster/1")

    def test_scripts(self) -> None:
        """The client-reconfig-script is run in the simulation, not on this machine."""
        script = "sentinel client-reconfig-script mymaster /nowhere/notify\n"
        run = self.run_json(DEFAULTS + script, "--kill", "mymaster")
        self.assertEqual(run["scripts"], {"/nowhere/notify": 3})
        texts = [entry["text"] for entry in run["timeline"] if entry["channel"] == "script"]
        self.assertIn("runs /nowhere/notify mymaster leader start 10.0.0.1 6379 10.0.0.", "\n".join(texts))


class NoFailoverTests(WhatIfTestCase):
    """Masters that are not replaced, and the reasons."""

    def why(self, *arguments: str, contents: str = DEFAULTS) -> str:
        """Return the reasons of a run that must fail."""
        master = self.master(self.run_json(contents, *arguments, status=1))
        self.assertFalse(master["works"])
        return "\n".join(master["why_not"])

    def test_no_quorum(self) -> None:
        """The Sentinels that had the master down are reported, and those that do not run."""
        why = self.why("--kill", "2,3", "--kill", "mymaster@1")
        self.assertIn("no quorum: it takes 2 that hold it down and learn so from each other; s1 did", why)
        self.assertIn("s2 is not running", why)
        self.assertRegex(why, r"s1 holds mymaster/1 down for \d")

    def test_quorum_above_the_number_of_sentinels(self) -> None:
        """A quorum that can never be reached is reported as such."""
        why = self.why("--kill", "mymaster", contents=DEFAULTS.replace("6379 2\n", "6379 4\n"))
        self.assertIn("it takes 4", why)
        self.assertIn("there are only 3 Sentinels", why)

    def test_no_majority(self) -> None:
        """A reached quorum is not enough: the reachable Sentinels are reported."""
        why = self.why("--kill", "majority", "--kill", "mymaster", contents=DEFAULTS.replace("6379 2\n", "6379 1\n"))
        self.assertIn("no majority: of 3 Sentinels 2 must vote for a leader, and s1 reaches nobody only (s1)", why)

    def test_no_fit_replica(self) -> None:
        """The reason for each replica is reported."""
        arguments = ("--kill", "mymaster", "--kill", "mymaster/2", "--replica-priority", "mymaster/3=0")
        why = self.why(*arguments)
        self.assertIn("no good replica: ", why)
        self.assertIn("mymaster/2: it is down", why)
        self.assertIn("mymaster/3: its priority is 0", why)

    def test_no_replica(self) -> None:
        """A master without replicas cannot be replaced."""
        self.assertIn("no good replica: there is none", self.why("--kill", "mymaster", "--replicas", "0"))

    def test_tilt(self) -> None:
        """Sentinels whose clock has just jumped evaluate nothing."""
        why = self.why("--clock", "all-sentinels=100@0", "--kill", "mymaster@1", "--seconds", "10")
        self.assertIn("no Sentinel is able to act", why)
        self.assertIn("s3 is in TILT and evaluates no instance", why)

    def test_end_of_tilt(self) -> None:
        """TILT ends by itself, so the run continues."""
        run = self.run_json(DEFAULTS, "--clock", "all-sentinels=100@0", "--kill", "mymaster@1")
        self.assertGreater(self.master(run)["changes"][0]["detected_at"], 30.0)

    def test_full_disks(self) -> None:
        """Sentinels that cannot save start no failover."""
        why = self.why("--full-disk", "all-sentinels", "--kill", "mymaster@1")
        self.assertIn("what is decided cannot be saved", why)

    def test_outage_at_the_end_of_the_run(self) -> None:
        """The master is restarted at the end of the run, which does not end the outage."""
        run = self.run_json(DEFAULTS, "--kill", "mymaster", "--replicas", "0", status=1)
        master = self.master(run)
        self.assertIsNone(master["outages"][0]["until"])
        self.assertIn("mymaster/1 is back, and still the master", master["returned"])
        run = self.run_json(DEFAULTS, "--kill", "mymaster", "--replicas", "0", "--no-return", status=1)
        self.assertEqual(self.master(run)["returned"], [])

    def test_failed_replica(self) -> None:
        """A failed replica costs no write, and needs no reason."""
        run = self.run_json(DEFAULTS, "--kill", "mymaster/2")
        master = self.master(run)
        self.assertEqual((master["after"], master["outages"], master["why_not"]), ("mymaster/1", [], []))


class PartitionTests(WhatIfTestCase):
    """Network partitions."""

    def test_client_on_the_wrong_side(self) -> None:
        """The minority's master accepts writes that are lost when the partition heals."""
        run = self.run_json(DEFAULTS, "--partition", "mymaster,1,client|others@1+10")
        master = self.master(run)
        self.assertEqual(master["outages"], [])
        self.assertNotEqual(master["after"], "mymaster/1")
        self.assertEqual(master["lost_of"], {"mymaster/1": master["lost"]})
        self.assertTrue(950 <= master["lost"] <= 1100, master["lost"])

    def test_min_replicas_to_write(self) -> None:
        """``min-replicas-to-write`` on the servers limits that loss."""
        wanted = ("mymaster:min-replicas-to-write=1", "mymaster:min-replicas-max-lag=1")
        settings = [word for setting in wanted for word in ("--redis", setting)]
        run = self.run_json(DEFAULTS, "--partition", "mymaster,1,client|others@1+10", *settings)
        self.assertLess(self.master(run)["lost"], 350)

    def test_lasting_split(self) -> None:
        """A run whose clients and most Sentinels end with different masters fails."""
        run = self.run_json(DEFAULTS, "--partition", "mymaster,1,client|others", status=1)
        self.assertIn("the client writes to mymaster/1, while most Sentinels have", self.master(run)["why_not"][0])

    def test_overlapping_partitions(self) -> None:
        """A path cut by two faults is open again only when both are over."""
        cuts = ("--isolate", "mymaster@1+3", "--cut", "mymaster|client@2+6", "--seconds", "8")
        run = self.run_json(DEFAULTS.replace(" 1000\n", " 60000\n"), *cuts)
        (outage,) = self.master(run)["outages"]
        self.assertTrue(7.0 <= outage["until"] < 8.5, outage)


class ClientTests(WhatIfTestCase):
    """Faults of the application."""

    def test_restarted_client(self) -> None:
        """A client that was killed writes again as soon as it is back, and finds the present master."""
        run = self.run_json(DEFAULTS, "--kill", "client@1+6", "--kill", "mymaster@2")
        (outage,) = self.master(run)["outages"]
        self.assertTrue(6.0 < outage["until"] < 6.3, outage)
        self.assertNotEqual(self.master(run)["after"], "mymaster/1")

    def test_votes_before_the_candidate(self) -> None:
        """A forced failover begins with votes that may be published before the candidate's events."""
        for seed in ("1", "2", "3"):
            run = self.run_json(DEFAULTS, "--failover", "mymaster@1", "--seed", seed)
            (change,) = self.master(run)["changes"]
            self.assertEqual(change["votes"], {"s1": "s1", "s2": "s1", "s3": "s1"})


class FileTests(WhatIfTestCase):
    """Use of the file, which stays unchanged."""

    def test_file_is_unchanged(self) -> None:
        """Not a byte of it changes, and nothing appears beside it: no log, no temporary file."""
        contents = f"# mine\nlogfile {os.path.abspath(self.mktemp())}\n{DEFAULTS}"
        self.run_json(contents, "--kill", "mymaster")
        with open(self.path, encoding="utf-8") as file:
            self.assertEqual(file.read(), contents)
        directory = os.path.dirname(os.path.abspath(self.path))
        self.assertEqual(os.listdir(directory), [os.path.basename(self.path)])

    def test_same_seed(self) -> None:
        """The same seed has the same output, another one differs."""
        stories = [self.run_json(DEFAULTS, "--power-loss", "mymaster", "--seed", seed) for seed in ("5", "5", "6")]
        self.assertEqual(stories[0], stories[1])
        self.assertNotEqual(stories[0]["timeline"], stories[2]["timeline"])

    def test_spread(self) -> None:
        """Several seeds give the median, the maximum, and the promoted replicas."""
        status, out, _ = self.run_whatif(DEFAULTS, "--power-loss", "mymaster", "--seeds", "3", "--jobs", "1")
        self.assertEqual(status, 0)
        self.assertIn("mymaster: a working master in 3 of 3 seeds", out)
        self.assertRegex(out, r"detection +\d\.\d+ +\d\.\d+\n")
        self.assertRegex(out, r"winners: mymaster/[23] [123] times")
        self.assertRegex(out, r"the worst is seed [123]:")

    def test_new_file(self) -> None:
        """For a file that no Sentinel has written to, a usual fleet is assumed, and that is reported."""
        contents = "sentinel monitor mymaster 10.0.0.1 6379 3\nsentinel down-after-milliseconds mymaster 1000\n"
        self.run_json(contents, "--kill", "mymaster")
        self.assertEqual(len(self.published["sentinels"]), 5)
        self.assertEqual(len(self.published["masters"]["mymaster"]["servers"]), 3)
        self.assertEqual(len(self.published["assumed"]), 3)
        self.run_json(contents, "--kill", "mymaster", "--sentinels", "6", "--replicas", "1", "--this-host", "10.0.0.9")
        self.assertEqual(len(self.published["sentinels"]), 6)
        self.assertEqual(self.published["assumed"], [])

    def test_one_machine(self) -> None:
        """A file about one machine, with a password, as redis-sentinel 7.0 writes it, is accepted."""
        contents = f"""port 17201
sentinel monitor mymaster 127.0.0.1 17101 2
sentinel auth-pass mymaster s3cret
sentinel down-after-milliseconds mymaster 1500
# Generated by CONFIG REWRITE
dir "/nowhere"
protected-mode no
latency-tracking-info-percentiles 50 99 99.9
user default on nopass ~* &* +@all
sentinel myid {IDS[0]}
sentinel config-epoch mymaster 0
sentinel leader-epoch mymaster 0
sentinel current-epoch 0
sentinel known-replica mymaster 127.0.0.1 17102
sentinel known-sentinel mymaster 127.0.0.1 17203 {IDS[1]}
sentinel known-sentinel mymaster 127.0.0.1 17202 {IDS[2]}
"""
        run = self.run_json(contents, "--kill", "mymaster")
        self.assertEqual(self.master(run)["after"], "mymaster/2")
        status, _, err = self.run_whatif(contents, "--partition", "1|2")
        self.assertEqual(status, 2)
        self.assertIn("on one machine (127.0.0.1), so there is no network", err)

    def test_passwords_of_sentinels(self) -> None:
        """Other Sentinels and the client use the password of a Sentinel."""
        run = self.run_json("requirepass secret\n" + DEFAULTS, "--kill", "mymaster")
        self.assertEqual(run["unstable_reasons"], [])
        self.assertNotEqual(self.master(run)["after"], "mymaster/1")

    def test_users_of_servers(self) -> None:
        """Sentinels and the client use the credentials of the file."""
        auth = "sentinel auth-user mymaster monitor\nsentinel auth-pass mymaster secret\n"
        self.assertEqual(self.run_json(DEFAULTS + auth, "--kill", "mymaster")["unstable_reasons"], [])

    def test_tls_is_ignored(self) -> None:
        """A file with TLS is run over plain links, and that is reported."""
        tls = "port 0\ntls-port 26379\ntls-replication yes\ntls-cert-file a\ntls-key-file b\ntls-ca-cert-file c\n"
        run = self.run_json(DEFAULTS.replace("port 26379\n", tls, 1), "--kill", "mymaster")
        self.assertEqual(run["unstable_reasons"], [])
        self.assertIn("TLS works: the simulated links are plain ones", self.published["assumed"])

    def test_masters_of_some_sentinels(self) -> None:
        """A Sentinel that the file has for one master only monitors no other."""
        contents = DEFAULTS + OTHER + peers("cache", 2)
        run = self.run_json(contents, "--kill", "3", "--kill", "cache@1")
        self.assertEqual(self.master(run, "cache")["after"], "cache/2")
        self.assertEqual(sorted(self.master(run, "cache")["changes"][0]["published"]), ["s1", "s2"])

    def test_problems_before_faults(self) -> None:
        """Problems before any fault are reported: here, Sentinels that do not know each other's password."""
        contents = f"requirepass secret\nsentinel sentinel-pass wrong\n{DEFAULTS}"
        run = self.run_json(contents, "--kill", "mymaster", "--seconds", "1", status=1)
        self.assertIn("s1 has links to 0 of 2 other Sentinels for mymaster", run["unstable_reasons"])


class CommandTests(WhatIfTestCase):
    """The command line."""

    def test_first_word(self) -> None:
        """``whatif`` is a command of the simulator."""
        self.run_whatif(DEFAULTS, "--kill", "mymaster/2")
        self.patch(sys, "argv", ["sim", "whatif", self.path, "--kill", "mymaster/2", "--no-return"])
        out = StringIO()
        with redirect_stdout(out):
            self.assertEqual(simulator(), 0)
        self.assertIn("mymaster/2 is killed", out.getvalue())


class RefusalTests(WhatIfTestCase):
    """Invalid input is refused with status 2, naming the error and its location."""

    def refused(self, *arguments: str, contents: str = DEFAULTS) -> str:
        """Return the error message."""
        status, out, err = self.run_whatif(contents, *arguments)
        self.assertEqual((status, out), (2, ""), err)
        return err

    def test_bad_files(self) -> None:
        """The parser's own errors are shown; a missing file and a file without masters are reported as well."""
        err = self.refused("--kill", "mymaster", contents=DEFAULTS + "sentinel dwon-after mymaster 1\n")
        self.assertIn("*** FATAL CONFIG FILE ERROR", err)
        self.assertIn("at line 11\n>>> 'sentinel dwon-after mymaster 1'", err)
        self.assertIn("monitors no master", self.refused("--kill", "1", contents="port 26379\n"))
        stderr = StringIO()
        with redirect_stderr(stderr):
            self.assertEqual(main(["/nowhere/sentinel.conf", "--kill", "1"]), 2)
        self.assertIn("can't open config file '/nowhere/sentinel.conf': No such file", stderr.getvalue())

    def test_two_processes_at_one_address(self) -> None:
        """Two processes cannot listen on one port of one machine."""
        err = self.refused("--kill", "1", contents=DEFAULTS + "sentinel known-replica mymaster 10.0.1.2 26379\n")
        self.assertIn("cannot both be at 10.0.1.2:26379", err)

    def test_bad_faults(self) -> None:
        """Each error repeats the option, and has the reason."""
        for option, text, wrong in (
            ("kill", "yourmaster@1", "nobody is called 'yourmaster'. There are the masters mymaster"),
            ("kill", "mymaster/4", "mymaster has the servers mymaster/1 (the master in the file) to mymaster/3"),
            ("kill", "4@1", "there are the Sentinels 1 to 3; there is no 4"),
            ("kill", "mymaster@soon", "the seconds behind @: 'soon' is no number"),
            ("kill", "mymaster@-1", "the seconds behind @: -1 is not between 0 and"),
            ("kill", "mymaster@1+x", "the seconds behind +: 'x' is no number"),
            ("kill", "mymaster=5", "nothing is to be set here"),
            ("kill", "", "the target is missing"),
            ("kill", "others", "'others' can only be a group of its own"),
            ("kill", "1|2", "one group only"),
            ("latency", "mymaster@1", "how much? Write mymaster=MS"),
            ("latency", "mymaster=fast", "MS: 'fast' is no number"),
            ("loss", "mymaster=100", "PERCENT: 100 is not between 0 and 99"),
            ("partition", "1,2", "groups are separated by |"),
            ("partition", "1|others|others", "'others' can only be"),
            ("partition", "1,2|2,3", "2 and 2 are on one machine (10.0.1.2)"),
            ("slow-disk", "mymaster=5", "mymaster is no Sentinel"),
            ("busy", "1", "1 is no Redis server"),
            ("failover", "mymaster/2", "mymaster/2 is not the name of a master (mymaster)"),
            ("failover", "mymaster=4", "there are the Sentinels 1 to 3"),
        ):
            err = self.refused(f"--{option}", text)
            self.assertIn(f"--{option} {text}: {wrong}", err)

    def test_bad_conditions(self) -> None:
        """Invalid conditions that the file does not declare are errors."""
        for option, text, wrong in (
            ("replica-priority", "mymaster/2", "a '=' is missing"),
            ("replica-priority", "mymaster/2=low", "'low' is no whole number"),
            ("replica-priority", "2=5", "2 is no Redis server"),
            ("redis", "mymaster:color=red", "simulated servers know "),
            ("redis", "mymaster=5", "a ':' is missing"),
            ("host", "redis-1=here", "'here' is no IP address of redis-1"),
            ("sentinels", "0", "'0' is no whole number from 1 up"),
        ):
            self.assertIn(wrong, self.refused("--kill", "mymaster", f"--{option}", text))

    def test_no_fault(self) -> None:
        """A run without faults is refused."""
        self.assertIn("nothing goes wrong; ask for a fault, such as --kill mymaster", self.refused())
