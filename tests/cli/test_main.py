"""The console script: what it prints, what it runs, and what it refuses."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.scripts import twistd
from twisted.trial.unittest import SynchronousTestCase

from tests.conftest import COMPILED
from txsentinel import __version__
from txsentinel.cli import check as check_module
from txsentinel.cli.main import main
from txsentinel.process.files import FileLock
from txsentinel.process.termination import SIGNALS

CONFIG = "port 26380\nsentinel monitor mymaster 127.0.0.1 6379 2\n"
LEFTOVER = ".tmp-txsentinel-abcd1234"


class MainCase(SynchronousTestCase):
    """A configuration file, and the output of the console script."""

    def setUp(self) -> None:
        self.stdout = io.StringIO()
        self.patch(sys, "stdout", self.stdout)
        self.patch(sys, "argv", ["txsentinel"])
        directory = Path(self.mktemp()).absolute()
        directory.mkdir(parents=True)
        self.file = directory / "sentinel.conf"
        self.file.write_text(CONFIG)
        for number in SIGNALS:
            self.addCleanup(signal.signal, number, signal.getsignal(number))

    def status(self, *words: str) -> object:
        """The status, or the text for standard error, that a command line ends with."""
        return self.assertRaises(SystemExit, main, words).code


class MainTests(MainCase):
    """One command line each."""

    def test_version(self) -> None:
        """``--version`` prints name, version and kind of build."""
        build = "compiled" if os.environ.get(COMPILED) else "pure"
        for words in (["--version"], ["-v"], ["check", "--version"]):
            self.stdout.truncate(self.stdout.seek(0))
            self.assertEqual(self.status(*words), 0)
            self.assertEqual(self.stdout.getvalue(), f"txsentinel {__version__} ({build})\n")

    def test_verbs_need_the_extra(self) -> None:
        """Without click a verb names the extra to install, and the other commands work."""
        for name in [each for each in sys.modules if each.split(".")[0] in ("click", "rich")]:
            self.patch_module(name)
        for name in [each for each in sys.modules if each.startswith("txsentinel.cli.operator.")]:
            self.patch_module(name)
        self.addCleanup(sys.modules.pop, "click", None)  # before what was there is restored
        sys.modules["click"] = None  # type: ignore[assignment]  # what makes an import fail
        refused = str(self.status("list"))
        self.assertIn("click is not installed", refused)
        self.assertIn("pip install 'txsentinel[cli]'", refused)
        self.assertEqual(self.status("config", "check", str(self.file)), 0)

    def patch_module(self, name: str) -> None:
        """Forget a module until the end of the test."""
        self.addCleanup(sys.modules.__setitem__, name, sys.modules.pop(name))

    def test_check_loads_no_click(self) -> None:
        """Neither the service nor ``check`` imports what only the verbs need."""
        code = "import sys; from txsentinel.cli import main, check, tap; print(*({'click', 'rich'} & {*sys.modules}))"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        self.assertEqual(found.stdout, "\n")

    def test_no_arguments(self) -> None:
        """Without a file the usage goes to standard error, and the status is that of an error."""
        self.assertIn("Usage: txsentinel [options] FILE", str(self.status()))
        self.assertEqual(self.stdout.getvalue(), "")

    def test_help(self) -> None:
        """Asking for the usage is no error."""
        for words in (["--help"], ["-h"], ["check", "--help"]):
            self.stdout.truncate(self.stdout.seek(0))
            self.assertEqual(self.status(*words), 0)
            self.assertIn("Usage: txsentinel [options] FILE", self.stdout.getvalue())

    def test_misspelled_verb(self) -> None:
        """A word that is no file and resembles a verb is refused with the verb; a file of that name is used."""
        self.assertIn("no file 'lst'; did you mean 'list'?", str(self.status("lst")))
        self.assertIn("can't open config file", str(self.status("sentinels")))
        self.file.rename("lst")
        self.addCleanup(os.unlink, "lst")
        started: list[Any] = []
        self.patch(twistd, "runApp", started.append)
        self.assertEqual(self.status("lst"), 0)
        [options] = started
        options.subOptions.lock.release()

    def test_run(self) -> None:
        """A file and directives become a service of twistd that stays in the foreground and writes no PID file."""
        started: list[Any] = []
        self.patch(twistd, "runApp", started.append)
        self.assertEqual(self.status(str(self.file), "--port", "5000"), 0)
        [options] = started
        options.subOptions.lock.release()
        self.assertTrue(options["nodaemon"])
        self.assertEqual(options["pidfile"], "")
        self.assertEqual(options.subOptions.configuration.path, str(self.file))
        self.assertEqual(options.subOptions.configuration.generic.port, 5000)

    def test_errors(self) -> None:
        """A mistake is named, without the help text of twistd."""
        for words, expected in (
            (["--port", "5000"], "txsentinel: option --port not recognized\n"),
            ([str(self.file), "port", "5000"], "txsentinel: expected a directive, such as --port, in place of: port\n"),
            (
                ["check", str(self.file), "port"],
                "txsentinel check: expected a directive, such as --port, in place of: ",
            ),
        ):
            text = str(self.status(*words))
            self.assertTrue(text.startswith(expected), text)
            self.assertIn("'txsentinel --help'", text)
        self.assertEqual(self.stdout.getvalue(), "")

    def test_missing_file(self) -> None:
        """A missing file ends the start with its name."""
        self.assertEqual(self.status("/none"), "Fatal error, can't open config file '/none': No such file or directory")

    def test_whatif_help(self) -> None:
        """The simulation has a help text of its own, which names the console script."""
        self.assertEqual(self.status("whatif", "--help"), 0)
        self.assertIn("--kill", self.stdout.getvalue())
        self.assertIn("usage: txsentinel whatif ", self.stdout.getvalue())


class CheckTests(MainCase):
    """``txsentinel check``."""

    def valid(self, *words: str) -> str:
        """Return the summary of the file, which is valid; file and directory are unchanged."""
        before = self.file.read_bytes(), sorted(os.listdir(self.file.parent))
        self.assertEqual(self.status("check", str(self.file), *words), 0)
        self.assertEqual((self.file.read_bytes(), sorted(os.listdir(self.file.parent))), before)
        return self.stdout.getvalue()

    def refused(self, *lines: str) -> str:
        """Return the error for the file with these lines at its end; again, nothing is written."""
        self.file.write_text("\n".join([CONFIG, *lines]) + "\n")
        before = sorted(os.listdir(self.file.parent))
        text = self.status("check", str(self.file))
        self.assertIsInstance(text, str, "a text as the code means status 1")
        self.assertEqual(sorted(os.listdir(self.file.parent)), before)
        self.assertEqual(self.stdout.getvalue(), "")
        return str(text)

    def test_summary(self) -> None:
        """A valid file is summarized."""
        printed = self.valid("--port", "5000").splitlines()
        self.assertEqual(printed[0], f"{self.file}: valid")
        self.assertIn(f"state is saved in {self.file}", printed)
        self.assertIn("clients connect to port 5000 on * -::*", printed)
        self.assertIn("the ID is generated by the first start", printed)
        self.assertEqual(
            printed[-1],
            "master mymaster at 127.0.0.1 6379: quorum 2, down-after-milliseconds 30000, failover-timeout 180000;"
            " knows 0 replicas and 0 other Sentinels",
        )

    def test_title(self) -> None:
        """
        The summary mentions that the process keeps its title if one is configured, but the package for it is missing.
        """
        line = "the process title stays, as setproctitle is not installed (extra: txsentinel[title])\n"
        self.assertNotIn(line, self.valid())
        self.patch(check_module, "find_spec", {}.get)
        self.assertIn(line, self.valid())
        self.stdout.truncate(self.stdout.seek(0))
        self.assertNotIn(line, self.valid("--set-proc-title", "no"))

    def test_known_instances(self) -> None:
        """Saved instances are counted, and a quorum that cannot be reached is mentioned."""
        self.file.write_text(
            "sentinel myid " + "a" * 40 + "\nsentinel monitor m 127.0.0.1 6379 3\n"
            "sentinel known-replica m 127.0.0.1 6380\nsentinel known-sentinel m 127.0.0.1 26380 " + "b" * 40 + "\n"
        )
        printed = self.valid()
        self.assertIn("the ID is " + "a" * 40, printed)
        self.assertIn("knows 1 replica and 1 other Sentinel\n", printed)
        self.assertIn("warning: the quorum of m is 3, but only 2 Sentinels are known\n", printed)

    def test_secrets(self) -> None:
        """The sources of secrets are shown, and no secret; one that cannot be read is refused."""
        (self.file.parent / "pass").write_text("hunter2\n")
        comment = f"#: txsentinel secret auth-pass mymaster file:{self.file.parent}/pass"
        self.file.write_text(f"{CONFIG}{comment}\n")
        printed = self.valid()
        self.assertIn(f"auth-pass of master mymaster is read from file:{self.file.parent}/pass\n", printed)
        self.assertNotIn("hunter2", printed)
        self.stdout.truncate(self.stdout.seek(0))
        self.assertIn("/none cannot be read: No such file", self.refused(comment.replace("/pass", "/none")))

    def test_export(self) -> None:
        """``config export --for-c`` prints the file with directives in place of references; nothing is written."""
        (self.file.parent / "pass").write_text('hunter "2"\n')
        source = f"file:{self.file.parent}/pass"
        self.file.write_text(
            f"{CONFIG}#: txsentinel secret auth-pass mymaster {source}\n# {source}\n"
            f"#: txsentinel secret.next auth-pass mymaster {source}\n"
            f"#: txsentinel secret sentinel-pass {source}\n#: txsentinel secret requirepass {source}\n"
            "#: txsentinel crash-failover mymaster on\n"
        )
        before = self.file.read_bytes(), sorted(os.listdir(self.file.parent))
        self.assertEqual(self.status("config", "export", "--for-c", str(self.file)), 0)
        self.assertEqual((self.file.read_bytes(), sorted(os.listdir(self.file.parent))), before)
        self.assertEqual(
            self.stdout.getvalue(),
            f'{CONFIG}sentinel auth-pass mymaster "hunter \\"2\\""\n# {source}\n'
            f"#: txsentinel secret.next auth-pass mymaster {source}\n"
            'sentinel sentinel-pass "hunter \\"2\\""\nrequirepass "hunter \\"2\\""\n'
            "#: txsentinel crash-failover mymaster on\n",
        )

    def test_no_export(self) -> None:
        """What a C Sentinel would not find is refused, as are other words."""
        for words in ([], ["--for-c"], [str(self.file)], ["--for-c", str(self.file), "x"], ["--for-c", "-x"]):
            self.assertIn("usage: txsentinel config export --for-c FILE", str(self.status("config", "export", *words)))
        (self.file.parent / "pass").write_text("x")
        included = self.file.parent / "included.conf"
        included.write_text(f"#: txsentinel secret requirepass file:{self.file.parent}/pass\n")
        self.file.write_text(f"{CONFIG}include {included}\n")
        self.assertIn("is in a file that", str(self.status("config", "export", "--for-c", str(self.file))))
        self.file.write_text(f"{CONFIG}sentinel state-config-file {self.file.parent}/state.conf\n")
        self.assertIn("state-config-file", str(self.status("config", "export", "--for-c", str(self.file))))

    def test_own_settings(self) -> None:
        """Settings that C Sentinels do not have are shown if they are set; comments without effect are mentioned."""
        self.file.write_text(f"{CONFIG}#: txsentinel crash-failover mymaster yes\n#: txsentinel who knows\n")
        printed = self.valid()
        self.assertIn("master mymaster also has crash-failover on\n", printed)
        self.assertIn("'#: txsentinel who knows' is unknown here", printed)
        self.stdout.truncate(self.stdout.seek(0))
        self.assertIn(
            f"In {self.file}: lineage must be one of warn, strict", self.refused("#: txsentinel lineage mymaster x")
        )

    def test_running_sentinel(self) -> None:
        """The file of a running Sentinel can be checked; its temporary files stay."""
        leftover = self.file.with_name(self.file.name + LEFTOVER)
        leftover.write_text("")
        lock = FileLock(str(self.file))
        self.addCleanup(lock.release)
        self.assertIn(": valid\n", self.valid())

    def test_nothing_is_created(self) -> None:
        """Neither a state file nor a log file is created, which the service might not be able to open."""
        self.file.write_text(f"{CONFIG}logfile {self.file.parent}/s.log\nsentinel state-config-file state.conf\n")
        printed = self.valid("--dir", str(self.file.parent))
        self.assertIn(f"the log goes to {self.file.parent}/s.log\n", printed)
        self.assertIn(f"state is saved in {self.file.parent}/state.conf\n", printed)

    def test_no_masters(self) -> None:
        """A file without masters is valid, but causes a warning."""
        self.file.write_text("port 5000\n")
        self.assertIn("warning: it monitors no master", self.valid())

    def test_faulty_line(self) -> None:
        """The error of the parser is printed."""
        self.assertIn("sentinel monitor n 127.0.0.1 6379", self.refused("sentinel monitor n 127.0.0.1 6379"))

    def test_missing_file(self) -> None:
        """A missing argument and a missing file are named."""
        self.assertIn("config file", str(self.status("check")))
        self.assertIn("/none", str(self.status("check", "/none")))

    def test_missing_directories(self) -> None:
        """A log or a state file in a missing directory is refused, as by the start."""
        self.assertIn("Can't open the log file: No such file or directory", self.refused("logfile /none/s.log"))
        self.assertEqual(
            self.refused("sentinel state-config-file /none/state.conf"),
            "Sentinel config file /none/state.conf is not writable: No such file or directory. Exiting...",
        )

    def test_read_only_directory(self) -> None:
        """A directory in which the state file could not be created is refused."""
        self.patch(os, "access", lambda path, mode: False)
        self.assertEqual(
            self.refused(f"sentinel state-config-file {self.file.parent}/state.conf"),
            f"Sentinel config file {self.file.parent}/state.conf is not writable: Permission denied. Exiting...",
        )

    def test_no_listeners(self) -> None:
        """A Sentinel without any listener is refused."""
        self.assertEqual(self.refused("port 0"), "Configured to not listen anywhere, exiting.")

    def test_users(self) -> None:
        """Users and ACL files that the start would refuse are refused."""
        self.assertIn("/none/users.acl", self.refused("aclfile /none/users.acl"))

    def test_tls(self) -> None:
        """Certificates that the start could not load are refused."""
        self.assertEqual(self.refused("tls-port 5001"), "Failed to configure TLS: No tls-cert-file configured!")
        self.assertIn(
            "/none.crt",
            self.refused("tls-port 5001", "tls-auth-clients no", "tls-cert-file /none.crt", "tls-key-file /none.key"),
        )
