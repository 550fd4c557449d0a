"""Tests of ``txsentinel.extensions.http.topology`` and ``txsentinel.extensions.http.graphviz``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.fixture import FakeView, healthy_master
from tests.extensions.http.harness import HttpHarness
from txsentinel.extensions.http.graphviz import MAX_OUTPUT_BYTES, TIMEOUT_SECONDS, Graphviz
from txsentinel.extensions.http.problem import Problem
from txsentinel.extensions.http.requests import ApiRequest
from txsentinel.extensions.http.responses import ApiResponse
from txsentinel.extensions.http.router import Answer
from txsentinel.extensions.http.topology import TopologyRoutes


class FakeProcess:
    """A child process that the test ends."""

    pid: int | None = 1234

    def __init__(self, protocol: ProcessProtocol, path: str, arguments: Sequence[str]) -> None:
        self.protocol = protocol
        self.command = (path, *arguments)
        self.received = b""
        self.killed = False
        protocol.makeConnection(self)

    def write(self, data: bytes) -> None:
        """Take what is sent to the process."""
        self.received += data

    def closeStdin(self) -> None:
        """End its input."""
        self.received += b"<end>"

    def signalProcess(self, signal: str) -> None:
        """Take a signal, and end."""
        assert signal == "KILL"
        self.killed = True
        self.end(ProcessTerminated(None, 9))

    def end(self, reason: Exception) -> None:
        """End the process."""
        self.pid = None
        self.protocol.processEnded(Failure(reason))

    def answer(self, data: bytes) -> None:
        """Write the output and end."""
        self.protocol.outReceived(data)
        self.end(ProcessDone(0))


class ProcessClock(Clock):
    """A clock that starts fake processes."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[FakeProcess] = []
        self.refusing = False

    def spawnProcess(
        self, protocol: ProcessProtocol, path: str, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> FakeProcess:
        """Start a process."""
        if self.refusing:
            raise OSError(11, "Resource temporarily unavailable")
        self.processes.append(FakeProcess(protocol, path, arguments))
        return self.processes[-1]


class GraphvizTests(SynchronousTestCase):
    """The child process."""

    def setUp(self) -> None:
        self.clock = ProcessClock()
        self.graphviz = Graphviz(self.clock, lambda name: f"/bin/{name}")

    def draw(self, source: str = "digraph {}") -> Deferred[bytes]:
        """Begin a drawing."""
        return self.graphviz.svg(lambda: source)

    def problem(self, drawing: Deferred[bytes]) -> Problem:
        """Return how a drawing failed; nothing remains scheduled."""
        problem = self.failureResultOf(drawing, Problem).value
        self.assertEqual(self.clock.getDelayedCalls(), [])
        assert isinstance(problem, Problem)
        return problem

    def test_drawing(self) -> None:
        """The program gets the drawing, and its output is the result."""
        drawing = self.draw("digraph { é }")
        (process,) = self.clock.processes
        self.assertEqual(process.command, ("/bin/dot", "dot", "-Tsvg"))
        self.assertEqual(process.received, "digraph { é }<end>".encode())
        process.protocol.outReceived(b"<svg ")
        process.protocol.errReceived(b"a warning")
        process.answer(b"/>")
        self.assertEqual(self.successResultOf(drawing), b"<svg />")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_at_a_time(self) -> None:
        """A second drawing begins when the first has ended."""
        first, second = self.draw("1"), self.draw("2")
        self.assertEqual([each.received for each in self.clock.processes], [b"1<end>"])
        self.clock.processes[0].answer(b"one")
        self.clock.processes[1].answer(b"two")
        self.assertEqual((self.successResultOf(first), self.successResultOf(second)), (b"one", b"two"))

    def test_not_installed(self) -> None:
        """Without the program the message names it."""
        graphviz = Graphviz(self.clock, lambda name: None)
        problem = self.problem(graphviz.svg(lambda: ""))
        self.assertEqual((problem.status, problem.code), (501, "no_graphviz"))
        self.assertIn("Graphviz", problem.detail)

    def test_too_slow(self) -> None:
        """A program that takes too long is killed."""
        drawing = self.draw()
        self.clock.advance(TIMEOUT_SECONDS)
        self.assertTrue(self.clock.processes[0].killed)
        self.assertEqual(self.problem(drawing).code, "drawing_too_slow")

    def test_too_large(self) -> None:
        """A program that writes too much is killed."""
        drawing = self.draw()
        self.clock.processes[0].protocol.outReceived(bytes(MAX_OUTPUT_BYTES))
        self.assertNoResult(drawing)
        self.clock.processes[0].protocol.outReceived(b"x")
        self.assertTrue(self.clock.processes[0].killed)
        self.assertEqual(self.problem(drawing).code, "drawing_too_large")

    def test_failure(self) -> None:
        """A program that fails, and one that cannot be started, are reported; the next one runs."""
        drawing = self.draw()
        self.clock.processes[0].end(ProcessTerminated(1))
        self.assertEqual(self.problem(drawing).code, "drawing_failed")
        self.clock.refusing = True
        problem = self.problem(self.draw())
        self.assertIn("Resource temporarily unavailable", problem.detail)
        self.clock.refusing = False
        drawing = self.draw()
        self.clock.processes[1].answer(b"<svg/>")
        self.assertEqual(self.successResultOf(drawing), b"<svg/>")

    def test_client_disconnects(self) -> None:
        """Cancelling a drawing kills its program, and the next one begins."""
        first, second = self.draw(), self.draw()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertTrue(self.clock.processes[0].killed)
        self.clock.processes[1].answer(b"<svg/>")
        self.assertEqual(self.successResultOf(second), b"<svg/>")
        self.assertEqual(self.clock.getDelayedCalls(), [])


class TopologyTests(SynchronousTestCase):
    """The routes."""

    def setUp(self) -> None:
        self.server = HttpHarness()
        self.clock = ProcessClock()

    def routes(self, view: FakeView | None = None) -> TopologyRoutes:
        """Return the handlers over fake processes."""
        return TopologyRoutes(view or self.server.view, Graphviz(self.clock, lambda name: f"/bin/{name}"))

    def answer(self, handler: Callable[[ApiRequest], Deferred[Answer]], **parameters: Any) -> ApiResponse:
        """Call a handler and have the program draw; the drawing is the number of the program."""
        started = len(self.clock.processes)
        answering = handler(ApiRequest("GET", "/", **parameters))
        for process in self.clock.processes[started:]:
            process.answer(str(len(self.clock.processes)).encode())
        answer = self.successResultOf(answering)
        assert isinstance(answer, ApiResponse)
        return answer

    def test_dot(self) -> None:
        """All masters, or one of them, as DOT."""
        reply = self.server.get("/v1/topology.dot")
        self.assertEqual((reply.status, reply.headers["content-type"]), (200, "text/vnd.graphviz; charset=utf-8"))
        self.assertEqual(reply.body.decode().count("subgraph cluster_"), 3)
        self.assertIn("aaaaaaaa (this one)", reply.body.decode())
        reply = self.server.get("/v1/masters/sessions/topology.dot")
        self.assertEqual(reply.body.decode().count("subgraph cluster_"), 1)
        self.assertEqual(self.server.get("/v1/masters/other/topology.dot").code, "unknown_master")
        tag = reply.headers["etag"]
        self.assertEqual(self.server.get("/v1/masters/sessions/topology.dot", If_None_Match=tag).status, 304)

    def test_drawing(self) -> None:
        """A drawing is made once for each revision."""
        routes = self.routes()
        first = self.answer(routes.all_svg)
        self.assertEqual((first.body, first.content_type), (b"1", "image/svg+xml"))
        self.assertEqual(self.clock.processes[0].received.count(b"subgraph cluster_"), 3)
        self.assertEqual(self.answer(routes.all_svg).body, b"1")
        self.server.view.put(healthy_master("new"))
        self.assertEqual(self.answer(routes.all_svg).body, b"2")
        one = self.answer(routes.svg, parameters={"master": "mymaster"})
        self.assertEqual(one.body, b"3")
        self.assertEqual(self.answer(routes.svg, parameters={"master": "mymaster"}).body, b"3")
        tag = dict(one.headers)["ETag"]
        again = self.answer(routes.svg, parameters={"master": "mymaster"}, headers={"if-none-match": tag})
        self.assertEqual(again.status, 304)

    def test_cache_is_limited(self) -> None:
        """Only the latest drawings are kept."""
        view = FakeView(*(healthy_master(f"m{number}") for number in range(20)))
        routes = self.routes(view)
        for number in range(20):
            self.answer(routes.svg, parameters={"master": f"m{number}"})
        self.answer(routes.svg, parameters={"master": "m19"})
        self.assertEqual(len(self.clock.processes), 20)
        self.answer(routes.svg, parameters={"master": "m0"})
        self.assertEqual(len(self.clock.processes), 21)

    def test_many_masters(self) -> None:
        """More than 200 nodes are drawn one master at a time."""
        view = FakeView(*(healthy_master(f"m{number}") for number in range(40)))
        reply = HttpHarness(view).get("/v1/topology.svg")
        self.assertEqual((reply.status, reply.code), (422, "too_many_nodes"))
        self.assertIn("/v1/masters/NAME/topology.svg", reply.document["detail"])
        self.assertEqual(self.answer(self.routes(view).svg, parameters={"master": "m7"}).body, b"1")

    def test_rights(self) -> None:
        """Drawings need the right to read masters."""
        self.server.operator.denied.add(("default", "sentinel|masters"))
        self.server.operator.denied.add(("default", "sentinel|master"))
        for target in (
            "topology.dot",
            "topology.svg",
            "masters/mymaster/topology.dot",
            "masters/mymaster/topology.svg",
        ):
            self.assertEqual(self.server.get(f"/v1/{target}").status, 403, target)
