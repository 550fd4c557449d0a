"""Reading of a complete configuration."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile

from twisted.trial.unittest import SynchronousTestCase

from tests.config.disk import MemoryDisk
from txsentinel import __version__
from txsentinel.config.configuration import Configuration, load
from txsentinel.config.disk import LocalDisk, read_file
from txsentinel.config.errors import CannotOpen, ConfigError
from txsentinel.config.generic import BufferLimit
from txsentinel.config.keywords import INTEGER, MEMORY
from txsentinel.model.log_text import excerpt

MY_ID = "a" * 40


class LoadCase(SynchronousTestCase):
    """Loads text with a disk in memory."""

    def setUp(self) -> None:
        """Set up an empty disk with two directories."""
        self.disk = MemoryDisk(directories=("/start", "/var/lib/s"))

    def load(self, text: str, *overrides: str, stdin: str = "", known: set[str] | None = None) -> Configuration:
        """Load ``text`` as ``s.conf``."""
        return load("s.conf", text.encode(), overrides, stdin=stdin.encode(), disk=self.disk, known_commands=known)

    def problem(self, text: str, *overrides: str) -> ConfigError:
        """Return the error text for ``text``."""
        error: ConfigError = self.assertRaises(ConfigError, self.load, text, *overrides)
        return error

    def assertRefused(self, text: str, message: str) -> None:
        """Check that ``text`` is refused with ``message``."""
        self.assertEqual(self.problem(text).message, message, text)


class ReadingTests(LoadCase):
    """Valid files."""

    def test_everything_about_a_master(self) -> None:
        """Every directive of a master is accepted, in any order and letter case."""
        self.disk.files["/opt/n.sh"] = self.disk.files["/start/c.sh"] = b"#!"
        loaded = self.load(
            "sentinel known-slave m 10.0.0.2 6380\n"
            "sentinel known-replica m 10.0.0.2 6380\n"
            "sentinel known-replica m ::1 6381\n"
            'sentinel known-sentinel m 10.0.0.9 26379 "run id"\n'
            "sentinel known-sentinel nobody 10.0.0.9 26379\n"
            "sentinel known-sentinel m 10.0.0.8 26379 " + MY_ID + "\n"
            "SENTINEL MONITOR m 10.0.0.1 6379 2\n"
            "sentinel down-after-milliseconds m 5000\n"
            "sentinel failover-timeout m 60000\n"
            "sentinel parallel-syncs m 0\n"
            "sentinel notification-script m /opt/n.sh\n"
            "sentinel client-reconfig-script m c.sh\n"
            "sentinel auth-pass m 's3 cret'\n"
            "sentinel auth-user m al\n"
            "sentinel primary-reboot-down-after-period m 7\n"
            "sentinel config-epoch m 8\n"
            "sentinel leader-epoch m 9\n"
            "sentinel rename-command m Config guess\n"
        )
        (master,) = loaded.masters
        self.assertEqual((master.name, master.host, master.port), ("m", "10.0.0.1", 6379))
        self.assertEqual(master.replicas, [("10.0.0.2", 6380), ("::1", 6381)])
        self.assertEqual(master.sentinels, [("10.0.0.9", 26379, "run id"), ("10.0.0.8", 26379, MY_ID)])
        options = master.options
        self.assertEqual(
            (options.quorum, options.down_after, options.failover_timeout, options.parallel_syncs),
            (2, 5000, 60_000, 0),
        )
        self.assertEqual((options.notification_script, options.client_reconfig_script), ("/opt/n.sh", "c.sh"))
        self.assertEqual((options.auth_pass, options.auth_user, options.reboot_down_after), ("s3 cret", "al", 7))
        self.assertEqual((master.config_epoch, master.leader_epoch, loaded.current_epoch), (8, 9, 8))
        self.assertEqual(options.renamed_commands, {"CONFIG": "guess"})
        self.assertEqual(options.rename_spellings, {"CONFIG": "Config"})

    def test_everything_about_ourselves(self) -> None:
        """Every directive of the Sentinel itself is accepted; empty texts mean unset."""
        loaded = self.load(
            f"sentinel myid {MY_ID}\nsentinel current-epoch 12\nsentinel announce-ip 1.2.3.4\n"
            "sentinel announce-port 7\nsentinel deny-scripts-reconfig No\nsentinel resolve-hostnames yes\n"
            "sentinel announce-hostnames yes\nsentinel sentinel-user u\nsentinel sentinel-pass p\n"
            "port 5000\ntls-port 5001\ntls-replication yes\nrequirepass r\n"
            "sentinel monitor m redis.example 6379 1\n"
        )
        options = loaded.sentinel
        self.assertEqual((options.my_id, loaded.current_epoch), (MY_ID, 12))
        self.assertEqual((options.announce_ip, options.announce_port), ("1.2.3.4", 7))
        self.assertEqual(
            (options.deny_scripts_reconfig, options.resolve_hostnames, options.announce_hostnames),
            (False, True, True),
        )
        self.assertEqual((options.sentinel_user, options.sentinel_pass), ("u", "p"))
        self.assertEqual((options.port, options.tls_port, options.tls_replication), (5000, 5001, True))
        self.assertEqual((options.requirepass, loaded.masters[0].host), ("r", "redis.example"))
        empty = self.load('sentinel announce-ip ""\nsentinel sentinel-user ""\nsentinel sentinel-pass ""\n').sentinel
        self.assertEqual((empty.announce_ip, empty.sentinel_user, empty.sentinel_pass), (None, None, None))

    def test_defaults(self) -> None:
        """An empty file is valid."""
        loaded = self.load("")
        self.assertEqual(loaded.path, "/start/s.conf")
        self.assertEqual((loaded.generic.port, loaded.generic.bind), (26379, ["*", "-::*"]))
        self.assertEqual((loaded.generic.protected_mode, loaded.generic.dir), (False, "/start"))
        self.assertEqual((loaded.masters, loaded.current_epoch, loaded.sentinel.my_id), ([], 0, ""))

    def test_generic(self) -> None:
        """Generic directives are accepted; of those of data servers the last line of each is kept."""
        generic = self.load(
            'bind 127.0.0.1 -::1\nBIND "10.0.0.1 10.0.0.2"\ntimeout 3\ntimeout 4\nloglevel VERBOSE\n'
            "unixsocketperm 700\nclient-query-buffer-limit 2mb\nmaxmemory 1k\nsave 900 1\n"
            "client-output-buffer-limit normal 1kb 2 3 slave 4 5 6\nuser al on nopass\nuser bo off\n"
            "rename-command PING pong\nfoo.bar 1 2\nlatency-tracking-info-percentiles 50 99 99.9\n"
            "dir /var/lib/s\nlogfile s.log\nreplicaof 1.1.1.1 1\nport 0\n"
        ).generic
        self.assertEqual((generic.bind, generic.timeout, generic.loglevel), (["10.0.0.1", "10.0.0.2"], 4, "verbose"))
        self.assertEqual((generic.unixsocketperm, generic.client_query_buffer_limit), (0o700, 2 << 20))
        self.assertEqual(generic.client_output_buffer_limit["normal"], BufferLimit(1024, 2, 3))
        self.assertEqual(generic.client_output_buffer_limit["replica"], BufferLimit(4, 5, 6))
        self.assertEqual(generic.users, [("al", ("on", "nopass")), ("bo", ("off",))])
        self.assertEqual(generic.renamed_commands, {"ping": "pong"})
        self.assertEqual(generic.others["foo.bar"], ("1", "2"))
        self.assertEqual(generic.located(generic.logfile), "/var/lib/s/s.log")
        self.assertEqual(generic.located(""), "")
        self.assertEqual(self.load('bind ""').generic.bind, [])
        self.assertEqual(self.load("bind").generic.bind, [])

    def test_overrides(self) -> None:
        """Options after the file take precedence, and are saved if they change anything."""
        loaded = self.load(
            "port 1\n# end\n", 'port "2"', "tcp-backlog 511", "timeout 9", "dir ../var/lib/s", stdin="hz 11\n"
        )
        self.assertEqual((loaded.generic.port, loaded.generic.timeout, loaded.generic.dir), (2, 9, "/var/lib/s"))
        self.assertEqual(
            loaded.document.render(),
            b"port 2\n# end\n\n# Generated by CONFIG REWRITE\nhz 11\ntimeout 9\ndir /var/lib/s\n",
        )
        sentinel = self.load("", 'sentinel "monitor" "m" "1.1.1.1" "1" "1"', "sentinel")
        self.assertEqual([master.name for master in sentinel.masters], ["m"])

    def test_surrogates(self) -> None:
        """Names need not be valid UTF-8."""
        loaded = load("s.conf", b"sentinel monitor \xff\xe9 1.1.1.1 1 1\n", disk=self.disk)
        self.assertEqual(loaded.masters[0].name.encode("utf-8", "surrogateescape"), b"\xff\xe9")

    def test_local_disk(self) -> None:
        """By default the configuration is read from the local file system."""
        directory = self.mktemp()
        self.assertRaises(ConfigError, load, "s.conf", f"dir {directory}".encode())
        self.assertIsInstance(load("s.conf", b"").path, str)
        self.assertRaises(OSError, LocalDisk().read, directory)


class RealFileTests(SynchronousTestCase):
    """Reading from the local file system."""

    def test_files_that_might_never_end(self) -> None:
        """A FIFO or a socket is refused at once, with and without a writer."""
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        fifo, address = os.path.join(directory, "fifo"), os.path.join(directory, "socket")
        os.mkfifo(fifo)
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind(address)
        error = self.assertRaises(CannotOpen, load, "s.conf", f"include {fifo}".encode())
        self.assertEqual(str(error), f"Fatal error, can't open config file '{fifo}': Not a regular file")
        self.assertRaises(OSError, read_file, address)
        writer = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        self.addCleanup(os.close, writer)
        os.write(writer, b"port 1\n")
        self.assertRaises(CannotOpen, load, "s.conf", f"include {fifo}".encode())
        self.assertEqual(self.assertRaises(OSError, read_file, directory).strerror, "Is a directory")
        self.assertEqual(read_file(os.devnull), b"")

    def test_descriptors(self) -> None:
        """The descriptor of a refused file is closed."""
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            self.assertRaises(OSError, read_file, "/")
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)


class IncludeTests(LoadCase):
    """Included files."""

    def test_in_place(self) -> None:
        """Lines after an include take precedence; nested files and patterns work, relative to ``dir``."""
        self.disk.files |= {"/start/a.conf": b"timeout 1\ninclude b.conf\n", "/start/b.conf": b"hz 3\n"}
        self.disk.files |= {"/var/lib/s/x1.inc": b"tcp-keepalive 4\n", "/var/lib/s/x2.inc": b"timeout 5\n"}
        generic = self.load("include a.conf\ndir /var/lib/s\ninclude x*.inc\ninclude none*\n").generic
        self.assertEqual((generic.timeout, generic.hz, generic.tcp_keepalive), (5, 3, 4))

    def test_missing(self) -> None:
        """A missing file is an error with the text of the operating system."""
        error = self.assertRaises(CannotOpen, self.load, "include gone.conf")
        self.assertEqual(str(error), "Fatal error, can't open config file 'gone.conf': No such file or directory")

    def test_circle(self) -> None:
        """Files that include each other are an error."""
        self.disk.files["/start/a.conf"] = b"include a.conf\n"
        self.assertRaises(CannotOpen, self.load, "include a.conf")

    def test_generated_lines_take_precedence(self) -> None:
        """A master from an included file that was moved by a failover has its new address."""
        self.disk.files["/start/m.conf"] = (
            b"sentinel monitor m 10.0.0.1 1 2\nsentinel config-epoch m 0\nsentinel down-after-milliseconds m 5\n"
        )
        ours = "sentinel monitor m 10.0.0.2 2 2\nsentinel config-epoch m 4\n"
        for text in (f"include m.conf\n{ours}", f"{ours}include m.conf\n"):
            (master,) = self.load(text).masters
            self.assertEqual((master.host, master.port, master.config_epoch), ("10.0.0.2", 2, 4))
            self.assertEqual(master.options.down_after, 5)
        self.assertRefused(f"{ours}include m.conf\n{ours}", "Duplicate master name.")


class ErrorTests(LoadCase):
    """Each error has its text and its line."""

    def test_block(self) -> None:
        """The error has the line and its number."""
        self.assertEqual(
            str(self.problem("\n# c\n  port x  \n")),
            f"\n*** FATAL CONFIG FILE ERROR (txsentinel {__version__}) ***\n"
            "Reading the configuration file, at line 3\n>>> 'port x'\nargument couldn't be parsed into an integer",
        )

    def test_block_without_line(self) -> None:
        """An error that is found after reading has no line."""
        self.assertEqual(
            str(self.problem("logfile /gone/x.log\n")),
            f"\n*** FATAL CONFIG FILE ERROR (txsentinel {__version__}) ***\n"
            "Can't open the log file: No such file or directory",
        )

    def test_line_numbers_of_options(self) -> None:
        """The line numbers of options follow the file and one empty line."""
        self.assertEqual(self.problem("port 1\nport 2\n", "port 3", "foo bar").line_number, 5)

    def test_zeros(self) -> None:
        """A file with NUL bytes is refused with its name, the line and an explanation, before any other error."""
        error = self.problem("# c\nport x\nsentinel mon" + "\0" * 4096 + "000\nport y\n")
        self.assertEqual(error.line_number, 3)
        block = str(error)
        self.assertIn("at line 3\n>>> 'sentinel mon\\0000'\n/start/s.conf has NUL bytes in it (4096, the first", block)
        self.assertIn("power cut", block)
        self.assertNotIn("\0", block)

    def test_zeros_anywhere(self) -> None:
        """NUL bytes are found anywhere in the file."""
        text = "# c\n\n# x\nport 1\nsentinel monitor m 10.0.0.1 6379 2\n"
        self.load(text)
        for at in range(len(text) + 1):
            error = self.problem(f"{text[:at]}\0{text[at:]}")
            self.assertEqual(error.line_number, text[:at].count("\n") + 1)
        self.assertEqual(self.problem("\0" * 4096).line_number, 1)

    def test_zeros_elsewhere(self) -> None:
        """The error has the name of an included file, or standard input."""
        self.disk.files["/start/m.conf"] = b"port 1\n\0"
        error = self.problem("include m.conf\n")
        self.assertEqual((error.line_number, error.message.split()[0]), (2, "/start/m.conf"))
        error = self.assertRaises(ConfigError, self.load, "", stdin="\0")
        self.assertTrue(error.message.startswith("Standard input has NUL bytes"), error.message)

    def test_sentinel_lines(self) -> None:
        """Every ``sentinel`` directive has its errors."""
        monitor = "sentinel monitor m 1.1.1.1 1 1\n"
        unrecognized = "Unrecognized sentinel configuration statement."
        for text, message in (
            ("sentinel foo", unrecognized),
            ("sentinel monitor m 1.1.1.1 1", unrecognized),
            ('sentinel "monitor m 1.1.1.1 1 1"', unrecognized),
            ("sentinel known-replica m 1.1.1.1", unrecognized),
            ("sentinel monitor m 1.1.1.1 1 0", "Quorum must be 1 or greater."),
            ("sentinel monitor m 1.1.1.1 65536 1", "Invalid port number."),
            ("sentinel monitor m redis.example 1 1", "Can't resolve instance hostname."),
            ('sentinel resolve-hostnames yes\nsentinel monitor m "" 1 1', "Can't resolve instance hostname."),
            (monitor + monitor, "Duplicate master name."),
            (monitor + "sentinel down-after-milliseconds x 1", "No such master with specified name."),
            (monitor + "sentinel down-after-milliseconds m 0", "negative or zero time parameter."),
            (monitor + "sentinel failover-timeout m -5", "negative or zero time parameter."),
            (monitor + "sentinel master-reboot-down-after-period m -1", "negative time parameter."),
            (
                monitor + "sentinel notification-script m /x",
                "Notification script seems non existing or non executable.",
            ),
            (
                monitor + "sentinel client-reconfig-script m /x",
                "Client reconfiguration script seems non existing or non executable.",
            ),
            (monitor + "sentinel known-replica m x 1", "Can't resolve instance hostname."),
            (monitor + "sentinel known-sentinel m 1.1.1.1 -1 id", "Invalid port number."),
            (
                monitor + "sentinel rename-command m A b\nsentinel rename-command m a c",
                "Same command renamed multiple times with rename-command.",
            ),
            ("sentinel myid abc", "Malformed Sentinel id in myid option."),
            (
                "sentinel deny-scripts-reconfig x",
                "Please specify yes or no for the deny-scripts-reconfig options.",
            ),
            ("sentinel resolve-hostnames x", "Please specify yes or no for the resolve-hostnames option."),
            ("sentinel announce-hostnames x", "Please specify yes or no for the announce-hostnames option."),
        ):
            self.assertRefused(text, message)

    def test_numbers_with_something_behind_them(self) -> None:
        """Every number in a ``sentinel`` line must be a number as a whole, unlike in C Sentinels."""
        monitor = "sentinel monitor m 1.1.1.1 1 1\n"
        for word in ("51%", "5s", "5e3", "1.5", "5 s", "0x10", "abc", "-", "", "\u0665", "9" * 20, "9" * 5000):
            for line, meaning in (
                ("sentinel monitor n 1.1.1.1 1 {}", "a whole number of Sentinels"),
                ("sentinel monitor n 1.1.1.1 {} 1", "a port number"),
                ("sentinel announce-port {}", "a port number"),
                ("sentinel down-after-milliseconds m {}", "a whole number of milliseconds"),
                ("sentinel failover-timeout m {}", "a whole number of milliseconds"),
                ("sentinel master-reboot-down-after-period m {}", "a whole number of milliseconds"),
                ("sentinel parallel-syncs m {}", "a whole number"),
                ("sentinel known-replica m 1.1.1.2 {}", "a port number"),
                (f"sentinel known-sentinel m 1.1.1.2 {{}} {MY_ID}", "a port number"),
            ):
                error = self.problem(monitor + line.format(f'"{word}"') + "\n")
                self.assertEqual(error.line_number, 2)
                self.assertTrue(error.message.startswith(f"'{excerpt(word)}' is not {meaning}"), error.message)
            if not word.isdigit() or not word.isascii():
                for line in ("sentinel current-epoch {}", "sentinel config-epoch m {}", "sentinel leader-epoch m {}"):
                    error = self.problem(monitor + line.format(f'"{word}"') + "\n")
                    self.assertEqual((error.line_number, error.message), (2, f"'{word}' is not an epoch."))

    def test_numbers_of_the_command_line(self) -> None:
        """Options are parsed as strictly as lines of the file."""
        error = self.problem("sentinel monitor m 1.1.1.1 1 1", "sentinel down-after-milliseconds m 5s")
        self.assertEqual((error.line_number, error.message), (2, "'5s' is not a whole number of milliseconds."))
        error = self.problem("", "timeout 5s")
        self.assertEqual(error.message, "argument couldn't be parsed into an integer")

    def test_generic_numbers(self) -> None:
        """Generic directives with a number accept nothing else; sizes may have a unit."""
        sizes = set(MEMORY.split()) | {"client-query-buffer-limit", "proto-max-bulk-len"}
        numbers = {name for names in INTEGER.values() for name in names.split()} | {"unixsocketperm"}
        for name in sorted(numbers | sizes):
            for word in ("51%", "5s", "5e3", "1.5", "0x10", "abc", "-", "\u0665", "9" * 5000):
                error = self.problem(f"{name} {word}\n")
                self.assertEqual((error.line_number, error.line), (1, f"{name} {word}"))
                self.assertIn("argument", error.message)

    def test_order_of_passes(self) -> None:
        """Errors are raised in the order of execution, not of the file."""
        self.assertEqual(self.problem("sentinel auth-pass m x\nsentinel myid abc\n").line_number, 2)

    def test_generic_lines(self) -> None:
        """Generic directives are validated even if they have no effect on a Sentinel."""
        for text, message in (
            ("foo", "Bad directive or wrong number of arguments"),
            ("include", "Bad directive or wrong number of arguments"),
            ("user", "Bad directive or wrong number of arguments"),
            ("rename-command a", "Bad directive or wrong number of arguments"),
            ("foo.bar", "Module config specified without value"),
            ('foo "bar', "Unbalanced quotes in configuration line"),
            ("port", "wrong number of arguments"),
            ("port 1 2", "wrong number of arguments"),
            ("dir", "wrong number of arguments"),
            ("replicaof a", "wrong number of arguments"),
            ("port 005", "argument couldn't be parsed into an integer"),
            ("PORT 70000", "argument must be between 0 and 65535 inclusive"),
            ("maxclients 0", "argument must be between 1 and 4294967295 inclusive"),
            ("appendonly maybe", "argument must be 'yes' or 'no'"),
            (
                "loglevel loud",
                "argument(s) must be one of the following: debug, verbose, notice, warning, nothing",
            ),
            ("maxmemory much", "argument must be a memory value"),
            ("maxmemory-clients much", "argument must be a memory or percent value"),
            ("maxmemory-clients 05%", "argument must be a memory or percent value"),
            ("maxmemory-clients 101%", "percentage argument must be less or equal to 100"),
            ("client-query-buffer-limit 5", "argument must be between 1048576 and 9223372036854775807 inclusive"),
            ("unixsocketperm 9", "argument couldn't be parsed as an octal number"),
            ("unixsocketperm 1000", "argument must be between 0 and 777 inclusive"),
            ("bind " + "1 " * 17, "Too many bind addresses specified."),
            ("dir /gone", "No such file or directory"),
            (
                "client-output-buffer-limit normal 0 0",
                "Wrong number of arguments in buffer limit configuration.",
            ),
            (
                "client-output-buffer-limit master 0 0 0",
                "Invalid client class specified in buffer limit configuration.",
            ),
            (
                "client-output-buffer-limit normal x 0 0",
                "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
            ),
            (
                "user a on\nuser a off",
                "Error in user declaration 'a': Duplicate user found. A user can only be defined once in config files",
            ),
        ):
            self.assertRefused(text, message)

    def test_renamed_commands(self) -> None:
        """Only existing commands can be renamed, if the caller passes their names."""
        self.assertEqual(self.load("rename-command PING x", known={"ping"}).generic.renamed_commands, {"ping": "x"})
        error = self.assertRaises(ConfigError, self.load, "rename-command foo x", known={"ping"})
        self.assertEqual(error.message, "No such command in rename-command")
