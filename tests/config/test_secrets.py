"""References to secrets: in files, when they are read, beside directives, and back in files."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.config.disk import MemoryDisk
from tests.config.state import make_master
from txsentinel.config.configuration import Configuration, load
from txsentinel.config.directives import apply_set, owner_of
from txsentinel.config.errors import ConfigError
from txsentinel.config.rendering import master_lines, own_tail_lines
from txsentinel.config.secrets import MAX_SECRET
from txsentinel.core.errors import SettingRefused

MAIN = "/etc/sentinel.conf"
STATE = "/var/lib/state.conf"
MONITOR = "sentinel monitor m 10.0.0.1 6379 2\n"
FILES = {
    "/run/redis": b"first pass\n",
    "/run/redis.next": b"second pass\r\n",
    "/run/peers": b"peer pass",
    "/run/credentials/unit/own": b"own pass\n",
    "/run/empty": b"\n",
    "/run/nul": b"a\0b",
    "/run/long": b"x" * (MAX_SECRET + 1),
}
ENVIRONMENT = {"CREDENTIALS_DIRECTORY": "/run/credentials/unit", "KEY_PASS": "key pass", "EMPTY": ""}


def read(text: str, environment: dict[str, str] | None = None, public: str = "", path: str = MAIN) -> Configuration:
    """Read a file beside :data:`FILES`."""
    disk = MemoryDisk(dict(FILES))
    disk.public = {public}
    return load(path, text.encode(), disk=disk, environment=ENVIRONMENT if environment is None else environment)


def rewritten(configuration: Configuration) -> str:
    """Return the file of one master, rewritten."""
    (record,) = configuration.masters
    master = make_master(record.name)
    master.options = record.options
    document = configuration.document
    document.put(owner_of(record.name), master_lines(master, False, document.elsewhere))
    return document.render().decode()


class ReadingTests(SynchronousTestCase):
    """What a reference may name, and where the value ends up."""

    def test_each_directive(self) -> None:
        """Every directive with a secret can have it from a file, a credential or a variable; one line end is cut."""
        configuration = read(
            MONITOR
            + "#: txsentinel secret auth-pass m file:/run/redis\n"
            + "#: txsentinel secret.next auth-pass m file:/run/redis.next\n"
            + "#: txsentinel secret sentinel-pass file:/run/peers\n"
            + "#: txsentinel secret requirepass cred:own\n"
            + "#: txsentinel secret.next requirepass env:KEY_PASS\n"
            + "#: txsentinel secret tls-key-file-pass env:KEY_PASS\n"
            + "#: txsentinel secret tls-client-key-file-pass file:/run/redis\n"
        )
        (record,) = configuration.masters
        self.assertEqual((record.options.auth_pass, record.options.next_auth_pass), ("first pass", "second pass"))
        own, generic = configuration.sentinel, configuration.generic
        self.assertEqual(
            (own.sentinel_pass, own.requirepass, own.next_requirepass), ("peer pass", "own pass", "key pass")
        )
        self.assertEqual((generic.tls_key_file_pass, generic.tls_client_key_file_pass), ("key pass", "first pass"))
        self.assertEqual(configuration.warnings, [])
        shown = repr(configuration) + repr(own) + repr(generic) + repr(record)
        for secret in ("first pass", "second pass", "peer pass", "own pass", "key pass"):
            self.assertNotIn(secret, shown)

    def test_without_an_environment(self) -> None:
        """A tool that runs nothing checks the references and reads no secret."""
        configuration = load(MAIN, (MONITOR + "#: txsentinel secret auth-pass m cred:x\n").encode(), disk=MemoryDisk())
        self.assertIsNone(configuration.masters[0].options.auth_pass)
        with self.assertRaises(ConfigError):
            load(MAIN, (MONITOR + "#: txsentinel secret auth-pass m x\n").encode(), disk=MemoryDisk())

    def test_refused(self) -> None:
        """What cannot be read is refused with its line and the reason; a misplaced secret is not shown."""
        for comment, reason in {
            "secret auth-pass m file:/run/none": "auth-pass of master m: file:/run/none cannot be read: No such file",
            "secret auth-pass m file:/run/empty": "auth-pass of master m: file:/run/empty is empty",
            "secret auth-pass m file:/run/nul": "file:/run/nul has a NUL byte",
            "secret auth-pass m file:/run/long": f"file:/run/long has more than {MAX_SECRET} bytes",
            "secret auth-pass m env:NONE": "auth-pass of master m: the environment variable NONE is not set",
            "secret auth-pass m env:EMPTY": "auth-pass of master m: env:EMPTY is empty",
            "secret auth-pass m hunter2": "The source of auth-pass is not file:<absolute path>, cred:",
            "secret auth-pass m file:hunter2": "The source of auth-pass is not file:<absolute path>",
            "secret auth-pass m cred:../hunter2": "The source of auth-pass is not",
            "secret auth-pass m cred:..": "The source of auth-pass is not",
            "secret auth-pass m env:A-B": "The source of auth-pass is not",
            "secret auth-pass hunter2": "'secret auth-pass' must be followed by a master and a source",
            "secret requirepass m hunter2": "'secret requirepass' must be followed by a source",
            "secret hunter2": "'secret' must be followed by one of auth-pass, sentinel-pass, requirepass, tls-key",
            "secret.next tls-key-file-pass env:A": "'secret.next' must be followed by one of auth-pass,",
            "secret": "'secret' must be followed by one of",
        }.items():
            with self.assertRaises(ConfigError) as caught:
                read(f"{MONITOR}#: txsentinel {comment}\n")
            self.assertIn(reason, str(caught.exception))
            self.assertEqual(caught.exception.line_number, 2)
            if "hunter2" in comment and "secret hunter2" not in comment:
                self.assertNotIn("hunter2", str(caught.exception))

    def test_no_credentials(self) -> None:
        """Outside of a service of systemd the error has what a credential needs."""
        with self.assertRaises(ConfigError) as caught:
            read(MONITOR + "#: txsentinel secret requirepass cred:own\n", environment={})
        self.assertIn(
            "$CREDENTIALS_DIRECTORY is not set; does the unit have LoadCredential=own:", str(caught.exception)
        )

    def test_warnings(self) -> None:
        """A file that every user can read is named, and so is a reference without its master."""
        comment = "#: txsentinel secret auth-pass {} file:/run/redis\n"
        (warning,) = read(MONITOR + comment.format("m"), public="/run/redis").warnings
        self.assertEqual(
            warning,
            f"{MAIN}, line 2: Every user of this machine can read file:/run/redis, which has the auth-pass of"
            " master m.",
        )
        (warning,) = read(MONITOR + comment.format("other")).warnings
        self.assertEqual(warning, f"{MAIN}, line 2: 'other' is not monitored, its secret is not read.")

    def test_the_last_one_counts(self) -> None:
        """Of two references for one value the last one counts."""
        lines = "#: txsentinel secret auth-pass m file:/run/none\n#: txsentinel secret auth-pass m file:/run/peers\n"
        self.assertEqual(read(MONITOR + lines).masters[0].options.auth_pass, "peer pass")


class RewritingTests(SynchronousTestCase):
    """What is written."""

    def test_unchanged(self) -> None:
        """References stay in their places, and no secret is written."""
        text = (
            "# the password of the servers\n#: txsentinel secret auth-pass m file:/run/redis\n"
            "#: txsentinel secret.next auth-pass m env:KEY_PASS\n#: txsentinel secret sentinel-pass file:/run/peers\n"
            + MONITOR
        )
        configuration = read(text)
        self.assertTrue(rewritten(configuration).startswith(text))
        self.assertNotIn("pass ", rewritten(configuration).replace("-pass m", "").replace("-pass file", ""))
        own = own_tail_lines(configuration.sentinel, 0, configuration.document.elsewhere)
        self.assertEqual([line for line in own if "pass" in line.text], [])

    def test_beside_a_directive(self) -> None:
        """A C Sentinel may have written a directive: its value is the second password, and stays in the file."""
        text = (
            MONITOR + "sentinel auth-pass m from-c\nsentinel sentinel-pass also-from-c\n"
            "#: txsentinel secret auth-pass m file:/run/redis\n#: txsentinel secret sentinel-pass file:/run/peers\n"
        )
        configuration = read(text)
        options, own = configuration.masters[0].options, configuration.sentinel
        self.assertEqual((options.auth_pass, options.next_auth_pass), ("first pass", "from-c"))
        self.assertEqual((own.sentinel_pass, own.next_sentinel_pass), ("peer pass", "also-from-c"))
        self.assertEqual(len(configuration.warnings), 2)
        self.assertIn("whose value is tried if file:/run/redis is refused", configuration.warnings[0])
        self.assertTrue(rewritten(configuration).startswith(text))
        lines = own_tail_lines(own, 0, configuration.document.elsewhere)
        self.assertIn("sentinel sentinel-pass also-from-c", [line.text for line in lines])

    def test_next_replaces_a_directive(self) -> None:
        """With both references the directive has no use, and is removed."""
        text = MONITOR + "sentinel auth-pass m from-c\n#: txsentinel secret auth-pass m file:/run/redis\n"
        configuration = read(text + "#: txsentinel secret.next auth-pass m file:/run/redis.next\n")
        self.assertEqual(configuration.masters[0].options.next_auth_pass, "second pass")
        self.assertTrue(any("which is removed" in warning for warning in configuration.warnings))
        self.assertNotIn("from-c", rewritten(configuration))

    def test_next_of_a_directive(self) -> None:
        """The second password may be a reference while the first one is a directive."""
        text = MONITOR + "sentinel auth-pass m clear\n#: txsentinel secret.next auth-pass m file:/run/redis.next\n"
        configuration = read(text)
        options = configuration.masters[0].options
        self.assertEqual((options.auth_pass, options.next_auth_pass), ("clear", "second pass"))
        self.assertTrue(rewritten(configuration).startswith(text))

    def test_twice_for_the_sentinel(self) -> None:
        """No C Sentinel writes requirepass, so two values are a mistake."""
        with self.assertRaises(ConfigError) as caught:
            read("requirepass x\n#: txsentinel secret requirepass file:/run/peers\n")
        self.assertIn("requirepass is set by a directive as well. Keep one of them", str(caught.exception))

    def test_set_is_refused(self) -> None:
        """The value can be changed at its source only."""
        options = read(MONITOR + "#: txsentinel secret auth-pass m file:/run/redis\n").masters[0].options
        with self.assertRaises(SettingRefused) as caught:
            apply_set(options, "auth-pass", ["new"], deny_scripts=True, executable=lambda path: True)
        self.assertEqual(
            str(caught.exception),
            "ERR auth-pass is read from file:/run/redis. Change it there, and send SIGHUP to this process",
        )
        self.assertEqual(options.auth_pass, "first pass")

    def test_state_file(self) -> None:
        """A reference in a main file that is not written is not repeated in the state file."""
        main = f"sentinel state-config-file {STATE}\n{MONITOR}#: txsentinel secret auth-pass m file:/run/redis\n"
        configuration = read(main)
        self.assertEqual(configuration.masters[0].options.auth_pass, "first pass")
        self.assertNotIn("secret", rewritten(configuration))
