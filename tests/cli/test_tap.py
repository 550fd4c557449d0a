"""Tests of the command line of ``twistd sentinel``, and of its process."""

from __future__ import annotations

import io
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from twisted.application.service import IService, IServiceMaker, ServiceMaker
from twisted.plugin import IPlugin
from twisted.python import usage
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

import txsentinel
from txsentinel.cli import extensions, tap
from txsentinel.cli.tap import FOREGROUND, Options
from txsentinel.interfaces import IOperator, ISentinelExtension, ISentinelView, IStateDirectory
from txsentinel.model.extension_settings import ExtensionSetting
from txsentinel.process.files import FileLock
from txsentinel.process.log_queue import PipeSink
from txsentinel.process.logs import FileSink, StreamSink
from txsentinel.process.termination import SIGNALS

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(txsentinel.__file__)))
CONFIG = "port 0\nunixsocket sentinel.sock\nsentinel monitor m 127.0.0.1 1 2\n"
SHAPE = re.compile(r"\d+:X \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d\.\d{3} [.*#-] \S.*")
MY_ID = "0123456789abcdef" * 2 + "01234567"
TWISTD = "from twisted.scripts.twistd import run; run()"
CONSOLE_SCRIPT = "from txsentinel.cli.main import main; main()"


@implementer(ISentinelExtension)
class Web:
    """A fake extension."""

    name = "web"
    description = "shows things"

    def makeService(
        self,
        view: ISentinelView,
        operator: IOperator,
        argument: str,
        state_dir: IStateDirectory,
        settings: Sequence[ExtensionSetting] = (),
        reactor: object = None,
    ) -> IService:
        """Refuse, as these tests do not start it."""
        raise AssertionError(argument)


class TapCase(SynchronousTestCase):
    """The base of the tests: a directory with a configuration, and captured standard streams."""

    def setUp(self) -> None:
        self.directory = os.path.realpath(tempfile.mkdtemp(prefix="tap"))  # short enough for a socket's path
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = os.path.join(self.directory, "sentinel.conf")
        self.write(CONFIG)
        self.stderr = io.StringIO()
        self.patch(sys, "stderr", self.stderr)
        self.patch(extensions, "installed_extensions", lambda: {"web": Web()})
        for number in SIGNALS:
            self.addCleanup(signal.signal, number, signal.getsignal(number))

    def write(self, text: str) -> None:
        """Write the configuration."""
        with open(self.path, "w", encoding="ascii") as file:
            file.write(text)

    def parse(self, *words: str, twistd: Mapping[str, object] | None = None) -> Options:
        """Parse the options, with options of ``twistd`` if they are given."""
        options = Options()
        if twistd is not None:
            defaults = {
                "nodaemon": 1,
                "debug": 0,
                "logfile": None,
                "syslog": 0,
                "prefix": "twisted",
                "pidfile": "twistd.pid",
            }
            # Only a mapping of the options of twistd is looked at.
            options.parent = cast(usage.Options, {**defaults, **twistd})
        try:
            options.parseOptions(list(words))
        finally:
            if options.lock is not None:
                # As if the process had ended.
                options.lock.release()
        return options

    def refused(self, *words: str) -> str:
        """Return the text with which parsing ends the process."""
        ended = self.assertRaises(SystemExit, self.parse, *words)
        self.assertIsInstance(ended.code, str, "a text as the code means status 1")
        return str(ended.code)


class ConfigurationTests(TapCase):
    """Tests of reading the configuration, and of its errors."""

    def test_option(self) -> None:
        """The file is named with ``--config`` or ``-c``."""
        for words in (("-c", self.path), ("--config", self.path), (f"--config={self.path}",)):
            self.assertEqual(self.parse(*words).configuration.path, self.path)

    def test_first_word(self) -> None:
        """The file may also be the first word, as for the C servers."""
        self.assertEqual(self.parse(self.path).configuration.path, self.path)
        self.assertEqual(self.parse(self.path, "--", "--port", "7").configuration.generic.port, 7)
        self.assertEqual(self.parse(self.path, "--port", "7").configuration.generic.port, 7)

    def test_file_in_use(self) -> None:
        """A file that another Sentinel saves to ends the start; left-over temporary files are removed."""
        leftover = self.path + ".tmp-txsentinel-abcd1234"
        with open(leftover, "w", encoding="ascii") as file:
            file.write("secret")
        lock = FileLock(self.path)
        refused = self.refused("-c", self.path)
        self.assertEqual(
            refused, f"Sentinel config file {self.path} is in use by another txsentinel process. Exiting..."
        )
        self.assertTrue(os.path.exists(leftover))
        log = os.path.join(os.path.dirname(self.path), "in-use.log")
        self.assertEqual(self.refused("-c", self.path, "--", "--logfile", log), refused)
        with open(log, encoding="ascii") as file:
            self.assertIn(f" # {refused}\n", file.read())
        lock.release()
        self.parse("-c", self.path)
        self.assertFalse(os.path.exists(leftover))

    def test_paths_become_absolute(self) -> None:
        """A relative path is relative to the directory of the start, even if the daemon changes its directory."""
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.directory)
        options = self.parse("-c", "sentinel.conf")
        os.chdir("/")
        self.assertEqual(options.configuration.path, self.path)
        self.assertEqual(options.configuration.generic.located("x.log"), os.path.join(self.directory, "x.log"))

    def test_overrides(self) -> None:
        """Directives after the two dashes override those of the file."""
        configuration = self.parse(
            "-c", self.path, "--", "--port", "5000", "--sentinel", "monitor", "n", "::1", "6379", "3"
        ).configuration
        self.assertEqual(configuration.generic.port, 5000)
        self.assertEqual([(each.name, each.options.quorum) for each in configuration.masters], [("m", 2), ("n", 3)])

    def test_stdin(self) -> None:
        """A dash reads further directives from standard input."""
        self.patch(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"port 5001\n")))
        self.assertEqual(self.parse("-c", self.path, "--", "-").configuration.generic.port, 5001)

    def test_no_file(self) -> None:
        """A start without a file is refused."""
        self.assertEqual(self.refused(), "Sentinel needs config file on disk to save state. Exiting...")

    def test_missing_file(self) -> None:
        """A file that cannot be read is named, with the reason."""
        self.assertEqual(
            self.refused("-c", self.path + ".gone"),
            f"Fatal error, can't open config file '{self.path}.gone': No such file or directory",
        )

    def test_bad_directive(self) -> None:
        """The error block of the C servers shows the line and the error."""
        self.write("port 1\nbogus 1\n")
        text = self.refused("-c", self.path)
        self.assertTrue(text.startswith("\n*** FATAL CONFIG FILE ERROR "), text)
        self.assertTrue(text.endswith(", at line 2\n>>> 'bogus 1'\nBad directive or wrong number of arguments"), text)

    def test_renaming_unknown_command(self) -> None:
        """A misspelt ``rename-command`` is refused with its line, because the command would stay available."""
        self.write("rename-command SENTINEL S3NTINEL\nrename-command SHUTDWON ''\n")
        text = self.refused("-c", self.path)
        self.assertTrue(
            text.endswith(", at line 2\n>>> 'rename-command SHUTDWON '''\nNo such command in rename-command"), text
        )

    def test_unwritable_file(self) -> None:
        """A file that cannot be written is refused at the start."""
        self.write(CONFIG)

        def denied(path: str) -> None:
            raise PermissionError(13, "Permission denied", path)

        self.patch(tap, "check_writable", denied)
        self.assertEqual(
            self.refused("-c", self.path),
            f"Sentinel config file {self.path} is not writable: Permission denied. Exiting...",
        )

    def test_stray_words(self) -> None:
        """Words without an option are a usage error."""
        refusal = self.assertRaises(UsageError, self.parse, "-c", self.path, "--", "port", "5000")
        self.assertIn("port", str(refusal))

    def test_extensions(self) -> None:
        """Extensions are selected by name, with the text after the first colon as the argument."""
        options = self.parse("-c", self.path, "--extension", "web:host:8026", "--extension", "web")
        self.assertEqual(
            [(each.extension.name, each.argument) for each in options.extensions], [("web", "host:8026"), ("web", "")]
        )
        refusal = self.assertRaises(UsageError, self.parse, "-c", self.path, "--extension", "wbe:1")
        self.assertEqual(str(refusal), "no such extension: wbe (installed: web)")
        self.assertIn("web (shows things)", str(options))


class ConflictTests(TapCase):
    """Tests of conflicts between the options of ``twistd`` and the file."""

    def test_no_conflict(self) -> None:
        """Without a directive about daemons there is no warning."""
        self.assertFalse(self.parse("-c", self.path, twistd={"nodaemon": 1}).detaches)
        self.assertTrue(self.parse("-c", self.path, twistd={"nodaemon": 0}).detaches)
        self.assertFalse(self.parse("-c", self.path, twistd={"nodaemon": 0, "debug": 1}).detaches)
        self.assertFalse(self.parse("-c", self.path).detaches)
        self.assertEqual(self.stderr.getvalue(), "")

    def test_conflict(self) -> None:
        """Twistd decides; a contradicting directive causes a warning on standard error."""
        for line, nodaemon, label in (
            ("daemonize yes", 1, FOREGROUND),
            ("daemonize no", 0, "twistd detaches unless given -n"),
            ("supervised systemd", 0, "twistd detaches from its supervisor unless given -n"),
        ):
            self.stderr.truncate(0)
            self.stderr.seek(0)
            self.write(CONFIG + line + "\n")
            self.parse("-c", self.path, twistd={"nodaemon": nodaemon})
            self.assertEqual(self.stderr.getvalue(), f"sentinel.conf has '{line}', but {label}.\n")

    def test_pid_file_of_twistd(self) -> None:
        """Two Sentinels can be started in one directory; a requested pid file is written."""
        for twistd, line, path in (
            ({"nodaemon": 1}, "", ""),
            ({"nodaemon": 1, "pidfile": "mine.pid"}, "", "mine.pid"),
            ({"nodaemon": 0}, "", "twistd.pid"),
            ({"nodaemon": 0}, "pidfile s.pid\n", ""),
            ({"nodaemon": 0, "pidfile": "mine.pid"}, "pidfile s.pid\n", "mine.pid"),
        ):
            self.write(CONFIG + line)
            parent = self.parse("-c", self.path, twistd=twistd).parent
            assert parent is not None
            self.assertEqual(parent["pidfile"], path)

    def test_log_destination(self) -> None:
        """Twistd's option first, then the directive, then standard output, or twistd.log for a daemon."""
        with_file = f"logfile {self.directory}/s.log\n"
        for twistd, line, path in (
            (None, "", None),
            (None, with_file, f"{self.directory}/s.log"),
            ({"nodaemon": 1}, "", None),
            ({"nodaemon": 1}, with_file, f"{self.directory}/s.log"),
            ({"nodaemon": 1, "logfile": "-"}, with_file, None),
            ({"nodaemon": 1, "logfile": "/x/t.log"}, with_file, "/x/t.log"),
            ({"nodaemon": 0}, with_file, f"{self.directory}/s.log"),
            ({"nodaemon": 0}, "", os.path.abspath("twistd.log")),
        ):
            self.write(CONFIG + line)
            options = self.parse("-c", self.path, twistd=twistd)
            # The log observer does not expose its destination.
            sink = options._sink()
            self.assertIsInstance(sink, StreamSink if path is None else FileSink)
            self.assertEqual(getattr(sink, "path", None), path)

    def test_daemons_have_no_standard_output(self) -> None:
        """A daemon that should log to standard output is refused, as twistd itself does."""
        self.assertRaises(UsageError, self.parse, "-c", self.path, twistd={"nodaemon": 0, "logfile": "-"})

    def test_relative_files_follow_dir(self) -> None:
        """As with the C servers, a log file is relative to ``dir``."""
        os.mkdir(os.path.join(self.directory, "sub"))
        self.write(f"{CONFIG}dir {self.directory}/sub\nlogfile s.log\n")
        options = self.parse("-c", self.path)
        self.assertEqual(options.log_file, f"{self.directory}/sub/s.log")

    def test_log_that_may_block(self) -> None:
        """A standard output that is a pipe, and a log file that is a FIFO, do not block."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        with os.fdopen(writing, "wb") as stream:
            self.assertIsInstance(tap.stream_sink(stream), PipeSink)
        with open(f"{self.directory}/out", "wb") as stream:
            self.assertIsInstance(tap.stream_sink(stream), StreamSink)
        fifo = f"{self.directory}/fifo"
        os.mkfifo(fifo)
        self.write(f"{CONFIG}logfile {fifo}\n")
        self.assertIn("Can't open the log file: No such device or address", self.refused("-c", self.path))
        self.addCleanup(os.close, os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))
        options = self.parse("-c", self.path)
        # The log observer does not expose its destination.
        self.assertIsInstance(options._sink(), PipeSink)

    def test_loglevel(self) -> None:
        """The log applies the directive, also after a change."""
        self.write(f"{CONFIG}logfile {self.directory}/s.log\nloglevel warning\n")
        options = self.parse("-c", self.path)
        log = options.log()
        event = {"log_time": 0.0, "text": "a verbose line", "sentinel_level": 1}
        log(event)
        options.configuration.generic.loglevel = "debug"
        log(event)
        with open(f"{self.directory}/s.log", encoding="ascii") as file:
            self.assertEqual([line.split(" - ")[1] for line in file], ["a verbose line\n"])


class PluginTests(SynchronousTestCase):
    """Tests of the plug-in of ``twistd``."""

    def test_service_maker(self) -> None:
        """The plug-in has the name ``sentinel`` and provides the options."""
        names: dict[str, object] = {}
        with open(os.path.join(ROOT, "twisted", "plugins", "txsentinel_plugin.py"), encoding="ascii") as file:
            exec(compile(file.read(), "txsentinel_plugin", "exec"), names)
        maker = names["sentinel"]
        verifyObject(IServiceMaker, maker)
        self.assertTrue(IPlugin.providedBy(maker))
        assert isinstance(maker, ServiceMaker)
        self.assertEqual(maker.tapname, "sentinel")
        self.assertIs(maker.options, Options)
        self.assertIs(maker.makeService, tap.makeService)


class ProcessTests(TapCase):
    """Tests with whole processes on a Unix socket, which notify their readiness."""

    def setUp(self) -> None:
        super().setUp()
        self.write(f"{CONFIG}sentinel myid {MY_ID}\ndir {self.directory}\n")
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.manager.close)
        self.manager.bind(os.path.join(self.directory, "notify"))
        self.manager.settimeout(30)

    def start(self, *words: str, program: str = TWISTD) -> subprocess.Popen[str]:
        """Start a process that is killed after the test."""
        environment = {
            **os.environ,
            "PYTHONPATH": ROOT,
            "NOTIFY_SOCKET": os.path.join(self.directory, "notify"),
            "SENTINEL_CONF": self.path,
        }
        process = subprocess.Popen(
            [sys.executable, "-c", program, *words],
            cwd=self.directory,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.addCleanup(process.kill)
        return process

    def test_start_and_stop(self) -> None:
        """Readiness is notified, every log line is well-formed, a signal ends it, and only the state remains."""
        process = self.start("-n", "sentinel", "-c", "sentinel.conf", "--", "--supervised", "systemd", "--pidfile", "p")
        self.assertIn(b"READY=1", self.manager.recv(999))
        with open(os.path.join(self.directory, "p"), encoding="ascii") as file:
            self.assertEqual(file.read(), f"{process.pid}\n")
        process.send_signal(signal.SIGTERM)
        self.await_stopping()
        stdout, stderr = process.communicate(timeout=30)
        self.assertEqual((process.returncode, stderr), (0, ""))
        for line in stdout.splitlines():
            self.assertTrue(SHAPE.fullmatch(line), line)
            self.assertTrue(line.startswith(f"{process.pid}:X "), line)
        self.assertIn(f" * Sentinel ID is {MY_ID}\n", stdout)
        self.assertIn(" # +monitor master m 127.0.0.1 1 quorum 2\n", stdout)
        self.assertEqual(set(os.listdir(self.directory)) - {"sentinel.sock"}, {"notify", "sentinel.conf"})

    def test_openssl_is_not_loaded(self) -> None:
        """
        A process that uses no TLS does not load OpenSSL: by the console script none of it, by ``twistd`` nothing but
        what the standard library loads.
        """
        for program, words, unwanted in (
            (CONSOLE_SCRIPT, ["sentinel.conf"], ("cryptography", "libssl", "libcrypto", "_ssl", "_hashlib")),
            (TWISTD, ["-n", "sentinel", "-c", "sentinel.conf", "--"], ("cryptography",)),
        ):
            process = self.start(*words, "--supervised", "systemd", program=program)
            self.assertIn(b"READY=1", self.manager.recv(999))
            maps = Path(f"/proc/{process.pid}/maps").read_text(encoding="ascii")
            self.assertIn("libc", maps)
            self.assertEqual([name for name in unwanted if name in maps], [], program)
            process.send_signal(signal.SIGTERM)
            self.await_stopping()
            process.communicate(timeout=30)

    def test_application_file(self) -> None:
        """The .tac file runs the same Sentinel, with the same log."""
        with open(self.path, "a", encoding="ascii") as file:
            file.write("supervised auto\n")
        process = self.start("-ny", str(Path(__file__).parents[2] / "sentinel.tac"), "--pidfile=")
        self.assertIn(b"READY=1", self.manager.recv(999))
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=30)
        self.assertEqual((process.returncode, stderr), (0, ""))
        self.assertIn(f" * Sentinel ID is {MY_ID}\n", stdout)
        self.assertTrue(all(SHAPE.fullmatch(line) for line in stdout.splitlines()), stdout)

    def await_stopping(self) -> None:
        """Receive until the Sentinel is stopping; a status may come before."""
        while b"STOPPING=1" not in self.manager.recv(999):
            continue

    def test_daemon(self) -> None:
        """Detached, it logs under its final pid to the configured file, and cleans up when it ends."""
        process = self.start(
            "sentinel", "-c", "sentinel.conf", "--", "--logfile", "s.log", "--pidfile", "s.pid", "--supervised", "auto"
        )
        self.assertIn(b"READY=1", self.manager.recv(999))
        stdout, stderr = process.communicate(timeout=30)
        self.assertEqual((process.returncode, stdout), (0, ""))
        self.assertIn("supervised auto", stderr)
        with open(os.path.join(self.directory, "s.pid"), encoding="ascii") as file:
            pid = int(file.read())
        watched = os.pidfd_open(pid)
        self.addCleanup(os.close, watched)
        os.kill(pid, signal.SIGTERM)
        self.await_stopping()
        self.assertTrue(select.select([watched], [], [], 30)[0], "the daemon did not end")
        with open(os.path.join(self.directory, "s.log"), encoding="ascii") as file:
            log = file.read()
        self.assertIn(f"{pid}:X ", log)
        self.assertIn(f" * Sentinel ID is {MY_ID}\n", log)
        self.assertTrue(all(SHAPE.fullmatch(line) for line in log.splitlines()), log)
        self.assertFalse(os.path.exists(os.path.join(self.directory, "twistd.pid")))

    def test_bad_configuration(self) -> None:
        """The status is 1, standard error has the error block, and there is no traceback."""
        self.write("bogus 1\n")
        process = self.start("-n", "sentinel", "-c", "sentinel.conf")
        stdout, stderr = process.communicate(timeout=30)
        self.assertEqual((process.returncode, stdout), (1, ""))
        self.assertTrue(stderr.startswith("\n*** FATAL CONFIG FILE ERROR "), stderr)
        self.assertNotIn("Traceback", stderr)

    def test_no_port(self) -> None:
        """The status is 1 with one error line if no port can be opened."""
        process = self.start("-n", "sentinel", "-c", "sentinel.conf", "--", "--unixsocket", "gone/sentinel.sock")
        stdout, stderr = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 1, stdout)
        self.assertIn(" # Failed opening Unix socket: bind: ", stdout)
        self.assertNotIn("Traceback", stdout + stderr)
