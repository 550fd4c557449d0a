"""Imports that are deferred, absent or replaced, and what a process has loaded after them."""

from __future__ import annotations

import inspect
import io
import sys
import textwrap
import threading
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.cli.imports import absent, deferred, is_deferred, typing_alone

MODULE = """
    from tests.cli.test_imports import executed
    executed.append(__name__)

    class Made:
        "Something to call."

        def __init__(self, value):
            self.value = value

        def tripled(self):
            "Use it."
            return 3 * self.value

    def double(number):
        "Something else to call."
        return 2 * number
"""

executed: list[str] = []
"""The modules of a test that have been executed, in that order."""

entered = threading.Event()
resume = threading.Event()


class DeferredTests(SynchronousTestCase):
    """Modules that are executed when an attribute of theirs is read."""

    def setUp(self) -> None:
        executed.clear()
        directory = Path(self.mktemp()).absolute()
        directory.mkdir(parents=True)
        self.directory = directory
        sys.path.insert(0, str(directory))
        self.addCleanup(sys.path.remove, str(directory))

    def write(self, name: str, source: str = MODULE) -> None:
        """Make a module that is forgotten after the test."""
        path = self.directory.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(source))
        self.addCleanup(sys.modules.pop, name.removesuffix(".__init__"), None)

    def imported(self, name: str, *names: str) -> ModuleType:
        """Import a module deferred."""
        with deferred({name: names}):
            return import_module(name)

    def test_executed_by_the_first_attribute(self) -> None:
        """Neither the first nor the second import executes the module, and the first attribute does so once."""
        self.write("tardy_a")
        module = self.imported("tardy_a")
        self.assertIs(import_module("tardy_a"), module)
        self.assertEqual(executed, [])
        self.assertTrue(is_deferred(module))
        self.assertEqual(module.double(2), 4)
        self.assertEqual(module.double(3), 6)
        self.assertEqual(executed, ["tardy_a"])
        self.assertFalse(is_deferred(module))
        with self.assertRaisesRegex(AttributeError, "tardy_a.*nothing"):
            _ = module.nothing

    def test_names_that_are_imported_from_it(self) -> None:
        """Functions and classes that the caller named can be imported without executing the module, and called."""
        self.write("tardy_b")
        module = self.imported("tardy_b", "double", "Made")
        double, made = module.double, module.Made
        self.assertEqual(executed, [])
        self.assertEqual(made(5).value, 5)
        self.assertEqual(double(4), 8)
        self.assertEqual(executed, ["tardy_b"])
        self.assertIsInstance(made(5), module.Made)

    def test_names_that_are_derived_from(self) -> None:
        """A class that was imported without executing the module can be derived from."""
        self.write("tardy_i")
        made = self.imported("tardy_i", "Made").Made

        class Derived(made):  # type: ignore[misc, valid-type]
            def __init__(self, factor: int) -> None:
                self.value = factor * 10

        one = Derived(3)
        self.assertEqual((one.value, executed), (30, []))
        self.assertEqual((one.tripled(), executed), (90, ["tardy_i"]))

    def test_only_in_the_block(self) -> None:
        """Other modules, and later ones, are executed as usual."""
        self.write("tardy_c")
        self.write("prompt_c")
        with deferred({"tardy_c": ()}):
            import_module("prompt_c")
        import_module("tardy_c")
        self.assertEqual(executed, ["prompt_c", "tardy_c"])

    def test_package(self) -> None:
        """A module of a deferred package is imported without executing the package."""
        self.write("tardy_d.__init__")
        self.write("tardy_d.part")
        module = self.imported("tardy_d")
        with self.assertRaises(ModuleNotFoundError):
            import_module("tardy_d.absent")
        namespace: dict[str, ModuleType] = {}
        exec("from tardy_d import part", namespace)
        self.assertEqual(executed, ["tardy_d.part"])
        self.assertIs(namespace["part"], module.part)
        self.assertEqual(executed, ["tardy_d.part"])
        exec("from tardy_d import *", namespace)
        self.assertEqual(executed, ["tardy_d.part", "tardy_d"])

    def test_own_getattr(self) -> None:
        """A module may have a ``__getattr__`` of its own, which is asked for what it does not define."""
        self.write("tardy_e", "def __getattr__(name): return name.upper()")
        module = self.imported("tardy_e")
        self.assertEqual((module.first, module.second), ("FIRST", "SECOND"))

    def test_failure(self) -> None:
        """The error of a module that cannot be executed is that of the attribute, each time."""
        self.write("tardy_f", "raise ValueError('no such luck')")
        module = self.imported("tardy_f")
        for _ in range(2):
            with self.assertRaisesRegex(ValueError, "no such luck"):
                _ = module.something

    def test_source(self) -> None:
        """The module has its own loader, by which its source is found."""
        self.write("tardy_g")
        module = self.imported("tardy_g")
        assert module.__spec__ is not None
        self.assertIs(module.__spec__.loader, module.__loader__)
        self.assertIn("Something else", inspect.getsource(module))

    def test_threads(self) -> None:
        """A thread that reads an attribute while another one executes the module waits for it."""
        source = """
            from tests.cli.test_imports import entered, executed, resume
            executed.append(__name__)
            entered.set()
            resume.wait(60)
            value = 7
        """
        self.write("tardy_h", source)
        module = self.imported("tardy_h")
        found: list[int] = []
        threads = [threading.Thread(target=lambda: found.append(module.value)) for _ in range(3)]
        for thread in threads:
            thread.start()
        self.assertTrue(entered.wait(60))
        self.assertEqual(found, [])
        resume.set()
        for thread in threads:
            thread.join(60)
        self.assertEqual((found, executed), ([7, 7, 7], ["tardy_h"]))


class ReplacedTests(SynchronousTestCase):
    """Modules that are absent or replaced for a while."""

    def forget(self, name: str) -> None:
        """Have a module not loaded until the end of the test."""
        if name in sys.modules:
            self.addCleanup(sys.modules.__setitem__, name, sys.modules.pop(name))
        else:
            self.addCleanup(sys.modules.pop, name, None)

    def test_absent(self) -> None:
        """A module that is not loaded yet cannot be imported in the block, and can be imported afterwards."""
        self.forget("this")
        with absent("this", "sys"):
            import_module("sys")
            with self.assertRaises(ImportError):
                import_module("this")
        with redirect_stdout(io.StringIO()) as printed:
            import_module("this")
        self.assertIn("Zen", printed.getvalue())

    def test_typing(self) -> None:
        """What Twisted imports for annotations works, and the module is not loaded; others get the real one."""
        self.forget("typing_extensions")
        namespace: dict[str, object] = {}
        with typing_alone():
            exec(
                "from typing_extensions import Concatenate, ParamSpec, Self, TypeAlias, TypedDict, TypeVar, override\n"
                "T, P = TypeVar('T', default=int), ParamSpec('P')\n"
                "class State(TypedDict): size: int\n"
                "class Same:\n  @override\n  def same(self: Self) -> Self: return self\n",
                namespace,
            )
            self.assertNotIn("__file__", vars(sys.modules["typing_extensions"]))
        self.assertNotIn("typing_extensions", sys.modules)
        self.assertIn("deprecated", vars(import_module("typing_extensions")))

    def test_typing_with_more(self) -> None:
        """A name that ``typing`` does not have is that of the real module."""
        self.forget("typing_extensions")
        with typing_alone():
            found = import_module("typing_extensions").Buffer
            self.assertIs(import_module("typing_extensions").Buffer, found)
        self.assertIs(import_module("typing_extensions").Buffer, found)
