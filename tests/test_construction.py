"""
Tests of the composition of the service: an object gets what it needs by its constructor.

No module outside the decisions (core, configuration, commands) assigns attributes of other objects. The exceptions are
listed with their reasons.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from tests.test_tidy import Source, sources

PACKAGES = ("runtime", "cli", "links", "tls", "process", "reactor", "extensions")
MODULES = ("config.store", "config.saving", "server.context", "server.factory")
"""The packages and modules that connect the parts of a Sentinel with each other and with the outside."""

EXCEPTIONS = {
    # Twisted has an attribute in place of a parameter.
    "links.factory": {"connection.factory", "self.link.attempt_waiting"},
    "process.collector": {"self._loop.clock"},
    "process.descriptors": {"self._check_loop.clock"},
    "reactor.client_transport": {"port.transport", "port.reactor"},
    # The iteration of the reactor, which a subclass would replace, if reactors could be chosen later.
    "reactor.multiplexer": {"plain.doIteration"},
    # The exception is built in the same function; Twisted's ConnectionLost has no parameter for the error number.
    "reactor.connectors": {"why.osError"},
    "runtime.sweeper": {
        "self._loop.clock",
        "self._loop.interval",
        "self._loop.starttime",
        # Inputs of the core that are not method calls.
        "self._core.state.read_until",
        "queue.brought_forward",
    },
    "server.factory": {"self._inspection.clock", "protocol.factory"},
    "tls.endpoints": {"secured.protocol"},
    "tls.renewal": {"self._loop.clock"},
    # The interpreter's and the reactor's own hooks.
    "process.supervision": {"sys.excepthook"},
    "cli.imports": {"module.__loader__", "module.__spec__.loader", "spec.loader"},
    "cli.detaching": {"twistd.'_SomeApplicationRunner'"},
    "cli.building": {"reactor.'seconds'", "generic.loglevel"},
    "cli.operator.shadowing": {"reactor.'seconds'"},
    # Records of the module itself, which have no behaviour.
    "runtime.scripts": {f"job.{name}" for name in ("attempts", "due_at", "overdue", "pid", "process", "started_at")},
    "runtime.snapshot_cache": {"cached.assessment", "cached.valid_until"},
    "extensions.publishing": {f"known.{name}" for name in ("address", "adopted", "config_epoch")}
    | {"master.retry", "master.running"},
    # Records of the core: its state at the start, and what a link reports about itself.
    "runtime.restoring": {"core.options.my_id", "core.state.current_epoch"},
    "links.command_link": {"self.link.handover_end", "self.link.pending_commands"},
}


def assigned_attributes(tree: ast.AST) -> Iterator[str]:
    """The attributes of objects other than ``self`` that a module assigns or deletes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            if not (isinstance(node.value, ast.Name) and node.value.id == "self"):
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("setattr", "delattr"):
            yield f"{ast.unparse(node.args[0])}.{ast.unparse(node.args[1])}"


def examined() -> Iterator[Source]:
    """The modules for which the rule holds."""
    for source in sources():
        if source.package in PACKAGES or source.name in MODULES:
            yield source


class ConstructionTests(SynchronousTestCase):
    """No object is completed from outside after its construction."""

    def test_assignments_are_found(self) -> None:
        """Every form of assignment to an attribute of another object is found, and none to an own one."""
        code = (
            "self.a = b.c = 1; d.e, self.f.g = 2, 3; h.i += 4; j.k: int = 5; setattr(l, 'm', 6); del n.o; self.p += q.r"
        )
        code += "\nfor s.t in u.v: pass\nwith w as x.y: pass"
        found = {"b.c", "d.e", "self.f.g", "h.i", "j.k", "l.'m'", "n.o", "s.t", "x.y"}
        self.assertEqual(set(assigned_attributes(ast.parse(code))), found)

    def test_no_attribute_is_set_from_outside(self) -> None:
        """Attributes of other objects are assigned only where the list of exceptions has a reason."""
        found = {source.name: set(assigned_attributes(source.tree)) for source in examined()}
        wrong = {name: names - EXCEPTIONS.get(name, set()) for name, names in found.items()}
        self.assertEqual({name: names for name, names in wrong.items() if names}, {})

    def test_the_exceptions_are_needed(self) -> None:
        """Each exception is one that the module still makes."""
        found = {source.name: set(assigned_attributes(source.tree)) for source in examined()}
        stale = {name: names - found.get(name, set()) for name, names in EXCEPTIONS.items()}
        self.assertEqual({name: names for name, names in stale.items() if names}, {})
