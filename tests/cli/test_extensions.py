"""Extensions: their options, the file with their settings, and the services made of them."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from twisted.application.service import IService, Service
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.cli.test_main import MainCase
from tests.config.disk import MemoryDisk
from txsentinel.cli import extensions as module
from txsentinel.cli.extensions import (
    ExtensionOptions,
    ExtensionUse,
    UnusableExtension,
    extension_services,
    parse_extensions,
)
from txsentinel.config.configuration import load
from txsentinel.config.guards import GUARDS_BY_WORD
from txsentinel.extensions.building import ExtensionContext
from txsentinel.extensions.deferred import DeferredExtension
from txsentinel.interfaces import IOperator, ISentinelExtension, ISentinelView, IStateDirectory
from txsentinel.model.extension_settings import ExtensionSetting, SettingError
from txsentinel.process.state_directory import StateDirectory

VIEW, OPERATOR = cast("ISentinelView", object()), cast("IOperator", object())
REACTOR = object()


@implementer(ISentinelExtension)
class Recorder:
    """An extension that records what it gets, and refuses some arguments."""

    name = "recorder"
    description = "records"

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.reactors: list[object] = []

    def makeService(
        self,
        view: ISentinelView,
        operator: IOperator,
        argument: str,
        state_dir: IStateDirectory,
        settings: Sequence[ExtensionSetting] = (),
        reactor: object = None,
    ) -> IService:
        """Build a service that does nothing."""
        if argument == "wrong":
            raise ValueError("it must not be wrong")
        for setting in settings:
            if setting.name == "wrong":
                raise SettingError(setting, "unknown setting")
        self.calls.append((view, operator, argument, state_dir.path, settings))
        self.reactors.append(reactor)
        return cast("IService", Service())


class Former:
    """An extension of the former interface."""

    name = "former"
    description = "has two parameters"

    def __init__(self) -> None:
        self.calls: list[tuple[object, str]] = []

    def makeService(self, sentinel: object, argument: str) -> IService:
        """Build a service that does nothing."""
        self.calls.append((sentinel, argument))
        return cast("IService", Service())


class ExtensionCase(SynchronousTestCase):
    """The base of the tests: two installed extensions."""

    def setUp(self) -> None:
        self.recorder, self.former = Recorder(), Former()
        self.lacking = DeferredExtension("lacking", "lacks a package", "txsentinel_no_such_package.make", "metal")
        installed = {each.name: each for each in (self.recorder, self.former, self.lacking)}
        self.patch(module, "installed_extensions", lambda: installed)
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(parents=True)
        self.notes: list[str] = []
        self.state = StateDirectory(str(self.directory / "state"), lambda level, line: self.notes.append(line))

    def options(self, *words: str) -> ExtensionOptions:
        """Parse the options."""
        options = ExtensionOptions()
        options.parseOptions(list(words))
        options.read_extensions()
        return options

    def build(self, *uses: ExtensionUse) -> list[IService]:
        """Build the services."""
        return list(extension_services(uses, VIEW, OPERATOR, self.state, REACTOR))


class FileTests(ExtensionCase):
    """The file of the extensions."""

    def parse(self, text: str) -> dict[str, list[tuple[str, ...]]]:
        """Return the settings of each extension."""
        parsed = parse_extensions("/x.conf", text.encode("utf-8", "surrogateescape"))
        return {name: [(each.name, *each.values) for each in settings] for name, settings in parsed.settings.items()}

    def refused(self, text: str) -> str:
        """Return the error text for a file."""
        return str(self.assertRaises(UnusableExtension, self.parse, text))

    def test_settings(self) -> None:
        """Lines are in the quoting of sentinel.conf; comments and empty lines are skipped."""
        text = '# comment\n\nhttp listen "tcp:8026:interface=127.0.0.1"\r\n  http server-name a\\ b "c d"\netcd\n'
        self.assertEqual(
            self.parse(text),
            {"http": [("listen", "tcp:8026:interface=127.0.0.1"), ("server-name", "a\\", "b", "c d")], "etcd": []},
        )

    def test_places(self) -> None:
        """Each setting has its place; text that is no UTF-8 is kept."""
        (setting,) = parse_extensions("/x.conf", b"\n\nhttp name \xff\n").settings["http"]
        self.assertEqual((setting.place, setting.values), ("/x.conf, line 3", ("\udcff",)))
        self.assertEqual(str(SettingError(setting, "bad name")), "/x.conf, line 3: bad name")

    def test_invalid_lines(self) -> None:
        """Errors name the file and the line."""
        self.assertEqual(self.refused('http listen "a'), "/x.conf, line 1: unbalanced quotes")
        self.assertEqual(self.refused("http a\nhttp b\0c"), "/x.conf, line 2: NUL byte")

    def test_guards(self) -> None:
        """Settings of masters are checked like those of sentinel.conf."""
        parsed = parse_extensions("/x.conf", b"guards Crash-Failover m on\nguards fence-after m 100\n")
        self.assertEqual(
            [each.words for each in parsed.guards], [("crash-failover", "m", "on"), ("fence-after", "m", "100")]
        )
        self.assertEqual(
            self.refused("guards crash-failover m"),
            "/x.conf, line 1: 'guards' must be followed by a setting, a master and a value",
        )
        self.assertIn(
            "line 1: no such setting: crash-failovre (known: crash-failover,",
            self.refused("guards crash-failovre m on"),
        )
        self.assertEqual(
            self.refused("guards crash-failover m maybe"),
            "/x.conf, line 1: crash-failover must be one of on, off, yes, no",
        )


class GuardPrecedenceTests(SynchronousTestCase):
    """Settings of masters in both files."""

    def value(self, own: str, other: str, *, unset_id: bool = False) -> tuple[object, list[str]]:
        """Return ``crash-confirm`` with lines in sentinel.conf and in the other file, and the warnings."""
        text = f"sentinel monitor m 10.0.0.1 6379 1\n{own}\n" + ("" if unset_id else f"sentinel myid {'a' * 40}\n")
        guards = parse_extensions("/x.conf", other.encode()).guards
        configuration = load("/sentinel.conf", text.encode(), disk=MemoryDisk(), guards=guards)
        return GUARDS_BY_WORD["crash-confirm"].value(configuration.masters[0].options.guards), configuration.warnings

    def test_precedence(self) -> None:
        """A line of sentinel.conf takes precedence, before and after the first start."""
        own, other = "#: txsentinel crash-confirm m 70", "guards crash-confirm m 80"
        for unset_id in (False, True):
            self.assertEqual(self.value("", "", unset_id=unset_id), (60, []))
            self.assertEqual(self.value("", other, unset_id=unset_id), (80, []))
            self.assertEqual(self.value(own, "", unset_id=unset_id), (70, []))
            self.assertEqual(self.value(own, other, unset_id=unset_id), (70, []))

    def test_changed_to_the_default(self) -> None:
        """A value that SENTINEL SET returned to the default is written, or the next start would use the other."""
        text = f"sentinel monitor m 10.0.0.1 6379 1\nsentinel myid {'a' * 40}\n"
        guards = parse_extensions("/x.conf", b"guards crash-failover m on\n").guards
        configuration = load("/sentinel.conf", text.encode(), disk=MemoryDisk(), guards=guards)
        elsewhere = configuration.document.elsewhere
        self.assertTrue(elsewhere.must_write(elsewhere.master("m"), "crash-failover", False, False))
        self.assertFalse(elsewhere.must_write(elsewhere.master("x"), "crash-failover", False, False))

    def test_unknown_master(self) -> None:
        """A setting of a master that is not monitored has no effect, which the log reports with the place."""
        self.assertEqual(
            self.value("", "\nguards crash-confirm x 80")[1],
            ["/x.conf, line 2: 'x' is not monitored, 'crash-confirm' has no effect."],
        )


class OptionTests(ExtensionCase):
    """The options."""

    def test_command_line_and_file(self) -> None:
        """Everything after the first colon is the argument; a line in the file enables an extension, too."""
        path = self.directory / "x.conf"
        path.write_text("recorder size 3\nformer\n")
        uses = self.options("--extension", "recorder:tcp:1:interface=::1", "--extensions", str(path)).extensions
        self.assertEqual(
            [(use.extension.name, use.argument, [each.name for each in use.settings]) for use in uses],
            [("recorder", "tcp:1:interface=::1", ["size"]), ("former", "", [])],
        )

    def test_unknown(self) -> None:
        """An extension that is not installed is refused, with its place in the file."""
        path = self.directory / "x.conf"
        path.write_text("\nrecroder size 3\n")
        refusal = self.assertRaises(UsageError, self.options, "--extensions", str(path))
        self.assertEqual(
            str(refusal), f"{path}, line 2: no such extension: recroder (installed: recorder, former, lacking)"
        )

    def test_missing_file(self) -> None:
        """A file that cannot be read is refused by its absolute path."""
        refusal = self.assertRaises(UnusableExtension, self.options, "--extensions", "missing.conf")
        expected = f"Can't open the file of the extensions {os.path.abspath('missing.conf')}: No such file or directory"
        self.assertEqual(str(refusal), expected)

    def test_state_directory(self) -> None:
        """It is beside the file with the state by default, and always absolute."""
        self.assertEqual(self.options().state_directory("/etc/sentinel.conf"), "/etc/sentinel.conf.d")
        self.assertEqual(self.options("--state-dir", "x").state_directory("/etc/s"), os.path.abspath("x"))


class BuildingTests(ExtensionCase):
    """The services."""

    def test_parameters(self) -> None:
        """An extension gets view, operator, argument, its own directory and its settings."""
        self.assertTrue(verifyObject(ISentinelExtension, self.recorder))
        setting = ExtensionSetting("size", ("3",), "/x.conf, line 1")
        self.assertEqual(len(self.build(ExtensionUse(self.recorder, "a", (setting,)))), 1)
        path = str(self.directory / "state" / "recorder")
        self.assertEqual(self.recorder.calls, [(VIEW, OPERATOR, "a", path, (setting,))])
        self.assertEqual(self.recorder.reactors, [REACTOR])
        self.assertFalse((self.directory / "state").exists())

    def test_former_interface(self) -> None:
        """An extension with two parameters gets the view, and a warning names it."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.build(ExtensionUse(cast("ISentinelExtension", self.former), "a"))
        self.assertEqual(self.former.calls, [(VIEW, "a")])
        (warning,) = caught
        self.assertIs(warning.category, DeprecationWarning)
        self.assertIn("Extension former: makeService(sentinel, argument) is deprecated", str(warning.message))

    def test_refusals(self) -> None:
        """What an extension refuses is reported with its name, and a setting with its place."""
        setting = ExtensionSetting("wrong", (), "/x.conf, line 7")
        for use, expected in (
            (ExtensionUse(self.recorder, "wrong"), "Extension recorder cannot run with 'wrong': it must not be wrong"),
            (
                ExtensionUse(self.recorder, "", (setting,)),
                "Extension recorder cannot run: /x.conf, line 7: unknown setting",
            ),
            (
                ExtensionUse(cast("ISentinelExtension", self.former), "", (setting,)),
                "/x.conf, line 7: extension former has no settings",
            ),
            (
                ExtensionUse(self.lacking),
                "Extension lacking cannot be imported (No module named 'txsentinel_no_such_package'):"
                " pip install 'txsentinel[metal]'",
            ),
        ):
            with self.subTest(expected=expected):
                self.assertEqual(str(self.assertRaises(UnusableExtension, self.build, use)), expected)

    def test_deferred(self) -> None:
        """A deferred extension imports its module when its service is built."""
        extension = DeferredExtension("x", "does nothing", f"{__name__}.make_nothing")
        self.assertTrue(verifyObject(ISentinelExtension, extension))
        (service,) = self.build(ExtensionUse(extension, "a"))
        self.assertEqual(cast("Any", service).name, "nothing of a")


def make_nothing(context: ExtensionContext) -> Service:
    """Build a service that does nothing."""
    service = Service()
    service.setName(f"nothing of {context.argument}")
    return service


class StateDirectoryTests(ExtensionCase):
    """The directory for files."""

    def test_created_when_needed(self) -> None:
        """The directory is created at the first use, for its owner only, and used again later."""
        directory = self.state.subdirectory("web")
        self.assertFalse((self.directory / "state").exists())
        for _ in range(2):
            path = directory.prepare()
            assert path is not None
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o700)
            self.assertEqual(stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode), 0o700)
        self.assertEqual(self.notes, [])

    def test_unusable(self) -> None:
        """That it cannot be used is logged once for all extensions, with path and reason."""
        (self.directory / "state").write_text("a file")
        self.assertIsNone(self.state.subdirectory("web").prepare())
        self.assertIsNone(self.state.subdirectory("history").prepare())
        reason = f"{self.directory / 'state'}: File exists. Extensions run without their files"
        self.assertEqual(self.notes, [f"The state directory cannot be used: {reason}"])

    def test_missing_parent(self) -> None:
        """A parent that does not exist is not created."""
        lost = StateDirectory(str(self.directory / "a" / "b"), lambda level, line: self.notes.append(line))
        self.assertIsNone(lost.subdirectory("web").prepare())
        self.assertIn("No such file or directory", self.notes[0])


class CheckTests(MainCase):
    """``txsentinel check`` with extensions."""

    def setUp(self) -> None:
        """Install one extension."""
        super().setUp()
        self.patch(module, "installed_extensions", lambda: {"recorder": Recorder()})
        self.settings = self.file.with_name("x.conf")

    def test_listed(self) -> None:
        """The extensions that would run are listed, with the directory; nothing is created."""
        self.settings.write_text("recorder size 3\nguards crash-failover mymaster on\n")
        words = ("--extension", "recorder:a:b", "--extensions", str(self.settings))
        self.assertEqual(self.status("check", *words, str(self.file)), 0)
        lines = self.stdout.getvalue().splitlines()
        self.assertIn("extension recorder: records; argument a:b; 1 setting (size)", lines)
        self.assertIn(f"extensions keep their files in {self.file}.d", lines)
        self.assertIn("master mymaster also has crash-failover on", lines)
        self.assertFalse(os.path.exists(f"{self.file}.d"))

    def test_refused(self) -> None:
        """What an extension refuses is reported, by the same words as at the start."""
        refusal = self.status("check", "--extension", "recorder:wrong", str(self.file))
        self.assertEqual(refusal, "Extension recorder cannot run with 'wrong': it must not be wrong")
        self.settings.write_text("recorder wrong 1\n")
        refusal = self.status("check", "--extensions", str(self.settings), str(self.file))
        self.assertEqual(refusal, f"Extension recorder cannot run: {self.settings}, line 1: unknown setting")

    def test_invalid(self) -> None:
        """An invalid file is refused with its place."""
        self.settings.write_text("recorder size 3\nguards crash-failover mymaster perhaps\n")
        refusal = self.status("check", "--extensions", str(self.settings), str(self.file))
        self.assertEqual(refusal, f"{self.settings}, line 2: crash-failover must be one of on, off, yes, no")
