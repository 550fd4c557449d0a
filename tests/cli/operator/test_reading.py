"""The verbs that only read, over canned fleets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.cli.operator.runner import VerbCase
from tests.remote.samples import (
    NAME,
    SENTINELS,
    fleet,
    info,
    master_fields,
    master_report,
    replica,
    sentinel,
    unreachable,
)
from txsentinel.cli.main import VERBS
from txsentinel.cli.operator import options
from txsentinel.cli.operator.command import operator
from txsentinel.cli.operator.visible import duration, size, visible
from txsentinel.remote.fleet import FleetReport


class OmittedNameTests(VerbCase):
    """The name of the master is left out."""

    def test_only_one(self) -> None:
        """The only master is meant."""
        self.fleet = fleet()
        for verb in ("topology", "master", "replicas", "explain"):
            with self.subTest(verb):
                found = self.run_verb(verb)
                self.assertEqual((found.status, found.stderr), (0, ""))
                # An explanation has the time in it.
                if verb != "explain":
                    self.assertEqual(found, self.run_verb(verb, NAME))

    def test_several(self) -> None:
        """The error lists the masters."""
        found = sentinel(SENTINELS[0])
        self.fleet = fleet(replace(found, masters=dict.fromkeys(("orders", "users"), found.masters[NAME])))
        for verb in ("topology", "master", "replicas", "explain"):
            with self.subTest(verb):
                answer = self.run_verb(verb)
                self.assertEqual(answer.status, 64)
                self.assertEqual(answer.stderr, f"txsentinel {verb}: there are 2 masters; name one: orders, users\n")

    def test_none(self) -> None:
        """Sentinels that monitor nothing."""
        self.fleet = fleet(replace(sentinel(SENTINELS[0]), masters={}))
        found = self.run_verb("topology")
        self.assertEqual(found.status, 1)
        self.assertEqual(found.stderr, "txsentinel topology: no Sentinel that answers monitors a master\n")


class UnreachableTests(VerbCase):
    """No Sentinel answers."""

    def test_default(self) -> None:
        """The error names the option if the address is the default."""
        self.fleet = fleet(unreachable(SENTINELS[0]))
        found = self.run_verb("list")
        self.assertEqual(found.status, 69)
        self.assertIn("name one that runs: --sentinel HOST:PORT, or TXSENTINEL_SENTINELS=HOST:PORT", found.stderr)

    def test_password(self) -> None:
        """The error names the option for the password that is missing."""
        self.fleet = fleet(unreachable(SENTINELS[0], "NOAUTH Authentication required."))
        self.assertIn("--password-file FILE, or TXSENTINEL_PASSWORD", self.run_verb("list").stderr)

    def test_given(self) -> None:
        """No option is explained to those who use it."""
        self.fleet = fleet(unreachable(SENTINELS[0]))
        self.assertNotIn("--sentinel", self.run_verb("list", "--sentinel", "10.0.0.11").stderr)


class ListTests(VerbCase):
    """``txsentinel list``."""

    def test_sound(self) -> None:
        """Of one master all Sentinels are listed; the status is 0."""
        self.fleet = fleet()
        found = self.run_verb("list")
        self.assertEqual(found.status, 0)
        self.assertIn("agreed by 3 of 3\n", found.stdout)
        self.assertEqual(self.run_verb("list", NAME), found)

    def test_differences(self) -> None:
        """What differs is marked, and a Sentinel that does not answer is shown with the reason."""
        self.fleet = fleet(
            sentinel(SENTINELS[0], kind="txsentinel", version="0.2.0"),
            sentinel(SENTINELS[1]),
            sentinel(SENTINELS[2], quorum="3", down_after_milliseconds="900"),
        )
        found = self.run_verb("list", NAME)
        self.assertEqual(found.status, 2)
        self.assertIn("10.0.0.13:26379  redis 7.0.15      10.0.0.2:6379  ok     7      3 !     900 !", found.stdout)
        self.assertIn(
            "! quorum differs: 10.0.0.13:26379 has 3, the others 2"
            "      fix: txsentinel set mymaster quorum 2 --fleet\n",
            found.stdout,
        )

    def test_unreachable(self) -> None:
        """The line of a Sentinel that does not answer has the reason; the status is 2."""
        self.fleet = fleet(sentinel(SENTINELS[0]), sentinel(SENTINELS[1]), unreachable(SENTINELS[2]))
        found = self.run_verb("list", NAME)
        self.assertIn("10.0.0.13:26379  -             -              connection refused  -", found.stdout)
        self.assertEqual(found.status, 2)

    def test_many_masters(self) -> None:
        """Several masters have a row each."""
        both = {NAME: master_report(""), "cache": master_report("", master_fields(name="cache", port="7000"))}
        reports = []
        for each in fleet().sentinels:
            masters = {name: both[name] for name in (NAME, "cache")}
            reports.append(type(each)(each.endpoint, each.identity, masters, None, each.sentinel_id))
        self.fleet = fleet(*reports)
        found = self.run_verb("list", "-o", "tsv")
        rows = [row.split("\t") for row in found.stdout.splitlines()]
        self.assertEqual([row[0] for row in rows], ["master", "cache", NAME])
        self.assertEqual(rows[1][1], "10.0.0.2:7000")

    def test_json(self) -> None:
        """JSON has the address, and all fields of each Sentinel."""
        self.fleet = fleet(*fleet().sentinels[:2], unreachable(SENTINELS[2]))
        found = json.loads(self.run_verb("list", NAME, "-o", "json").stdout)
        self.assertEqual(found["master"]["address"], {"host": "10.0.0.2", "port": 6379, "address": "10.0.0.2:6379"})
        self.assertEqual([each["problem"] for each in found["sentinels"]], [None, None, "connection refused"])
        self.assertEqual(found["sentinels"][0]["masters"][NAME]["fields"]["quorum"], "2")

    def test_hostile_names(self) -> None:
        """Control characters in names do not reach the terminal or add columns."""
        evil = "a\x1b]0;x\x07\tb\nc\udcff\u202e"
        self.fleet = fleet(*(sentinel(each, master_report(each, master_fields(name=evil))) for each in SENTINELS))
        shown = r"a\x1b]0;x\x07\x09b\x0ac\xff\u202e"
        self.assertTrue(self.run_verb("list").stdout.startswith(shown + "  10.0.0.2:6379"))
        self.assertIn('"name": "a\\u001b', self.run_verb("list", "-o", "json").stdout)
        self.assertIn(shown, self.run_verb("list", "-o", "yaml").stdout + shown)
        error = self.run_verb("master", "x\x1b[2J")
        self.assertIn(r"monitors x\x1b[2J", error.stderr)


class TopologyTests(VerbCase):
    """``txsentinel topology``."""

    def test_tree(self) -> None:
        """The master is on top; the others have their lag, and why they are unfit."""
        replicas = [
            replica("10.0.0.1"),
            replica("10.0.0.3", master_link_down_time="61000", master_link_status="err"),
            replica("10.0.0.4", master_host="10.0.0.1"),
        ]
        infos = [info("10.0.0.2", "master"), info("10.0.0.1", "slave"), info("10.0.0.4", "slave", 4_000_000)]
        self.fleet = fleet(*(sentinel(each, master_report(each, None, replicas, None, infos)) for each in SENTINELS))
        found = self.run_verb("topology", NAME)
        self.assertEqual(
            found.stdout,
            "10.0.0.2:6379      master   offset 5,215,869\n"
            "+ 10.0.0.1:6379    replica  0 B behind                  priority 100  next to be promoted\n"
            "+ + 10.0.0.4:6379  replica  1.2 MB behind               priority 100\n"
            "+ 10.0.0.3:6379    replica  link to the master is down  priority 100"
            "  unfit: it was without its master for 61,000 ms\n",
        )
        self.assertEqual(found.status, 0)

    def test_nobody_to_promote(self) -> None:
        """Without a fit replica the status is 2."""
        replicas = [replica("10.0.0.1", slave_priority="0")]
        self.fleet = fleet(*(sentinel(each, master_report(each, None, replicas)) for each in SENTINELS))
        found = self.run_verb("topology", NAME)
        self.assertIn("unfit: priority 0", found.stdout)
        self.assertEqual(found.status, 2)

    def test_circle(self) -> None:
        """Replicas that follow each other are shown once each."""
        replicas = [replica("10.0.0.1", master_host="10.0.0.3"), replica("10.0.0.3", master_host="10.0.0.1")]
        self.fleet = fleet(*(sentinel(each, master_report(each, None, replicas)) for each in SENTINELS))
        rows = self.run_verb("topology", NAME, "-o", "tsv").stdout.splitlines()[1:]
        self.assertEqual(
            sorted(row.split("\t")[1] for row in rows), ["10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.3:6379"]
        )


class AddressTests(VerbCase):
    """``txsentinel master`` and ``replicas``, for scripts."""

    def test_master(self) -> None:
        """Only the address is printed."""
        self.fleet = fleet()
        found = self.run_verb("master", NAME)
        self.assertEqual((found.stdout, found.stderr, found.status), ("10.0.0.2:6379\n", "", 0))

    def test_unknown(self) -> None:
        """A name that nobody monitors is status 1, without output."""
        self.fleet = fleet()
        found = self.run_verb("master", "other")
        self.assertEqual((found.stdout, found.status), ("", 1))
        self.assertIn("no Sentinel that answers monitors other", found.stderr)

    def test_no_agreement(self) -> None:
        """One of three Sentinels is no majority: status 3, and each Sentinel's answer on standard error."""
        self.fleet = fleet(sentinel(SENTINELS[0]), *(unreachable(each) for each in SENTINELS[1:]))
        found = self.run_verb("master", NAME)
        self.assertEqual((found.stdout, found.status), ("", 3))
        self.assertIn("10.0.0.12:26379: connection refused", found.stderr)

    def test_nobody_answers(self) -> None:
        """Then the status is 69."""
        self.fleet = fleet(unreachable(SENTINELS[0], "no answer in time"))
        found = self.run_verb("master", NAME)
        self.assertEqual((found.stdout, found.status), ("", 69))
        self.assertIn("10.0.0.11:26379: no answer in time", found.stderr)

    def test_replicas(self) -> None:
        """Usable replicas are printed, with ``--all`` the others, too."""
        replicas = [replica("10.0.0.3"), replica("10.0.0.1", flags="slave,s_down")]
        self.fleet = fleet(*(sentinel(each, master_report(each, None, replicas)) for each in SENTINELS))
        self.assertEqual(self.run_verb("replicas", NAME).stdout, "10.0.0.3:6379\n")
        self.assertEqual(self.run_verb("replicas", NAME, "--all").stdout, "10.0.0.1:6379\n10.0.0.3:6379\n")


class OptionTests(VerbCase):
    """Options, the profile and mistakes."""

    def setUp(self) -> None:
        super().setUp()
        self.fleet = fleet()
        self.directory = Path(self.mktemp())
        self.directory.mkdir(parents=True)

    def test_mistakes(self) -> None:
        """Each mistake is status 64, and the text names it."""
        empty = self.directory / "empty"
        empty.write_text("\n")
        for words, text in [
            (["list", "--foo"], "No such option"),
            (["list", "--sentinel", "a:b"], "'a:b' is no address"),
            (["list", "--password-file", "/nonexistent"], "cannot read the password from /nonexistent"),
            (["list", "--password-file", str(empty)], "is empty"),
            (["list", "--user", "ops"], "--user needs --password-file"),
            (["list", "--profile", "x"], "where the profile 'x' should be"),
            (["set"], "Missing argument"),
            (["list", "-o", "xml"], "xml"),
        ]:
            found = self.run_verb(*words)
            self.assertEqual((found.status, found.stdout), (64, ""), words)
            self.assertIn(text, found.stderr)

    def test_profile(self) -> None:
        """Values of the profile are used unless an option or the environment has another."""
        seen: list[Any] = []

        def read(seeds: object, settings: object, *rest: object) -> FleetReport:
            seen.append((seeds, settings))
            return self.fleet

        self.patch(options, "read_fleet", read)
        secret = self.directory / "secret"
        secret.write_text("geheim\nmore\n")
        path = self.directory / "txsentinel.toml"
        path.write_text(
            f'sentinels = ["a:1", "b:2"]\nuser = "ops"\npassword-file = "{secret}"\n'
            '[far]\nsentinels = "c:3"\ntls = true\n'
        )
        self.run_verb("list", "--profile-file", str(path))
        self.run_verb("list", environment={"XDG_CONFIG_HOME": str(self.directory), "TXSENTINEL_PROFILE": "far"})
        self.run_verb("list", "--profile-file", str(path), environment={"TXSENTINEL_SENTINELS": "d:4"})
        self.run_verb("list", "--profile-file", str(path), "--sentinel", "e:5", "--user", "me")
        self.assertEqual([",".join(map(str, seeds)) for seeds, _ in seen], ["a:1,b:2", "c:3", "d:4", "e:5"])
        self.assertEqual([each.user for _, each in seen], ["ops", "ops", "ops", "me"])
        self.assertEqual({each.password for _, each in seen}, {"geheim"})
        self.assertEqual([each.tls is not None for _, each in seen], [False, True, False, False])

    def test_malformed_profile(self) -> None:
        """Unknown keys and values of a wrong type are refused with their names."""
        path = self.directory / "p.toml"
        for text, reason in [
            ("sentinel = 'a'", "'sentinel' is unknown"),
            ("tls = 'yes'", "'tls' must be true or false"),
            ("user = 5", "'user' must be a string"),
            ("=", "cannot use"),
        ]:
            path.write_text(text)
            found = self.run_verb("list", "--profile-file", str(path))
            self.assertEqual(found.status, 64)
            self.assertIn(reason, found.stderr)

    def test_verbs_are_listed(self) -> None:
        """The console script knows exactly the verbs that exist, each with a help text."""
        self.assertEqual(sorted(operator.commands), sorted(VERBS))
        for name in VERBS:
            found = self.run_verb(name, "--help")
            self.assertEqual(found.status, 0, name)
            self.assertIn(f"Usage: txsentinel {name}", found.stdout)

    def test_completion(self) -> None:
        """The scripts name the program and the variable."""
        for shell in ("bash", "zsh", "fish"):
            found = self.run_verb("completion", shell)
            self.assertIn("_TXSENTINEL_COMPLETE", found.stdout)
            self.assertEqual(found.status, 0)


class TextTests(VerbCase):
    """How numbers and texts are shown."""

    def test_durations(self) -> None:
        """The two greatest units are shown."""
        shown = {300: "0.3s", 9949: "9.9s", 9950: "9s", 41_000: "41s", 61_000: "1m01s", 11_520_000: "3h12m"}
        shown[6 * 86_400_000 + 4 * 3_600_000] = "6d04h"
        self.assertEqual({each: duration(each) for each in shown}, shown)

    def test_sizes(self) -> None:
        """Units are decimal."""
        shown = {0: "0 B", 999: "999 B", 1000: "1.0 kB", 1_200_000: "1.2 MB", 999_999_999: "1.0 GB", 10**13: "10.0 TB"}
        self.assertEqual({each: size(each) for each in shown}, shown)

    def test_visible(self) -> None:
        """Letters of all languages are left alone."""
        self.assertEqual(visible("größe 名前"), "größe 名前")
        self.assertEqual(visible("\x9b\u200b\U000e0001"), r"\x9b\u200b\U000e0001")
        self.assertEqual(visible("a b\xa0c\u3000"), r"a b\xa0c\u3000")
