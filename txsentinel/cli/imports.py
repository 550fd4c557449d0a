"""
Imports without the modules that a Sentinel does not use.

Twisted and the standard library import a hundred modules for features that the service never calls: a debugger, an
HTTP client, the event loop of asyncio. They take a seventh of its memory. While the service is imported, some are
therefore absent, some are deferred (executed when an attribute of theirs is read), and one is replaced. Later imports
get the whole module.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from threading import RLock
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from importlib.abc import Loader

ABSENT: Final = ("_hashlib", "ctypes", "ssl")
"""asyncio, hashlib and hmac use OpenSSL if they can, and nothing here needs that: TLS is that of pyOpenSSL."""

DEFERRED: Final[Mapping[str, Sequence[str]]] = {
    "ast": ("NodeVisitor",),
    "asyncio": ("AbstractEventLoop", "Future", "iscoroutine"),
    "attr.filters": (),
    "attrs.converters": (),
    "attrs.filters": (),
    "attrs.validators": (),
    "getpass": (),
    "gettext": ("gettext",),
    "html": ("escape",),
    "http": (),
    "http.cookiejar": (),
    "ipaddress": (),
    "pathlib": ("PureWindowsPath",),
    "pdb": (),
    "pty": (),
    "textwrap": (),
    "tokenize": (),
    "twisted.internet.udp": (),
    "twisted.internet.unix": (),
    "twisted.logger._json": ("eventAsJSON", "eventFromJSON", "eventsFromJSONLogFile", "jsonFileLogObserver"),
    "twisted.python.logfile": (),
    "twisted.python.zippath": ("ZipArchive",),
    "urllib.parse": ("quote", "unquote"),
}
"""What Twisted and its dependencies import and a Sentinel does not use, with the names that they import from there."""


@contextmanager
def few_modules() -> Iterator[None]:
    """Import in the ``with`` block what a Sentinel needs, without what it does not use."""
    with absent(*ABSENT), deferred(DEFERRED), typing_alone():
        yield


@contextmanager
def absent(*names: str) -> Iterator[None]:
    """
    Have imports of these modules fail with ``ImportError`` in the ``with`` block, unless they are loaded already.

    Packages that were imported in the block go on without them. The modules can be imported afterwards.
    """
    missing = [name for name in names if name not in sys.modules]
    for name in missing:
        sys.modules[name] = None  # type: ignore[assignment]  # The documented way to prevent an import.
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


@contextmanager
def deferred(modules: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """
    Have imports of these modules in the ``with`` block execute them only when an attribute of theirs is read.

    ``importlib.util.LazyLoader`` does not suffice: before Python 3.14 the second import of such a module executes it.

    :param modules: the modules, each with the functions and classes that may be imported from it without executing it.
        In their place are classes that can be called, and derived from, but not be used for ``isinstance``.
    """
    finder = _DeferringFinder(modules)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def is_deferred(module: ModuleType) -> bool:
    """Whether the module has been imported but not executed."""
    return isinstance(vars(module).get("__getattr__"), _Execution)


class _DeferringFinder:
    """Finds modules where they are, and gives them a loader that defers."""

    def __init__(self, modules: Mapping[str, Sequence[str]]) -> None:
        self._modules = modules

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See ``MetaPathFinder``."""
        if fullname not in self._modules:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = cast("Loader", _DeferringLoader(spec.loader, self._modules[fullname]))
        return spec


class _DeferringLoader:
    """Loads a module without executing it."""

    def __init__(self, loader: Loader, names: Sequence[str]) -> None:
        self._loader = loader
        self._names = names

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """See ``Loader``."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Give the module a ``__getattr__`` that executes it."""
        # Others that look at the module find the loader that can read its source.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        execution = _Execution(module, self._loader)
        for name in self._names:
            vars(module)[name] = execution.stand_in(name)
        vars(module)["__getattr__"] = execution


class _Execution:
    """The ``__getattr__`` of a module that is to be executed by the first thread that reads an attribute."""

    def __init__(self, module: ModuleType, loader: Loader) -> None:
        self._module = module
        self._loader = loader
        self._lock = RLock()
        self._begun = False

    def __call__(self, name: str) -> Any:
        """Execute the module, and return the attribute."""
        # ``from package import module`` asks for the attribute before it imports the module.
        if name != "__path__" and not self._is_submodule(name):
            with self._lock:  # Another thread waits until the module is complete.
                if not self._begun:
                    self._execute()
            if name in vars(self._module):
                return vars(self._module)[name]
            own = vars(self._module).get("__getattr__")
            if own not in (None, self):
                return own(name)
        raise AttributeError(f"module '{self._module.__name__}' has no attribute '{name}'")

    def stand_in(self, name: str) -> type:
        """Return what stands for a function or class of the module until it is called, or an instance is used."""
        execution = self

        class StandIn:
            def __new__(cls, *arguments: Any, **keywords: Any) -> Any:
                if cls is StandIn:
                    return execution(name)(*arguments, **keywords)
                return super().__new__(cls)  # of a class that is derived from it

            def __getattr__(self, attribute: str) -> Any:
                return getattr(execution(name), attribute).__get__(self)

        return StandIn

    def _execute(self) -> None:
        self._begun = True
        try:
            self._loader.exec_module(self._module)
        except BaseException:
            self._begun = False
            raise
        if vars(self._module).get("__getattr__") is self:
            del vars(self._module)["__getattr__"]

    def _is_submodule(self, name: str) -> bool:
        path = vars(self._module).get("__path__")
        return path is not None and PathFinder.find_spec(f"{self._module.__name__}.{name}", path) is not None


@contextmanager
def typing_alone() -> Iterator[None]:
    """
    Have imports from ``typing_extensions`` in the ``with`` block find what ``typing`` has, unless it is loaded already.

    Twisted uses it for annotations only, and it takes half a megabyte.
    """
    name = "typing_extensions"
    if name in sys.modules:
        yield
        return
    stand_in = sys.modules[name] = _TypingNames(name)
    try:
        yield
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]


class _TypingNames(ModuleType):
    """``typing`` in the place of ``typing_extensions``, with what older versions of Python do not have there."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "TypeVar" and sys.version_info < (3, 13):
            return _type_variable
        if hasattr(typing, name):
            return getattr(typing, name)
        if name == "Self":
            return Any
        if name == "override":
            return lambda method: method
        del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def _type_variable(name: str, *constraints: Any, default: object = None, **keywords: Any) -> Any:
    """Return a ``typing.TypeVar``, which has a default only since Python 3.13."""
    return typing.TypeVar(name, *constraints, **keywords)
