"""The settings of the extension ``template``, and what its templates may do."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.fixture import healthy_master
from txsentinel.extensions.template.rendering import TemplateFile, TemplateProblem
from txsentinel.extensions.template.settings import TemplateSettings, read_files
from txsentinel.model.extension_settings import ExtensionSetting, SettingError


def lines(*texts: str) -> list[ExtensionSetting]:
    """Return the settings of some lines."""
    words = [text.split() for text in texts]
    return [ExtensionSetting(name, tuple(values), f"x.conf, line {n}") for n, (name, *values) in enumerate(words, 1)]


class SettingTests(SynchronousTestCase):
    """Arguments and lines."""

    def test_argument(self) -> None:
        """The argument has one file; commands are split as by a shell, but none is used."""
        argument = (
            "a.j2;dest=/b;mode=0640;check=haproxy -c -f {{ src }};reload=sh -c 'kill x';dampen=100ms,1s;masters=m,s-*"
        )
        (found,) = read_files(argument, ())
        self.assertEqual(
            found,
            TemplateSettings(
                *("default", os.path.abspath("a.j2"), "/b", 0o640, ("haproxy", "-c", "-f", "{{src}}")),
                *(("sh", "-c", "kill x"), 0.1, 1.0, ("m", "s-*")),
            ),
        )
        self.assertEqual([found.wants(name) for name in ("m", "s-1", "x")], [True, True, False])

    def test_lines(self) -> None:
        """Lines have several files, each with a name; the placeholder of a check is one word or three."""
        first, second = read_files(
            "",
            lines(
                *("source a /a.j2", "dest a /a", "check a test -s {{ src }}", "masters a m", "masters a n"),
                *("source b /b.j2", "dest b /b", "check b cat --file={{src}}", "reload b true"),
            ),
        )
        self.assertEqual((first.name, first.check, first.masters), ("a", ("test", "-s", "{{src}}"), ("m", "n")))
        self.assertEqual((second.check, second.reload), (("cat", "--file={{src}}"), ("true",)))

    def test_refused(self) -> None:
        """What is wrong is named with its place."""
        source, dest = "source a /a.j2", "dest a /a"
        for given, problem in {
            ("source a /a.j2",): "x.conf, line 1: the template a has no dest",
            ("src a /a.j2",): "x.conf, line 1: no such setting: 'src' (known: source, dest, mode,",
            ("source /a.j2",): "x.conf, line 1: source needs the name of a file, and a value",
            ("source /a b",): "x.conf, line 1: '/a' is no name of a file",
            (source, "source a /b"): "x.conf, line 2: source of a is set twice",
            (source, dest, "mode a 9"): "x.conf, line 3: mode must be three octal digits such as 640, not '9'",
            (source, "dest a /a /b"): "x.conf, line 2: dest needs one value, not 2",
            (source, dest, "check a true"): "x.conf, line 3: check must have {{ src }}",
            (source, dest, "dampen a 1s"): "x.conf, line 3: dampen needs two durations",
            (source, dest, "dampen a 2s 1s"): "x.conf, line 3: dampen needs the shorter duration first",
            (source, dest, "source b /b", "dest b /a"): "two templates have the dest '/a'",
        }.items():
            with self.subTest(given=given):
                error = self.assertRaises(ValueError, read_files, "", lines(*given))
                self.assertTrue(str(error).startswith(problem), error)
        self.assertRaises(SettingError, read_files, "a.j2", ())
        error = self.assertRaises(ValueError, read_files, "", ())
        self.assertIn("a template is needed", str(error))


class RenderingTests(SynchronousTestCase):
    """Templates."""

    def setUp(self) -> None:
        """Make a directory."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def render(self, text: str) -> str:
        """Render a template."""
        path = self.directory / "t.j2"
        path.write_text(text)
        return TemplateFile(str(path)).render({"masters": [healthy_master()], "name": "x"}).decode()

    def test_records(self) -> None:
        """Masters are the records of the view; blocks leave no empty lines, and the end of the last line stays."""
        (self.directory / "part").write_text("{{ m.replicas | map(attribute='address') | join(' ') }}")
        text = self.render(
            "{% for m in masters %}\n  {{ m.name }} {{ m.address }} {% include 'part' %}\n\n{% endfor %}\n"
        )
        self.assertEqual(text, "  mymaster 10.0.0.1:6379 10.0.0.2:6379 10.0.0.3:6379\n")

    def test_failures(self) -> None:
        """A template that is wrong, unsafe, or names something that is not there is an error with its path."""
        for text, problem in {
            "\n{% if %}": "line 2: Expected an expression",
            "{{ mastres }}": "'mastres' is undefined",
            "{{ masters[0].adress }}": "has no attribute 'adress'",
            "{% include 'none' %}": "there is no file 'none'",
            "{% include '../t.j2' %}": "there is no file '../t.j2'",
            "{{ ''.__class__.__mro__ }}": "unsafe",
            "{{ masters.append(1) }}": "is unsafe",
            "{{ 1 / 0 }}": "division by zero",
        }.items():
            with self.subTest(text=text):
                error = str(self.assertRaises(TemplateProblem, self.render, text))
                self.assertIn("t.j2'", error)
                self.assertIn(problem, error)
        error = self.assertRaises(TemplateProblem, TemplateFile(str(self.directory / "missing")).check)
        self.assertIn("cannot be read: there is no file 'missing'", str(error))
