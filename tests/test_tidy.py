"""
Tests of the architecture: which module may import which, and what the source must not contain.

A module imports only layers below its own and, in its own layer, only modules listed before it. Each new module must
be added to the list.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from types import ModuleType

from twisted.application.service import MultiService
from twisted.internet.protocol import ProcessProtocol, Protocol, ReconnectingClientFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementedBy
from zope.interface.interface import InterfaceClass
from zope.interface.verify import verifyClass

import txsentinel
from txsentinel import interfaces
from txsentinel.links.factory import LinkFactory
from txsentinel.runtime.scripts import ScriptProtocol
from txsentinel.runtime.service import SentinelService
from txsentinel.server.protocol import SentinelProtocol

LAYERS = (
    (
        "model",
        "model.timings model.address model.events model.time_slice model.measurements model.snapshots"
        " model.ulid model.receipt model.operations"
        " model.publications model.explanation model.history model.plain model.history_json model.history_merge"
        " model.comparison model.doctor model.file_end"
        " model.extension_settings model.proxy_header interfaces isentinel model.log_text model.log_throttle"
        " model.failure model.drawing",
    ),
    ("wire", "wire.numbers wire.resp wire.words wire.glob wire.requests wire.values wire.replies wire.hello wire.info"),
    (
        "core",
        "core.errors core.role core.question core.options core.fence_state core.server_rights core.link"
        " core.failover_state core.switchover_state core.attempt"
        " core.unconfirmed core.lineage_state core.restart_state core.diagnosis_state core.crash_evidence"
        " core.membership_state core.block_state core.kept_text core.instances core.instance_index"
        " core.reported_state core.effects"
        " core.durable_records core.due_queue"
        " core.journal_texts core.journal core.data_comparison core.operations"
        " core.state core.alignment core.quorum core.pause_rules core.registry core.fan_out core.vote_leases"
        " core.pause_messages core.pause_guarantee core.pauses core.tilt core.succession core.deadlines core.handover"
        " core.probing"
        " core.membership core.failover_blocks core.lineage core.empty_restart"
        " core.fencing core.selection core.write_rejection core.write_holding core.blockers"
        " core.conditions core.readiness core.voting"
        " core.vote_count core.questions core.failure_recorder core.crash_detection core.availability"
        " core.switched_servers core.switching core.election core.justification core.failover_start"
        " core.copied_state core.hindrances core.verdict_log core.remedies core.verdicts core.reconfiguration"
        " core.failover_end core.failover core.operation_records core.preconditions core.switchover core.schedules"
        " core.leaving core.ignored core.observation core.confirmation core.findings core.explaining"
        " core.hello_processing core.evaluation core.administration core.order_replies core.parts core.link_inputs"
        " core.sentinel core.failover_records core.earlier_records",
    ),
    (
        "config",
        "config.quoting config.keywords config.errors config.numbers config.elsewhere config.document config.disk"
        " config.process_title config.generic config.guards config.records config.secrets config.directives"
        " config.statements config.secret_options config.recovery config.configuration config.rendering"
        " config.saved_source config.write_attempts config.saving config.store",
    ),
    (
        "adapters",
        "links server client remote runtime.scripts runtime.event_plugins runtime.binding process.logs"
        " process.supervisor tls",
    ),
    (
        "service",
        "process.resolver reactor.slack reactor.priority process.log_queue process.threads process.temporary"
        " process.files process.appending process.state_directory runtime.host runtime.durability runtime.executor"
        " runtime.sweeper"
        " runtime.history reactor.multiplexer reactor.client_transport reactor.read_coalescing reactor.connectors"
        " process.collector process.descriptors runtime.listeners runtime.restoring runtime.publishing"
        " runtime.snapshot_builder runtime.snapshot_cache runtime.group_questions runtime.view_subscriptions"
        " runtime.view runtime.operator runtime.examining runtime.surface runtime.service runtime.health"
        " runtime.secrets runtime.reloading runtime.quorum_log"
        " cli.overrides cli.imports cli.refusing cli.extensions process.termination process.systemd"
        " process.supervision cli.detaching cli.building cli.tap cli.server_options",
    ),
    ("tools", "sim demo extensions"),
    ("programs", "cli.template_tap cli.check cli.export shadow proxy cli.operator cli.proxy_tap cli.main"),
)
"""From bottom to top. Adapters and tools are whole packages or single modules; none of them imports another."""

_BANNED = """
    abuse actor annex anybody attentive besiege besieged breathe breathes breathing calm complain complaint complaints
    conclude concluded concludes crowd crowded darken deaf deepest dialing dialled dialler dialling dice doomed door
    doors dumb eavesdropper edge edges entitle entitled everybody facts familiar farewell fewest floor floors forsake
    forsaken glance gossip greeting greetings happening happenings hear heard hearing hears hurry knock knocks lighten
    mute nap newborn nonsense onlooker overheard overtaken patience patient phrase phrases promise promised promises
    rage rubbish said say saying says scene settle settled settles settling shelf somebody soup soups spared speak
    speaks spoke stage steered storm storms stormy stranger strangers survey suspects talk talks tally tell tells told
    town townsfolk turnstile visit visiting visits vocabulary watchers whoever whom witness witnesses workbench world
    worlds youth zygote
"""
BANNED = frozenset(_BANNED.split())
"""Former terms, refused as parts of names and as words of texts; docs/glossary.rst has the present ones."""

_BANNED_NAMES = "agrees bench dial fewest play played plays room trouble troubles worth"
BANNED_NAMES = frozenset(_BANNED_NAMES.split())
"""Refused as parts of names; in texts these words are plain English."""

NNG = (
    "docs/nng.rst",
    "examples/nng/",
    "newsfragments/nng.feature.rst",
    "tests/extensions/outward/test_nng",
    "tests/interop/test_integrations.py",
    "txsentinel/extensions/nng/",
)
"""Where the words of nng and nanomsg are used."""

ALLOWED: dict[str, dict[str, str]] = {
    "edge": {
        "txsentinel/model/drawing.py": "a word of the language of Graphviz",
        "txsentinel/cli/operator/terminal.py": "a parameter of rich",
    },
    "concludes": {"txsentinel/cli/detaching.py": "untilConcludes is a function of Twisted"},
    "dial": {
        "examples/nng/surveyor.py": "a function of pynng",
        "tests/extensions/outward/test_nng.py": "a function of pynng",
    },
    "somebody": {"txsentinel/server/admission.py": "a log line of the C servers"},
    "survey": dict.fromkeys(NNG, "a pattern of communication of nanomsg"),
}
"""Word → path, or beginning of paths, where it is used → the reason."""

SCANNED = (
    ("txsentinel", ".py"),
    ("benchmarks", ".py"),
    ("examples", ".py"),
    ("tests", ".py"),
    ("tests/transcripts", ".txt"),
    ("docs", ".rst"),
    ("newsfragments", ".rst"),
)
"""Directories and endings of the files whose words are checked, besides some files of the root."""

FORMER_LIMIT = re.compile(r"\b_?(?:MOST|LEAST|LONGEST|SHORTEST|FEWEST|DEEPEST|BIGGEST)_[A-Z_]+\b")
"""Names of limits by superlatives."""

TEXT_TOKENS = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
"""Tokens that contain text."""

EXEMPT = {"docs/glossary.rst", "tests/test_tidy.py"}
"""Files that list the former terms."""

SERVER_ROWS = (
    "arguments documentation helptexts process_info specification statistics shared_options steps table",
    "acl",
    "access_control clientline clients",
    "output pacing pubsub replies request_cache",
    "services",
    "fan_out",
    "membership_orders handing_over draining resetting",
    "admission certificates client_filters client_filters_syntax dispatch eviction handlers information output_limits"
    " reply_writer reports",
    "commands all_commands",
    "protocol request_executor stepped_request",
    "context factory",
)
"""The modules of the server from bottom to top; docs/design.rst describes the rows."""

APART = ("adapters", "tools")
"""Layers whose members may not import each other."""

TOOL_IMPORTS = {"demo": {"client"}, "extensions": {"interfaces", "model"}}
"""What these tools may import, besides themselves; the simulator, which hosts the service, may import everything."""

IMPURE = {"asyncio", "datetime", "os", "random", "secrets", "socket", "subprocess", "threading", "time", "twisted"}
"""What the wire and the core must not import: clocks, random numbers, files, sockets, Twisted."""

PURE_FUNCTIONS = {"socket.AF_INET6", "socket.inet_ntop", "socket.inet_pton"}
"""What they may import from those: the spelling of addresses."""

TOPS = ("txsentinel", "benchmarks")
"""The packages whose imports may not form cycles."""

MAX_MODULE_LINES = 500
"""Lines; a longer module has more than one purpose."""

SHARED_CLASS_NAMES = {
    # Servers and Sentinels that monitor one group: real processes, and their simulation.
    "Fleet": {"demo.fleet", "sim.fleet"},
    # The command lines of three services; Twisted demands the name.
    "Options": {"cli.tap", "cli.template_tap", "cli.proxy_tap"},
    # The interface of a queued script that the server layer shows, and its implementation in a layer above.
    "ScriptJob": {"runtime.scripts", "server.services"},
}
"""Names of two public classes each, with their modules."""

MAX_SERVICE_LINES = 240
"""Lines of service.py, which only wires."""

LOADED_BY_THE_PROGRAM = "import sys, txsentinel.cli.main, txsentinel.cli.tap; print(*sys.modules)"
"""Names every module that is loaded with the console script and the service."""

SITE = os.path.dirname(os.path.dirname(os.path.abspath(txsentinel.__file__)))
"""The directory of the package: the checkout, or the directory that a wheel was installed into."""

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""The checkout, or the unpacked source distribution."""


@dataclass(frozen=True)
class Source:
    """One module of the package, read and parsed. ``name`` leaves out ``txsentinel.``"""

    name: str
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """The package directly below ``txsentinel`` that the module is part of."""
        return self.name.partition(".")[0]

    @property
    def unit(self) -> str:
        """What the layers list: the module itself, or the package that it is part of."""
        return unit_of(self.name)


@dataclass(frozen=True)
class Import:
    """One imported module, or name in a module, and whether only type checkers see it."""

    target: str
    types_only: bool


@cache
def sources(top: str = "txsentinel") -> tuple[Source, ...]:
    """Every module of a package."""
    found = []
    root = SITE if top == "txsentinel" else ROOT
    for directory, _, files in os.walk(os.path.join(root, top)):
        for file in sorted(files):
            if file.endswith(".py"):
                path = os.path.join(directory, file)
                with open(path, encoding="utf-8") as stream:
                    text = stream.read()
                words = os.path.relpath(path, root)[: -len(".py")].split(os.sep)[1:]
                name = ".".join(word for word in words if word != "__init__")
                found.append(Source(name, text, ast.parse(text, path)))
    return tuple(sorted(found, key=lambda source: source.name))


def imports(tree: ast.AST, types_only: bool = False) -> Iterator[Import]:
    """All imports, wherever they stand."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, types_only) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (Import(f"{node.module}.{alias.name}", types_only) for alias in node.names)
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            yield from imports(ast.Module(node.body, []), True)
            yield from imports(ast.Module(node.orelse, []), types_only)
        else:
            yield from imports(node, types_only)


def roots(source: Source) -> set[str]:
    """The top-level names of all that a module imports."""
    return {each.target.partition(".")[0] for each in imports(source.tree)}


def own_imports(source: Source, top: str = "txsentinel") -> Iterator[tuple[str, bool]]:
    """The modules of ``top`` that a module of it imports, with whether only type checkers see it."""
    names = {each.name for each in sources(top)}
    for each in imports(source.tree):
        package, _, target = each.target.partition(".")
        if package == top:
            while target and target not in names:
                target = target.rpartition(".")[0]  # the last word is a name in the module
            if target:
                yield target, each.types_only


@cache
def places() -> dict[str, tuple[int, int]]:
    """Return layer and position of everything that is listed."""
    return {
        name: (layer, position)
        for layer, (_, names) in enumerate(LAYERS)
        for position, name in enumerate(names.split())
    }


def unit_of(name: str) -> str:
    """Return the name under which the layers list a module: its own, or that of a package that it is part of."""
    listed = name
    while listed not in places() and "." in listed:
        listed = listed.rpartition(".")[0]
    return listed


def place(name: str) -> tuple[int, int] | None:
    """The layer and the position in it of a module."""
    return places().get(unit_of(name))


def import_graph(top: str) -> dict[str, set[str]]:
    """The imports among the modules of a package, by full names."""
    return {f"{top}.{each.name}": {f"{top}.{target}" for target, _ in own_imports(each, top)} for each in sources(top)}


def cycles(graph: Mapping[str, Set[str]]) -> list[list[str]]:
    """The groups of modules of which each can be reached from each other one, sorted."""
    reachable: dict[str, set[str]] = {}
    for name in graph:
        found: set[str] = set()
        waiting = list(graph[name])
        while waiting:
            target = waiting.pop()
            if target not in found:
                found.add(target)
                waiting += graph.get(target, ())
        reachable[name] = found
    groups = {
        tuple(sorted(each for each in found if name in reachable.get(each, ())))
        for name, found in reachable.items()
        if name in found
    }
    return [list(group) for group in sorted(groups)]


class LayerTests(SynchronousTestCase):
    """Which module may import which."""

    def test_every_module_has_a_place(self) -> None:
        """Every module is listed in a layer; the files of bare packages need not be."""
        packages = {name.partition(".")[0] for name in places()}
        unlisted = [each.name for each in sources() if place(each.name) is None and each.name not in packages | {""}]
        self.assertEqual(unlisted, [])

    def test_imports_go_down(self) -> None:
        """No module imports a higher layer, or a later one of its own layer, except for type checkers."""
        wrong = []
        for source in sources():
            here = place(source.name)
            for target, types_only in own_imports(source):
                there = place(target)
                if here is None or there is None or unit_of(target) == source.unit:
                    continue
                if there[0] > here[0] or (there[0] == here[0] and there[1] >= here[1] and not types_only):
                    wrong.append(f"{source.name} imports {target}")
        self.assertEqual(wrong, [])

    def test_no_imports_between_neighbours(self) -> None:
        """Links, server, scripts and the other adapters never import each other, nor do the tools."""
        layers = {name: names for name, names in LAYERS if name in APART}
        wrong = []
        for names in layers.values():
            for source in sources():
                if source.unit in names.split():
                    others = set(names.split()) - {source.unit}
                    wrong += [f"{source.name} -> {to}" for to, _ in own_imports(source) if unit_of(to) in others]
        self.assertEqual(wrong, [])

    def test_no_cycles(self) -> None:
        """No chain of imports returns to its beginning, including imports for type checkers."""
        self.assertEqual([cycle for top in TOPS for cycle in cycles(import_graph(top))], [])

    def test_cycles_are_found(self) -> None:
        """A cycle of any length is found, with or without modules that only lead to it."""
        self.assertEqual(cycles({"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": {"b"}}), [["b", "c", "d"]])
        self.assertEqual(cycles({"a": {"a"}, "b": {"c"}, "c": set()}), [["a"]])
        self.assertEqual(cycles({"a": {"b", "c"}, "b": {"c"}, "c": {"d"}}), [])

    def test_imports_of_the_server_go_down(self) -> None:
        """A module of the server imports no higher row, not even for type checkers."""
        rows = {name: row for row, names in enumerate(SERVER_ROWS) for name in names.split()}
        wrong = [
            f"{source.name} imports {target}"
            for source in sources()
            for target, _ in own_imports(source)
            if source.name.startswith("server.") and target.startswith("server.")
            if rows[source.name.split(".")[1]] < rows[target.split(".")[1]]
        ]
        self.assertEqual(wrong, [])

    def test_the_context_of_the_server_is_used_by_few(self) -> None:
        """
        Only the modules that build connections or the service import it; others declare the services that they need.
        """
        importers = {each.name for each in sources() for to, _ in own_imports(each) if to == "server.context"}
        self.assertEqual(importers, {"runtime.service", "server.factory"})

    def test_tools_import_little(self) -> None:
        """Extensions import the interfaces and the demonstration imports the client, and nothing else of ours."""
        wrong = []
        for source in sources():
            if source.package in TOOL_IMPORTS:
                allowed = TOOL_IMPORTS[source.package] | {source.package}
                wrong += [
                    f"{source.name} -> {to}" for to, _ in own_imports(source) if to.partition(".")[0] not in allowed
                ]
        self.assertEqual(wrong, [])

    def test_examples_import_little(self) -> None:
        """The example of an extension imports what other extensions may import; the others also start programs."""
        paths = [path for path in described_files() if path.startswith("examples/txsentinel-")]
        self.assertGreater(len(paths), 1)
        for path in paths:
            with open(os.path.join(ROOT, path), encoding="utf-8") as stream:
                targets = [each.target for each in imports(ast.parse(stream.read()))]
            parts = {target.split(".")[1] for target in targets if target.startswith("txsentinel.")}
            self.assertLessEqual(parts, TOOL_IMPORTS["extensions"], path)

    def test_the_service_never_loads_the_simulator(self) -> None:
        """Only one function of the console script imports the simulator; running the service does not."""
        outside = [
            (source.name, to)
            for source in sources()
            if source.package != "sim"
            for to, _ in own_imports(source)
            if to.partition(".")[0] == "sim"
        ]
        self.assertEqual(outside, [("cli.main", "sim.whatif.command")])
        loaded = subprocess.run(
            [sys.executable, "-c", LOADED_BY_THE_PROGRAM], cwd=SITE, capture_output=True, text=True, check=True
        ).stdout.split()
        self.assertIn("txsentinel.cli.tap", loaded)
        self.assertEqual([name for name in loaded if name.startswith("txsentinel.sim")], [])
        # Nor does it load an extension, or what only extensions need.
        own = {name for name in loaded if name.startswith("txsentinel.extensions.")}
        self.assertLessEqual(own, {"txsentinel.extensions.deferred"})
        self.assertEqual(set(loaded) & {"treq", "jinja2", "twisted.web.client"}, set())

    def test_core_is_pure(self) -> None:
        """Neither the model nor the wire nor the core can import clocks, random numbers, files or sockets."""
        for source in sources():
            if source.package in ("wire", "core") or source.name in ("model.timings", "model.address", "model.events"):
                targets = {each.target for each in imports(source.tree)} - PURE_FUNCTIONS
                self.assertEqual({target.partition(".")[0] for target in targets} & IMPURE, set(), source.name)

    def test_config_reads_without_twisted(self) -> None:
        """Of the modules about the configuration only the store and its states use Deferreds."""
        saving = ("config.saving", "config.store", "config.write_attempts")
        for source in sources():
            if source.package == "config" and source.name not in saving:
                self.assertNotIn("twisted", roots(source), source.name)

    def test_global_reactor(self) -> None:
        """Only the command line imports the global reactor, and no module uses functions that depend on it."""
        forbidden = {
            "twisted.internet.reactor",
            "twisted.internet.threads.deferToThread",
            "twisted.internet.utils.getProcessOutput",
        }
        for source in sources():
            if source.name not in (
                "cli.tap",
                "cli.operator.program",
                "cli.template_tap",
            ):
                named = {each.target for each in imports(source.tree) if not each.types_only}
                self.assertEqual(named & forbidden, set(), source.name)

    def test_random_numbers_and_clocks_come_from_the_host(self) -> None:
        """No adapter imports random numbers or clocks of its own: the simulator could not control them."""
        for source in sources():
            # The executor formats times, but reads no clock; the real host has the clocks of the others.
            if source.package in ("links", "server") or (
                source.package == "runtime" and source.name not in ("runtime.executor", "runtime.host")
            ):
                self.assertEqual(roots(source) & {"random", "secrets", "time"}, set(), source.name)


INSTANCE_NAMES = frozenset(["candidate", "instance", "master", "other", "peer", "promoted", "replica", "server"])
"""How variables that hold a master, a replica or a peer are named in the core."""

INSTANCE_CLASSES = frozenset(["Instance", "Server", "Replica", "Peer", "Master"])


def instance_fields(tree: ast.Module) -> set[str]:
    """The fields of the instances in ``core.instances``."""
    return {
        statement.target.id
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name in INSTANCE_CLASSES
        for statement in node.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }


def assigned(tree: ast.AST, resetting: str) -> Iterator[str]:
    """
    The attributes of instances to which a module assigns.

    :param resetting: the function that sets all state anew, as a constructor does; it does not count.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef) and node.name == resetting:
            continue
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in INSTANCE_NAMES:
                yield node.attr
        yield from assigned(node, resetting)


class WriterTests(SynchronousTestCase):
    """Which modules of the core change the fields that all of them read."""

    def test_one_writer(self) -> None:
        """Each field of a master, a replica or a peer is written by one module, besides its class and the reset."""
        modules = {source.name: source.tree for source in sources() if source.package == "core"}
        fields = instance_fields(modules["core.instances"])
        writers: dict[str, set[str]] = {}
        for name, tree in modules.items():
            if name != "core.instances":
                for field in assigned(tree, "_reset_state"):
                    if field in fields:
                        writers.setdefault(field, set()).add(name)
        self.assertGreater(len(writers), 40)
        shared = {field: sorted(names) for field, names in writers.items() if len(names) > 1}
        self.assertEqual(shared, {})

    def test_writers_are_found(self) -> None:
        """Assignments in tuples, with operators and in functions are found; those of a reset are not."""
        code = """
def change(master, link):
    master.a, x = 1, 2
    master.b += 1
    link.c = 1
def reset(master):
    master.d = 1
"""
        self.assertEqual(sorted(assigned(ast.parse(code), "reset")), ["a", "b"])


class HygieneTests(SynchronousTestCase):
    """Rules for the text of the sources."""

    def test_docstrings(self) -> None:
        """Every module has a docstring, and below the tools every public class and function has one."""
        bare = []
        for source in sources():
            if not ast.get_docstring(source.tree):
                bare.append(source.name or "txsentinel")
            if source.package not in ("sim", "demo"):
                bare += [f"{source.name}.{name}" for name in self.undocumented(source.tree)]
        self.assertEqual(bare, [], "\n".join(bare))

    def undocumented(self, tree: ast.AST) -> Iterator[str]:
        """Names of public definitions without a docstring."""
        for node in ast.iter_child_nodes(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                if node.name.startswith("_"):
                    continue
                overload = any(isinstance(each, ast.Name) and each.id == "overload" for each in node.decorator_list)
                if not ast.get_docstring(node) and not overload:
                    yield node.name
            if isinstance(node, ast.ClassDef):
                yield from (f"{node.name}.{name}" for name in self.undocumented(node))

    def test_no_print(self) -> None:
        """Nothing is printed, except by programs with output."""
        for source in sources():
            if source.package == "demo" or source.name.endswith("__main__"):
                continue
            calls = (each.func for each in ast.walk(source.tree) if isinstance(each, ast.Call))
            named = {each.id for each in calls if isinstance(each, ast.Name)}
            self.assertNotIn("print", named, source.name)

    def test_nothing_left_to_do(self) -> None:
        """No note about unfinished work is in the sources."""
        for source in sources():
            found = re.search(r"\b(TODO|FIXME|XXX|HACK)\b", source.text)
            self.assertIsNone(found, f"{source.name}: {found}")

    def test_no_stubs(self) -> None:
        """No function has a body of only ``pass``."""
        for source in sources():
            for node in ast.walk(source.tree):
                if isinstance(node, ast.FunctionDef) and len(node.body) == 1:
                    self.assertFalse(isinstance(node.body[0], ast.Pass), f"{source.name}.{node.name}")

    def test_length(self) -> None:
        """No module is longer than the limit."""
        lengths = {each.name: each.text.count("\n") for each in sources()}
        self.assertEqual({name: lines for name, lines in lengths.items() if lines > MAX_MODULE_LINES}, {})
        self.assertLess(lengths["runtime.service"], MAX_SERVICE_LINES)

    def test_packages_are_quiet(self) -> None:
        """Importing a package only defines names."""
        allowed = (ast.Expr, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
        packages = {source.name.rpartition(".")[0] for source in sources()}
        for source in sources():
            if source.name in packages:
                for node in source.tree.body:
                    self.assertIsInstance(node, allowed, source.name)

    def test_plugin_directory_is_no_package(self) -> None:
        """A file named __init__.py beside the plug-in would hide Twisted itself."""
        for directory in ("twisted", os.path.join("twisted", "plugins")):
            self.assertFalse(os.path.exists(os.path.join(ROOT, directory, "__init__.py")), directory)

    def test_layers_are_distinct(self) -> None:
        """No module is listed twice."""
        names = [name for _, names in LAYERS for name in names.split()]
        self.assertEqual([first for first, second in pairwise(sorted(names)) if first == second], [])

    def test_class_names_are_unique(self) -> None:
        """No two public classes have the same name, except those that mean the same thing."""
        modules: dict[str, list[str]] = {}
        for source in sources():
            for node in ast.walk(source.tree):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    modules.setdefault(node.name, []).append(source.name)
        shared = {name: set(found) for name, found in modules.items() if len(found) > 1}
        self.assertEqual(shared, SHARED_CLASS_NAMES)


def words_of(path: str) -> Iterator[tuple[str, bool]]:
    """Return the words of a file in lower case, and whether each is part of a name in code."""
    with open(os.path.join(ROOT, path), "rb") as stream:
        if not path.endswith(".py"):
            for word in re.findall(r"[a-z]+", stream.read().decode().lower()):
                yield word, False
            return
        for token in tokenize.tokenize(stream.readline):
            if token.type == tokenize.NAME:
                for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", token.string):
                    yield part.lower(), True
            elif token.type in TEXT_TOKENS:
                for word in re.findall(r"[a-z]+", token.string.lower()):
                    yield word, False


def described_files() -> Iterator[str]:
    """Paths of all sources, tests, benchmarks and pages, relative to the root."""
    yield from ("README.rst", "CONTRIBUTING.rst", "SECURITY.rst", "Makefile", "setup.py")
    for top, ending in SCANNED:
        for directory, subdirectories, names in os.walk(os.path.join(ROOT, top)):
            subdirectories[:] = [name for name in subdirectories if name not in ("node_modules", "__pycache__")]
            for name in names:
                if name.endswith(ending):
                    yield os.path.relpath(os.path.join(directory, name), ROOT).replace(os.sep, "/")


def is_allowed(word: str, path: str) -> bool:
    """Whether a banned word may be used in a file."""
    return any(path.startswith(beginning) for beginning in ALLOWED.get(word, ()))


class WordTests(SynchronousTestCase):
    """Names and texts use the terms of the field."""

    def test_no_former_terms(self) -> None:
        """No name and no text contains a term that was replaced by a standard one."""
        found, used = set(), set()
        for path in described_files():
            if path in EXEMPT:
                continue
            for word, is_name in words_of(path):
                if word in BANNED or (is_name and word in BANNED_NAMES):
                    if is_allowed(word, path):
                        used.add(word)
                    else:
                        found.add(f"{path}: {word}")
        self.assertEqual(sorted(found), [])
        self.assertEqual(ALLOWED.keys() - used, set(), "allowed, but not used")

    def test_limits_have_standard_names(self) -> None:
        """Constants are named MAX_… and MIN_…, not by superlatives."""
        found = []
        for path in described_files():
            if path.endswith(".py") and path not in EXEMPT:
                with open(os.path.join(ROOT, path), encoding="utf-8") as stream:
                    found += [f"{path}: {name}" for name in FORMER_LIMIT.findall(stream.read())]
        self.assertEqual(found, [])

    def test_names_are_split(self) -> None:
        """The words of a name are found in either spelling."""
        parts = {part for part, is_name in words_of("tests/test_tidy.py") if is_name}
        self.assertLessEqual({"banned", "names", "word", "tests", "is", "name"}, parts)


class FrameworkTests(SynchronousTestCase):
    """The parts are those of a Twisted service, which Twisted programmers know and extend."""

    def test_base_classes(self) -> None:
        """Twisted's factory reconnects each link; its protocols serve clients and run scripts."""
        self.assertTrue(issubclass(LinkFactory, ReconnectingClientFactory))
        self.assertTrue(issubclass(SentinelProtocol, Protocol))
        self.assertTrue(issubclass(ScriptProtocol, ProcessProtocol))
        self.assertTrue(issubclass(SentinelService, MultiService))


class InterfaceTests(SynchronousTestCase):
    """Interfaces are implemented, in name and signature."""

    def modules(self) -> Iterator[ModuleType]:
        """Return every module that can be imported without starting something."""
        for source in sources():
            if not source.name.endswith("__main__"):
                yield importlib.import_module(f"txsentinel.{source.name}" if source.name else "txsentinel")

    def test_every_class_implements_its_interfaces(self) -> None:
        """Each class that declares one of our interfaces implements it; each interface is implemented by some"
        " class."""
        ours = {
            value
            for value in vars(interfaces).values()
            if isinstance(value, InterfaceClass) and value.__module__ == interfaces.__name__
        }
        implemented = set()
        for module in self.modules():
            for value in vars(module).values():
                if isinstance(value, type) and value.__module__ == module.__name__:
                    for interface in ours & set(implementedBy(value)):
                        verifyClass(interface, value)
                        implemented.add(interface.__name__)
        self.assertIn("IHost", implemented)
        self.assertIn("IFileStore", implemented)
        self.assertIn("ISentinelListener", implemented)
