"""The command line of ``twistd txsentinel-template``: which files it accepts."""

from __future__ import annotations

import tempfile
from pathlib import Path

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.cli.template_tap import Options, TemplateProgram, makeService


class CommandLineTests(SynchronousTestCase):
    """Files with settings."""

    def setUp(self) -> None:
        """Make a directory with a template."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.template = self.directory / "a.j2"
        self.template.write_text("{% for m in masters %}{{ m.address }}{% endfor %}")

    def make(self, *lines: str) -> object:
        """Build the service of a file."""
        path = self.directory / "file"
        path.write_text("\n".join(lines) + "\n")
        options = Options()
        options.parseOptions([str(path)])
        return makeService(options)

    def test_accepted(self) -> None:
        """The lines of both extensions make a service, which twistd knows by its name."""
        lines = (f"template source x {self.template}", f"template dest x {self.directory}/a")
        self.assertIsInstance(self.make("etcd endpoint http://127.0.0.1:1", *lines), TemplateProgram)
        self.assertIn("txsentinel-template", [each.tapname for each in getPlugins(IServiceMaker)])

    def test_refused(self) -> None:
        """What is wrong is named with file and line; a template that cannot be read, too."""
        source, dest = f"template source x {self.template}", f"template dest x {self.directory}/a"
        etcd = "etcd endpoint http://127.0.0.1:1"
        for lines, problem in {
            (source, dest): "an endpoint is needed",
            (etcd,): "a template is needed",
            (etcd, source): "line 2: the template x has no dest",
            (etcd, source, dest, "http listen tcp:1"): "http: only etcd and template can be used here",
            (etcd, "template source x /missing", dest): "the template '/missing' cannot be read",
            ("etcd endpoint", source, dest): "line 1: endpoint needs one value, not 0",
            ('etcd "x',): "line 1: unbalanced quotes",
        }.items():
            with self.subTest(lines=lines):
                self.assertIn(problem, str(self.assertRaises(SystemExit, self.make, *lines)))
        for arguments in ([], ["a", "b"]):
            self.assertRaises(UsageError, Options().parseOptions, arguments)
        options = Options()
        options.parseOptions([str(self.directory / "none")])
        self.assertIn("No such file", str(self.assertRaises(SystemExit, makeService, options)))
