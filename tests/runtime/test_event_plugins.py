"""Tests of event plug-ins: delivery of events, and isolation of errors."""

from __future__ import annotations

import os
import sys
import textwrap
from types import ModuleType

from twisted.logger import LogEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.log_events import observe_log
from twisted import plugin
from txsentinel.interfaces import ISentinelListener
from txsentinel.model.events import SentinelEvent
from txsentinel.runtime.event_plugins import WITHOUT_EVENT_PLUGINS, EventPlugins, installed_event_plugins

TILT = SentinelEvent("+tilt", "#tilt mode entered")
SDOWN = SentinelEvent("+sdown", "master m 127.0.0.1 6379", master="m")


@implementer(ISentinelListener)
class Recorder:
    """A listener that records events."""

    def __init__(self) -> None:
        self.received: list[SentinelEvent] = []

    def event_published(self, event: SentinelEvent) -> None:
        """Record it."""
        self.received.append(event)


@implementer(ISentinelListener)
class FailingListener:
    """A listener with a bug."""

    def event_published(self, event: SentinelEvent) -> None:
        """Fail."""
        raise RuntimeError("failed on purpose")


class ListenersTests(SynchronousTestCase):
    """Tests of delivery."""

    def test_interface(self) -> None:
        """The combined listeners provide the interface of one."""
        verifyObject(ISentinelListener, EventPlugins([]))
        self.assertEqual(len(EventPlugins([])), 0)

    def test_order(self) -> None:
        """Every listener gets every event, in order."""
        first, second = Recorder(), Recorder()
        listeners = EventPlugins([first, second])
        for event in (TILT, SDOWN):
            listeners.event_published(event)
        self.assertEqual((first.received, second.received), ([TILT, SDOWN], [TILT, SDOWN]))

    def test_exceptions_stay_with_their_owner(self) -> None:
        """An exception is logged under the name of its listener, and the others get the event."""
        events: list[LogEvent] = []
        observe_log(self, events.append)
        after = Recorder()
        EventPlugins([FailingListener(), after]).event_published(SDOWN)
        self.assertEqual(after.received, [SDOWN])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(events[0]["log_namespace"], f"{__name__}.FailingListener")
        self.assertIn("+sdown master m 127.0.0.1 6379", str(events[0]["event"]))


class InstalledTests(SynchronousTestCase):
    """Tests of finding plug-ins, in a package of the test."""

    def plugin_package(self, **modules: str) -> ModuleType:
        """A package with these modules in it, importable until the test ends."""
        name = f"plugins_of_{self._testMethodName}"
        directory = os.path.abspath(self.mktemp())
        os.makedirs(os.path.join(directory, name))
        for module, source in {"__init__": "", **modules}.items():
            with open(os.path.join(directory, name, f"{module}.py"), "w", encoding="ascii") as file:
                file.write(textwrap.dedent(source))
        sys.path.insert(0, directory)
        self.addCleanup(sys.path.remove, directory)
        package = __import__(name)

        def forget() -> None:
            for loaded in [each for each in sys.modules if each.partition(".")[0] == name]:
                del sys.modules[loaded]

        self.addCleanup(forget)
        return package

    def test_found_by_interface(self) -> None:
        """Plug-ins that provide the interface are found, ordered by name; others are not."""
        source = """
            from twisted.plugin import IPlugin
            from zope.interface import implementer
            from txsentinel.interfaces import ISentinelListener

            @implementer(IPlugin, ISentinelListener)
            class {name}:
                def event_published(self, event):
                    "Record."

            @implementer(IPlugin)
            class SomethingElse:
                "No listener."

            listener = {name}()
            other = SomethingElse()
        """
        package = self.plugin_package(a=source.format(name="Alpha"), z=source.format(name="Omega"))
        found = installed_event_plugins(package)
        self.assertEqual([type(listener).__name__ for listener in found], ["Alpha", "Omega"])

    def test_only_known_modules(self) -> None:
        """Modules of Twisted and of this project are not loaded, as they have no event plug-ins; neither is a cache."""
        package = self.plugin_package(twisted_web="1 / 0", txsentinel_plugin="1 / 0")
        self.assertEqual(installed_event_plugins(package), [])
        self.assertEqual(os.listdir(package.__path__[0]).count("dropin.cache"), 0)
        package.__path__.append(os.path.abspath(__file__))  # like an archive
        self.assertEqual(installed_event_plugins(package), [])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_no_plugins_of_these_names(self) -> None:
        """The known modules are those that Twisted has; one that is not known costs memory, and is looked into."""
        directory = os.path.dirname(plugin.__file__)
        found = {name for name in os.listdir(os.path.join(directory, "plugins")) if name.endswith(".py")}
        self.assertLessEqual(found - {"txsentinel_plugin.py"}, WITHOUT_EVENT_PLUGINS)

    def test_broken_plugin(self) -> None:
        """A plug-in module that cannot be imported is logged and does not prevent the start."""
        package = self.plugin_package(broken="import nothing_of_this_name")
        self.assertEqual(installed_event_plugins(package), [])
        self.assertEqual(len(self.flushLoggedErrors(ModuleNotFoundError)), 1)
