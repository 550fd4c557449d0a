"""Settings that C Sentinels do not have: in files, by ``SENTINEL SET``, and back in files."""

from __future__ import annotations

from dataclasses import fields

from twisted.trial.unittest import SynchronousTestCase

from tests.config.disk import MemoryDisk
from tests.config.state import make_master
from tests.config.test_elsewhere import MAIN, STATE, Installation
from txsentinel.config.configuration import Configuration, load
from txsentinel.config.directives import apply_set, owner_of, values_wanted
from txsentinel.config.errors import ConfigError
from txsentinel.config.guards import GUARD_SETTINGS, MAX_PERIOD, guard_fields
from txsentinel.config.rendering import master_lines
from txsentinel.core.errors import SettingRefused
from txsentinel.core.options import FailureClasses, GuardOptions, Lineage, MasterOptions

MONITOR = "sentinel monitor m 10.0.0.1 6379 2\n"
CHANGED = GuardOptions(
    crash_failover=True,
    crash_confirm=100,
    failure_classes=FailureClasses.AS_C,
    empty_restart_failover=True,
    data_lost_event=True,
    lineage=Lineage.STRICT,
    fence_isolated=True,
    fence_after=5000,
    forget_sentinels_after=604_800_000,
    forget_replicas_after=86_400_000,
    failover_block_period=3_600_000,
    pause_events=True,
)
"""No setting has its default."""

LINES = """\
#: txsentinel crash-failover m on
#: txsentinel crash-confirm m 100
#: txsentinel failure-classes m as-c
#: txsentinel empty-restart-failover m on
#: txsentinel data-lost-event m on
#: txsentinel lineage m strict
#: txsentinel fence-isolated m on
#: txsentinel fence-after m 5000
#: txsentinel forget-sentinels-after m 604800000
#: txsentinel forget-replicas-after m 86400000
#: txsentinel failover-block-period m 3600000
#: txsentinel pause-events m on
"""


def read(text: str, files: dict[str, bytes] | None = None) -> Configuration:
    """Read a file."""
    return load("/etc/sentinel.conf", text.encode(), disk=MemoryDisk(files))


def rewritten(configuration: Configuration) -> str:
    """Return the file of one master, rewritten."""
    (record,) = configuration.masters
    master = make_master(record.name)
    master.options = record.options
    document = configuration.document
    document.put(owner_of(record.name), master_lines(master, False, document.elsewhere))
    return document.render().decode()


class FileTests(SynchronousTestCase):
    """Comments in files."""

    def guards(self, text: str) -> GuardOptions:
        """Return the settings of the master in a file."""
        return read(MONITOR + text).masters[0].options.guards

    def test_every_setting_has_a_row(self) -> None:
        """The table has the fields of the options, in their order, and the examples below differ from the defaults."""
        self.assertEqual([row.attribute for row in GUARD_SETTINGS], [field.name for field in fields(GuardOptions)])
        for row in GUARD_SETTINGS:
            self.assertEqual(row.word, row.attribute.replace("_", "-"))
            self.assertNotEqual(row.value(CHANGED), row.value(GuardOptions()))

    def test_read(self) -> None:
        """All settings are read, in any letter case of their words, before or after the master."""
        self.assertEqual(self.guards(LINES), CHANGED)
        self.assertEqual(read(LINES + MONITOR).masters[0].options.guards, CHANGED)
        self.assertEqual(self.guards(LINES.replace("m on", "m YES").replace("strict", "Strict")), CHANGED)
        self.assertEqual(self.guards(LINES.replace("crash-failover", "Crash-Failover")), CHANGED)

    def test_defaults(self) -> None:
        """Without comments, all settings are neutral; the last of several comments counts."""
        self.assertEqual(self.guards(""), GuardOptions())
        self.assertEqual(self.guards("#: txsentinel lineage m strict\n#: txsentinel lineage m warn\n"), GuardOptions())
        self.assertEqual(self.guards("# : txsentinel lineage m strict\n#txsentinel lineage m strict\n"), GuardOptions())

    def test_written(self) -> None:
        """What was read is written again, in its place."""
        text = "# above\n" + LINES + "# below\n" + MONITOR
        again = rewritten(read(text))
        self.assertTrue(again.startswith(text), again)
        self.assertEqual(again.count("#: txsentinel"), len(GUARD_SETTINGS))
        self.assertEqual(read(again).masters[0].options.guards, CHANGED)

    def test_written_in_place(self) -> None:
        """A changed setting keeps its place; one that is back at its default has no line."""
        configuration = read("#: txsentinel crash-confirm m 100\n# why\n" + MONITOR)
        options = configuration.masters[0].options
        for value, expected in (("70", "#: txsentinel crash-confirm m 70\n# why\n"), ("60", "# why\n")):
            apply_set(options, "crash-confirm", [value], deny_scripts=True, executable=lambda path: False)
            self.assertTrue(rewritten(configuration).startswith(expected))

    def test_quoted_names(self) -> None:
        """The name of a master is quoted as in directives."""
        text = 'sentinel monitor "a b" 10.0.0.1 6379 2\n#: txsentinel lineage "a b" strict\n'
        again = rewritten(read(text))
        self.assertIn('\n#: txsentinel lineage "a b" strict\n', again)
        self.assertEqual(read(again).masters[0].options.guards.lineage, Lineage.STRICT)

    def test_invalid(self) -> None:
        """A bad value is refused with the file, the line and what is allowed."""
        period = f"a whole number of milliseconds from {{}} to {MAX_PERIOD}"
        half = ", 0 for half of down-after-milliseconds"
        for comment, allowed in (
            ("crash-failover m maybe", "one of on, off, yes, no"),
            ("crash-failover m 1", "one of on, off, yes, no"),
            ("crash-confirm m 0", period.format(1)),
            ("crash-confirm m 60ms", period.format(1)),
            ("crash-confirm m 1.5", period.format(1)),
            ('crash-confirm m ""', period.format(1)),
            (f"crash-confirm m {MAX_PERIOD + 1}", period.format(1)),
            ("failure-classes m off", "one of on, as-c"),
            ("data-lost-event m o", "one of on, off, yes, no"),
            ("lineage m off", "one of warn, strict"),
            ("fence-isolated m true", "one of on, off, yes, no"),
            ("fence-after m -1", period.format(0) + half),
        ):
            error = self.assertRaises(ConfigError, read, f"{MONITOR}#: txsentinel {comment}\n")
            word = comment.split()[0]
            self.assertEqual(error.message, f"In /etc/sentinel.conf: {word} must be {allowed}.")
            self.assertEqual((error.line_number, error.line), (2, f"#: txsentinel {comment}"))
            self.assertIn("at line 2\n", str(error))

    def test_wrong_number_of_words(self) -> None:
        """A setting without a value, or with two, is refused."""
        for words in ("lineage", "lineage m", "lineage m warn strict"):
            error = self.assertRaises(ConfigError, read, f"{MONITOR}#: txsentinel {words}\n")
            self.assertEqual(
                error.message, "In /etc/sentinel.conf: 'lineage' must be followed by a master and a value."
            )

    def test_included_file(self) -> None:
        """The error names the file that contains the line."""
        files = {"/etc/more.conf": b"\n\n#: txsentinel lineage m bad\n"}
        error = self.assertRaises(ConfigError, read, MONITOR + "include /etc/more.conf\n", files)
        self.assertEqual(error.line_number, 3)
        self.assertTrue(error.message.startswith("In /etc/more.conf: "), error.message)
        error = self.assertRaises(ConfigError, read, f"{MONITOR}include /n*\n#: txsentinel lineage m bad\n", files)
        self.assertTrue(error.message.startswith("In /etc/sentinel.conf: "), error.message)

    def test_unknown(self) -> None:
        """Unknown comments are kept and warned of."""
        text = MONITOR + "#: txsentinel rest m 1796089285\n#: txsentinel\n"
        configuration = read(text)
        self.assertEqual(
            configuration.warnings,
            [
                "/etc/sentinel.conf, line 2: '#: txsentinel rest m 1796089285' is unknown here."
                " It is kept, without effect."
            ],
        )
        self.assertIn("#: txsentinel rest m 1796089285\n#: txsentinel\n", rewritten(configuration))

    def test_misspelled(self) -> None:
        """A comment that differs in spaces or case only is kept and warned of; other comments are not."""
        for line in (
            "#:txsentinel lineage m strict",
            "# : txsentinel lineage m strict",
            "#: TXSENTINEL lineage m strict",
        ):
            configuration = read(f"{MONITOR}{line}\n")
            expected = f"/etc/sentinel.conf, line 2: '{line}' is unknown here. It is kept, without effect."
            self.assertEqual(configuration.warnings, [expected])
            self.assertEqual(configuration.masters[0].options.guards.lineage, Lineage.WARN)
            self.assertIn(line, rewritten(configuration))
        self.assertEqual(read(f"{MONITOR}# txsentinel lineage m strict\n#:txsentinels rule\n").warnings, [])

    def test_as_a_directive(self) -> None:
        """The error about a setting that is written as a directive has the comment to write."""
        error = self.assertRaises(ConfigError, read, f"{MONITOR}sentinel crash-failover m on\n")
        self.assertTrue(error.message.startswith("Unrecognized sentinel configuration statement."), error.message)
        self.assertTrue(error.message.endswith(" #: txsentinel crash-failover m on"), error.message)

    def test_unbalanced_quotes(self) -> None:
        """A comment whose words cannot be split is unknown."""
        configuration = read(MONITOR + '#: txsentinel lineage m "strict\n')
        (warning,) = configuration.warnings
        self.assertTrue(warning.endswith("is unknown here. It is kept, without effect."), warning)

    def test_notes_on_other_files_are_known(self) -> None:
        """The comments about settings in other files are no reason to warn."""
        text = MONITOR + "#: txsentinel removed x\n#: txsentinel unset m auth-pass\n"
        self.assertEqual(read(text).warnings, [])

    def test_unknown_master(self) -> None:
        """A master that a C Sentinel has removed is no reason to refuse the start."""
        configuration = read(MONITOR + "#: txsentinel lineage gone strict\n")
        self.assertEqual(
            configuration.warnings,
            ["/etc/sentinel.conf, line 2: 'gone' is not monitored, 'lineage' has no effect."],
        )
        self.assertEqual(configuration.document.owners("master"), ["m", "gone"])

    def test_fence_after_is_limited(self) -> None:
        """A C Sentinel may have set a shorter ``down-after``: a longer ``fence-after`` is limited, with a warning."""
        text = MONITOR + "sentinel down-after-milliseconds m 3000\n#: txsentinel fence-after m 3000\n"
        configuration = read(text)
        self.assertEqual(
            configuration.warnings,
            ["Master m: fence-after must be less than down-after-milliseconds, which is 3000. 2999 is used."],
        )
        options = configuration.masters[0].options
        self.assertEqual(options.guards.fence_delay(options.down_after), 2999)
        self.assertEqual(read(text.replace("fence-after m 3000", "fence-after m 2999")).warnings, [])


class SetTests(SynchronousTestCase):
    """``SENTINEL SET``."""

    def setUp(self) -> None:
        """Set up a master with the defaults."""
        self.options = MasterOptions(quorum=2)

    def set(self, option: str, value: str) -> None:
        """Set an option, where scripts are denied."""
        apply_set(self.options, option, [value], deny_scripts=True, executable=lambda path: False)

    def test_all(self) -> None:
        """Each setting takes the words that a file takes."""
        for line in LINES.splitlines():
            _, _, option, _, value = line.split()
            self.assertEqual(values_wanted(option.upper()), 1)
            self.set(option.upper(), value)
        self.assertEqual(self.options, MasterOptions(quorum=2, guards=CHANGED))

    def test_refused(self) -> None:
        """The error names the option, the value and what is allowed; nothing is changed."""
        for option, value, allowed in (
            ("Lineage", "no", "lineage must be one of warn, strict"),
            ("fence-after", "30000", "fence-after must be less than down-after-milliseconds, which is 30000"),
            ("crash-failover", "", "crash-failover must be one of on, off, yes, no"),
        ):
            error = self.assertRaises(SettingRefused, self.set, option, value)
            self.assertEqual(str(error), f"ERR Invalid argument '{value}' for SENTINEL SET '{option}': {allowed}")
        self.assertEqual(self.options, MasterOptions(quorum=2))

    def test_fence_after(self) -> None:
        """It is half of ``down-after`` unless it is set, and always less."""
        self.assertEqual(self.options.guards.fence_delay(30_000), 15_000)
        self.set("fence-after", "29999")
        self.assertEqual(self.options.guards.fence_delay(30_000), 29_999)
        self.assertEqual(self.options.guards.fence_delay(10_000), 9_999)
        self.set("fence-after", "0")
        self.assertEqual(self.options.guards, GuardOptions())

    def test_shown(self) -> None:
        """SENTINEL MASTER has the settings, ``fence-after`` as it takes effect, and some only if they are set."""
        self.assertEqual(
            guard_fields(GuardOptions(), 30_000),
            {
                "crash-failover": "off",
                "crash-confirm": "60",
                "failure-classes": "on",
                "empty-restart-failover": "off",
                "data-lost-event": "off",
                "lineage": "warn",
                "fence-isolated": "off",
                "fence-after": 15_000,
            },
        )
        self.assertEqual(
            list(guard_fields(CHANGED, 30_000).values()),
            ["on", "100", "as-c", "on", "on", "strict", "on", 5000, "604800000", "86400000", "3600000", "on"],
        )


class OtherFilesTests(SynchronousTestCase):
    """Settings in included files, and in a main file with a state file."""

    SHARED = MONITOR.encode() + b"#: txsentinel crash-failover m on\n#: txsentinel crash-confirm m 90\n"

    def installations(self) -> list[Installation]:
        """Return Sentinels that were never started: with an included file, and with a state file."""
        state = b"sentinel state-config-file %s\n" % STATE.encode()
        return [
            Installation({"/main.conf": MAIN, "/shared.conf": self.SHARED}),
            Installation({"/main.conf": state + self.SHARED}),
            Installation({"/main.conf": state + MAIN, "/shared.conf": self.SHARED}),
        ]

    def guards(self, installation: Installation) -> tuple[bool, int]:
        """Return the two settings of the master."""
        guards = installation.core.master("m").options.guards
        return guards.crash_failover, guards.crash_confirm

    def test_changed(self) -> None:
        """A change is in force after restarts, also back to the default or to the value in the other file."""
        for it in self.installations():
            self.assertEqual(self.guards(it), (True, 90))
            for option, value, expected in (
                ("crash-confirm", "50", (True, 50)),
                ("crash-failover", "off", (False, 50)),
                ("crash-confirm", "60", (False, 60)),
                ("crash-confirm", "90", (False, 90)),
                ("crash-failover", "on", (True, 90)),
            ):
                it.set("m", option, value)
                for _ in range(2):
                    it.restart()
                    self.assertEqual(self.guards(it), expected, it.saved)

    def test_state_file(self) -> None:
        """A state file has only the settings that differ."""
        for it in self.installations()[1:]:
            it.restart()
            self.assertNotIn("#: txsentinel", it.saved)
            it.set("m", "crash-confirm", "60")
            it.restart()
            self.assertEqual(it.saved.count("#: txsentinel"), 1)

    def test_removed(self) -> None:
        """A master that is monitored again begins with the defaults."""
        for it in self.installations():
            it.core.administration.remove("m", 0)
            it.restart()
            it.core.administration.monitor("m", "10.0.0.9", 6379, 3, 0)
            for _ in range(2):
                it.restart()
                self.assertEqual(self.guards(it), (False, 60), it.saved)
