"""Building the package: the compiled modules, the requirements of developers, the man page."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any, Final, cast

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from twisted.trial.unittest import SynchronousTestCase

import txsentinel

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from build_support import backend, man_page
from build_support.compiled_modules import UnusableList, compiled_modules, interpreted_modules
from tests.conftest import COMPILED
from tests.test_tidy import ROOT, SITE, own_imports, sources
from txsentinel.cli.main import USAGE

COMPILED_BUILD: Final = bool(os.environ.get(COMPILED))

INTERPRETED_IMPORTS: Final = {
    "config.elsewhere": "used when files are read",
    "config.errors": "exceptions",
    "config.saving": "a machine of Automat, which cannot use compiled classes",
    "config.records": "few lines, if any",
    "config.write_attempts": "waits for the disk; what takes time is rendered by the store",
    "config.secrets": "used when files are read, few lines",
    "config.numbers": "used when files are read and options change",
    "interfaces": "interfaces of zope",
    "model.explanation": "frozen records, made when they are read or when a replica is unfit",
    "model.failure": "used when links fail",
    "model.history": "words of the journal, frozen records",
    "model.log_throttle": "used for log lines",
    "model.operations": "frozen records of orders, which are rare",
    "model.receipt": "frozen records, one for each switchover",
    "model.snapshots": "frozen records, made when they are read",
    "reactor.priority": "derives from classes of Twisted; its own part is small",
    "server.acl.users": "regular expressions and hashes take the time",
    "server.admission": "used once for each connection",
    "server.arguments": "one call for each argument, mostly regular expressions",
    "server.clientline": "used by CLIENT LIST",
    "server.clients": "its dataclass has types that are imported for annotations only",
    "server.commands.sentinel_container": "filled at the start",
    "server.handlers": "used at the start",
    "server.helptexts": "text",
    "server.process_info": "asked for by INFO",
    "server.services": "protocols, which have no code",
    "server.steps": "generators, which resume slower when compiled",
}
"""
The interpreted modules that compiled ones import, each with the reason why it is not compiled.

Those in ``INTERPRETED`` of their packages have their reasons there.
"""


def misread_assignments(code: str) -> list[str]:
    """
    Return the assignments to several targets that read a target behind the place where it is assigned.

    mypy gives such a value the type that the target has after the assignment, so compiled code may refuse it.
    """
    found = []
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple):
            continue
        for targets in (each for each in node.targets if isinstance(each, ast.Tuple)):
            names = [ast.unparse(target) for target in targets.elts]
            for place, value in enumerate(node.value.elts):
                read = {ast.unparse(each) for each in ast.walk(value) if isinstance(each, ast.Attribute)}
                if not read.isdisjoint(names[:place]):
                    found.append(ast.unparse(node))
    return found


def object_fields(code: str) -> list[str]:
    """Return the fields of classes that are annotated with ``object``, which mypyc looks up as a global name."""
    classes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ClassDef)]
    fields = [each for node in classes for each in node.body if isinstance(each, ast.AnnAssign)]
    return [ast.unparse(each.target) for each in fields if ast.unparse(each.annotation) == "object"]


PYTHONS: Final = ("3.10", "3.11", "3.12", "3.13")


class CompiledModulesTests(SynchronousTestCase):
    """The compiled modules."""

    def test_assignments(self) -> None:
        """No module reads an attribute in the same statement behind its assignment, which mypyc miscompiles."""
        found = {source.name: misread_assignments(source.text) for source in sources()}
        self.assertEqual({name: statements for name, statements in found.items() if statements}, {})

    def test_misread_assignments_are_found(self) -> None:
        """An attribute that is read behind its assignment is found, one that is read before it is not."""
        self.assertEqual(misread_assignments("a.b, a.c = 1, a.b"), ["a.b, a.c = (1, a.b)"])
        self.assertEqual(misread_assignments("a.b, a.c = a.c, 1"), [])

    def test_object_fields(self) -> None:
        """No compiled module has such a field: it could not be imported."""
        paths = [os.path.join(SITE, path) for _, path in compiled_modules(SITE, "simulator")]
        found = {path: object_fields(Path(path).read_text("utf-8")) for path in paths}
        self.assertEqual({path: fields for path, fields in found.items() if fields}, {})
        self.assertEqual(object_fields("class A:\n    a: object = 1\n    b: int\n    c: object"), ["a", "c"])

    def package(self, **files: str) -> str:
        """
        Return the directory of a package named txsentinel with these files, in which ``__`` separates directories.
        """
        root = Path(self.mktemp()).absolute()
        for name, text in files.items():
            path = root.joinpath("txsentinel", *name.split("__")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            (path.parent / "__init__.py").touch()
            path.with_stem("__init__" if path.stem == "init" else path.stem).write_text(text)
        return str(root)

    def test_named_modules(self) -> None:
        """The modules named by a package are compiled, the others and other packages are not."""
        root = self.package(wire__init='COMPILED = ("a", "b")', wire__a="", wire__b="", wire__c="", core__d="")
        self.assertEqual(
            compiled_modules(root),
            [("txsentinel.wire.a", "txsentinel/wire/a.py"), ("txsentinel.wire.b", "txsentinel/wire/b.py")],
        )

    def test_all_modules(self) -> None:
        """``*`` means all modules except the excluded ones."""
        root = self.package(
            wire__init='COMPILED = ("*",)\nINTERPRETED = ("b",)', wire__a="", wire__b="", wire__sub__c=""
        )
        self.assertEqual([name for name, _ in compiled_modules(root)], ["txsentinel.wire.a"])
        self.assertEqual(interpreted_modules(root), {"txsentinel.wire.b"})

    def test_simulator(self) -> None:
        """The simulator is compiled only in the build for soaks."""
        root = self.package(
            sim__init='COMPILED = ("a",)', sim__a="", sim__redis__init='COMPILED = ("*",)', sim__redis__b=""
        )
        self.assertEqual(compiled_modules(root, "sentinel"), [])
        self.assertEqual([name for name, _ in compiled_modules(root)], ["txsentinel.sim.a", "txsentinel.sim.redis.b"])

    def test_unusable_lists(self) -> None:
        """A module that does not exist, as after it was renamed, is an error, and so is a text in place of a tuple."""
        for text in (
            'COMPILED = ("b",)',
            'COMPILED = ("*",)\nINTERPRETED = ("b",)',
            'COMPILED = "a"',
            "COMPILED = (1,)",
        ):
            self.assertRaises(UnusableList, compiled_modules, self.package(wire__init=text, wire__a=""))

    def test_complete(self) -> None:
        """
        Our modules imported by a compiled module are compiled, or listed as interpreted with a reason.

        A module that is split off a compiled one has to be added to ``COMPILED`` of its package.
        """
        compiled = {name.removeprefix("txsentinel.") for name, _ in compiled_modules(SITE, "sentinel")}
        self.assertGreater(len(compiled), 60)
        imported = {
            target
            for source in sources()
            if source.name in compiled
            for target, types_only in own_imports(source)
            if not types_only
        }
        packages = {source.name.rpartition(".")[0] for source in sources()}
        interpreted = {name.removeprefix("txsentinel.") for name in interpreted_modules(SITE)}
        self.assertEqual(imported - compiled - packages - interpreted, set(INTERPRETED_IMPORTS))

    def test_installed(self) -> None:
        """In a compiled build exactly the listed modules are machine code, in a pure one none is."""
        expected = {name for name, _ in compiled_modules(SITE, "sentinel")} if COMPILED_BUILD else set()
        found = set()
        for source in sources():
            name = f"txsentinel.{source.name}".rstrip(".")
            spec = importlib.util.find_spec(name)
            assert spec is not None and spec.origin is not None
            if not spec.origin.endswith(".py"):
                found.add(name)
        self.assertEqual(found, expected)


class RequirementsTests(SynchronousTestCase):
    """The requirements of the package and of its developers."""

    def setUp(self) -> None:
        with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
            self.groups: dict[str, list[Any]] = tomllib.load(file)["dependency-groups"]
        self.configuration = ConfigParser()
        self.configuration.read(os.path.join(ROOT, "setup.cfg"), encoding="utf-8")

    def requirements(self) -> set[str]:
        """Return all requirements but those for fuzzing, which has no release for every Python."""
        found = {
            each for name, group in self.groups.items() if name != "fuzz" for each in group if isinstance(each, str)
        }
        found.update(self.configuration["options"]["install_requires"].strip().splitlines())
        for extra in self.configuration["options.extras_require"].values():
            found.update(extra.strip().splitlines())
        return found

    def test_compiler_is_pinned(self) -> None:
        """mypyc's treatment of narrowed types changes from release to release, so one release is used."""
        self.assertEqual(len(self.groups["compiler"]), 2)
        for line in self.groups["compiler"]:
            self.assertIn(" == ", line)
        self.assertIn({"include-group": "compiler"}, self.groups["test"])

    def test_constraints(self) -> None:
        """For each Python, constraints.txt has one version of each requirement, which satisfies it."""
        with open(os.path.join(ROOT, "constraints.txt"), encoding="utf-8") as file:
            pins = [Requirement(line.strip()) for line in file if line.strip()]
        for python in PYTHONS:
            environment = default_environment()
            environment["python_version"], environment["python_full_version"] = python, f"{python}.9"
            pinned: dict[str, str] = {}
            for pin in pins:
                [specifier] = pin.specifier
                self.assertEqual(specifier.operator, "==", pin)
                if pin.marker is None or pin.marker.evaluate(cast(dict[str, str], environment)):
                    self.assertNotIn(canonicalize_name(pin.name), pinned, python)
                    pinned[canonicalize_name(pin.name)] = specifier.version
            for line in self.requirements():
                required = Requirement(line)
                if required.marker is None or required.marker.evaluate(cast(dict[str, str], environment)):
                    version = pinned.get(canonicalize_name(required.name), "none")
                    self.assertTrue(version != "none" and required.specifier.contains(version), f"{line}: {version}")

    def test_compiler_is_optional(self) -> None:
        """Only the compiled build needs the compiler, and with it the packages whose types it follows."""
        self.patch(os, "environ", {**os.environ, "TXSENTINEL_COMPILED": ""})
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(ROOT)
        self.assertEqual(backend.additional_requirements(), [])
        os.environ["TXSENTINEL_COMPILED"] = "sentinel"
        names = {Requirement(line).name for line in backend.additional_requirements()}
        self.assertLessEqual({"mypy", "mypy-zope", "twisted", "zope.interface"}, names)
        with backend.not_compiling():
            self.assertEqual(backend.additional_requirements(), [])
        self.assertEqual(os.environ["TXSENTINEL_COMPILED"], "sentinel")


class ManPageTests(SynchronousTestCase):
    """txsentinel(8)."""

    def test_complete(self) -> None:
        """It has the header that man pages need, and all commands and options that the usage lists."""
        page = man_page.make("1.2").decode()
        self.assertRegex(page, r'\.TH "(?i:txsentinel)" "8" "" "txsentinel 1\.2"')  # upper case before docutils 0.22
        self.assertIn("txsentinel \\- monitor Redis and Valkey masters", page)
        text = page.replace("\\-", "-").replace("\\fB", "").replace("\\fP", "")
        options = set(re.findall(r"--[a-z][a-z-]+", USAGE)) - {"--directive"}
        self.assertIn("--tls-verify-hostnames", options)
        for word in ("check", "whatif", *options):
            self.assertIn(word, text)

    def test_installed(self) -> None:
        """A wheel installs it below the prefix of its environment, made from the same source."""
        if COMPILED_BUILD:
            installed = Path(sys.prefix, "share", "man", "man8", "txsentinel.8").read_bytes()
            made = man_page.make(txsentinel.__version__)
            # The first lines name the version of docutils, which may be another one in the build.
            self.assertEqual(installed.partition(b".TH")[2], made.partition(b".TH")[2])
