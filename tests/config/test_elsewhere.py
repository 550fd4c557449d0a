"""Settings that other files have as well: a change at run time is in force after a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

from tests.config.disk import MemoryDisk
from txsentinel.config.configuration import SAME_FILE, Configuration, load
from txsentinel.config.directives import HEAD, TAIL, apply_set, owner_of, removed_line
from txsentinel.config.errors import ConfigError
from txsentinel.config.rendering import master_lines, own_head_lines, own_tail_lines
from txsentinel.core.options import SentinelOptions
from txsentinel.core.registry import Registry
from txsentinel.core.sentinel import SentinelCore
from txsentinel.model.timings import Limits, Timings
from txsentinel.runtime.restoring import restore_state

SHARED = b"""sentinel monitor m 10.0.0.1 6379 2
sentinel down-after-milliseconds m 5000
sentinel auth-pass m secret
sentinel rename-command m SLAVEOF slave-x
sentinel resolve-hostnames yes
sentinel announce-port 7777
sentinel monitor other 10.0.0.2 6379 2
sentinel parallel-syncs other 4
loglevel debug
"""
MAIN = b"port 26379\ninclude /shared.conf\n"
STATE = "/state/sentinel.conf"


class Installation:
    """Files, and a Sentinel that is started with them, changed and stopped repeatedly."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.disk = MemoryDisk(files)
        self.start()

    def start(self) -> None:
        """Start a process."""
        self.configuration: Configuration = load("/main.conf", self.disk.files["/main.conf"], disk=self.disk)
        self.core = SentinelCore(self.configuration.sentinel, Timings(), Limits(), lambda n: 0)
        restore_state(self.core, self.configuration, 0, 0)
        self.options = self.core.options
        self.options.my_id = self.options.my_id or "a" * 40

    def set(self, name: str, option: str, *values: str) -> None:
        """Execute SENTINEL SET."""
        options = self.core.master(name).options
        apply_set(options, option, values, deny_scripts=False, executable=lambda path: True)

    def restart(self) -> None:
        """Save like the store, and start again with the saved file."""
        document, core = self.configuration.document, self.core
        elsewhere = document.elsewhere
        document.put(HEAD, own_head_lines(core.options, document))
        for name in {*document.owners("master"), *core.registry.masters, *elsewhere.masters}:
            if name in core.registry.masters:
                document.put(owner_of(name), master_lines(core.master(name), False, elsewhere))
            elif name in elsewhere.masters:
                document.put(owner_of(name), [removed_line(name)])
            else:
                document.drop(owner_of(name))
        document.put(TAIL, own_tail_lines(core.options, core.current_epoch, elsewhere))
        self.disk.files[self.configuration.saved_path] = document.render()
        self.start()

    @property
    def registry(self) -> Registry:
        """Return the masters."""
        return self.core.registry

    @property
    def saved(self) -> str:
        """Return the file that is written."""
        return self.disk.files[self.configuration.saved_path].decode()


if TYPE_CHECKING:
    Mixin = SynchronousTestCase
else:
    Mixin = object


class ElsewhereMixin(Mixin):
    """Guarantees for included files and for state files."""

    def installation(self) -> Installation:
        """Set up files of a Sentinel that was never started."""
        raise NotImplementedError

    def test_defaults_over_other_values(self) -> None:
        """A setting that was changed back to its default stays there."""
        for _ in range(2):
            it = self.installation()
            it.restart()
            it.set("m", "down-after-milliseconds", "30000")
            it.set("other", "parallel-syncs", "1")
            it.options.resolve_hostnames = False
            it.options.announce_port = 0
            for _ in range(3):
                it.restart()
                self.assertEqual(it.core.master("m").options.down_after, 30_000)
                self.assertEqual(it.core.master("other").options.parallel_syncs, 1)
                self.assertEqual((it.options.resolve_hostnames, it.options.announce_port), (False, 0))

    def test_unset(self) -> None:
        """A password and a renamed command that were unset do not come back."""
        it = self.installation()
        it.restart()
        it.set("m", "auth-pass", "")
        it.set("m", "rename-command", "SLAVEOF", "SLAVEOF")
        for _ in range(3):
            it.restart()
            options = it.core.master("m").options
            self.assertEqual((options.auth_pass, options.renamed_commands), (None, {}))
        it.set("m", "auth-pass", "another")
        it.set("m", "rename-command", "SLAVEOF", "slave-y")
        for _ in range(3):
            it.restart()
            options = it.core.master("m").options
            self.assertEqual((options.auth_pass, options.renamed_commands), ("another", {"SLAVEOF": "slave-y"}))

    def test_removed(self) -> None:
        """A master that was removed stays so, until it is monitored again."""
        it = self.installation()
        it.restart()
        it.core.administration.remove("m", 0)
        for _ in range(3):
            it.restart()
            self.assertEqual(list(it.registry.masters), ["other"])
        it.core.administration.monitor("m", "10.0.0.9", 6379, 3, 0)
        for _ in range(3):
            it.restart()
            master = it.core.master("m")
            self.assertEqual((master.address.ip, master.options.quorum), ("10.0.0.9", 3))
            self.assertEqual((master.options.down_after, master.options.auth_pass), (30_000, None))

    def test_instances_that_were_removed(self) -> None:
        """Addresses, votes and epochs are those of the file that is written."""
        it = self.installation()
        it.restart()
        master = it.core.master("m")
        place = it.registry.address("10.0.0.5", 6379)
        assert place is not None
        it.registry.add_replica(master, place, 0)
        master.leader_epoch = 8
        it.restart()
        self.assertEqual((list(it.core.master("m").replicas), it.core.current_epoch), (["10.0.0.5:6379"], 8))
        it.registry.drop_replicas(it.core.master("m"))
        it.restart()
        self.assertEqual(list(it.core.master("m").replicas), [])


class IncludedTests(ElsewhereMixin, SynchronousTestCase):
    """A main file that includes another one, at its beginning or its end."""

    where = MAIN

    def installation(self) -> Installation:
        """Set up files of a Sentinel that was never started."""
        return Installation({"/main.conf": self.where, "/shared.conf": SHARED})

    def test_generic_default_from_the_command_line(self) -> None:
        """A default on the command line takes precedence over another value in an included file."""
        configuration = load("/main.conf", MAIN, ["loglevel notice"], disk=self.installation().disk)
        self.assertIn(b"\nloglevel notice\n", configuration.document.render())

    def test_untouched(self) -> None:
        """Unchanged settings are written as usual, and the included file is not written."""
        it = self.installation()
        it.restart()
        self.assertIn("sentinel down-after-milliseconds m 5000\n", it.saved)
        self.assertNotIn("#: txsentinel", it.saved)
        self.assertEqual(it.disk.files["/shared.conf"], SHARED)


class IncludedAtTheEndTests(IncludedTests):
    """The include is after everything that was generated."""

    where = (
        b"port 26379\n# Generated by CONFIG REWRITE\nsentinel myid bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\n"
        b"include /shared.conf\n"
    )

    def test_own_generic_lines_take_precedence(self) -> None:
        """Our own log level counts, wherever the include is."""
        contents = b"loglevel notice\n" + self.where
        configuration = load("/main.conf", contents, disk=self.installation().disk)
        self.assertEqual(configuration.generic.loglevel, "notice")


class StateFileTests(ElsewhereMixin, SynchronousTestCase):
    """``sentinel state-config-file``."""

    def installation(self) -> Installation:
        """Set up a main file with all settings that was never written."""
        main = b"sentinel state-config-file %s\n" % STATE.encode() + MAIN + b"sentinel failover-timeout m 70000\n"
        return Installation({"/main.conf": main, "/shared.conf": SHARED})

    def test_only_the_state_file_is_written(self) -> None:
        """The state file has the ID, epochs and masters, and only the settings that differ."""
        it = self.installation()
        before = dict(it.disk.files)
        it.set("other", "failover-timeout", "9000")
        it.restart()
        self.assertEqual({**it.disk.files, **before}, it.disk.files)
        self.assertEqual(it.configuration.saved_path, STATE)
        self.assertIn("sentinel failover-timeout other 9000\n", it.saved)
        for kept_out in (
            "down-after",
            "failover-timeout m ",
            "auth-pass",
            "port",
            "announce",
            "include",
            "state-config",
        ):
            self.assertNotIn(kept_out, it.saved)
        for word in ("myid ", "monitor m 10.0.0.1 6379 2", "leader-epoch other 0", "current-epoch 0"):
            self.assertIn(f"sentinel {word}", it.saved)
        it.set("other", "failover-timeout", "180000")
        it.restart()
        self.assertNotIn("failover-timeout", it.saved)

    def test_settings_of_the_main_file_can_be_changed_there(self) -> None:
        """A setting that was not changed follows the main file; a switched address does not."""
        it = self.installation()
        it.restart()
        state = it.disk.files[STATE].replace(b"monitor m 10.0.0.1", b"monitor m 10.0.0.7")
        it.disk.files[STATE] = state
        it.disk.files["/shared.conf"] = SHARED.replace(b"m 5000", b"m 1234").replace(b"10.0.0.1", b"10.0.0.8")
        it.start()
        master = it.core.master("m")
        self.assertEqual((master.options.down_after, master.address.ip), (1234, "10.0.0.7"))

    def test_directives_in_both(self) -> None:
        """The state file is read last, and takes precedence; a setting in both files is no error."""
        it = self.installation()
        it.disk.files["/main.conf"] += b"user a on nopass\nsentinel myid " + b"b" * 40 + b"\n"
        it.disk.files[STATE] = (
            SHARED.replace(b"6379 2", b"6379 3").replace(b"m 5000", b"m 77")
            + b"user a off\nsentinel myid "
            + b"c" * 40
            + b"\n"
        )
        it.start()
        options = it.core.master("m").options
        self.assertEqual((options.quorum, options.down_after, it.options.my_id), (3, 77, "c" * 40))
        self.assertEqual(it.configuration.generic.users, [("a", ("off",))])

    def test_main_file_itself(self) -> None:
        """The main file cannot be its own state file."""
        for path in (b"/main.conf", b"main.conf", b"/state/../main.conf"):
            main = b"dir /\nsentinel state-config-file " + path + b"\n"
            error = self.assertRaises(
                ConfigError, load, "/main.conf", main, disk=MemoryDisk({}, directories=("/", "/state"))
            )
            self.assertEqual((error.message, error.line_number), (SAME_FILE, 2))
        self.assertIn("must differ from the main config file", SAME_FILE)

    def test_main_file_without_changes_is_ready_for_another_sentinel(self) -> None:
        """Settings that are in no file are those of a new Sentinel."""
        it = self.installation()
        self.assertEqual(it.options.announce_ip, SentinelOptions().announce_ip)
