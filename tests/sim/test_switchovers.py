"""Switchovers in simulated fleets: conditions, steps, receipts, and what happens if something fails meanwhile."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.core.durable_records import RecordKind
from txsentinel.model.history import FailoverKind, Outcome
from txsentinel.model.history_json import decode_records
from txsentinel.model.operations import OperationState
from txsentinel.model.receipt import ReceiptVerdict
from txsentinel.runtime.history import FILE_NAME
from txsentinel.sim.checks import InvariantChecker
from txsentinel.sim.fleet import Fleet
from txsentinel.sim.groups import Shape
from txsentinel.sim.values import Failed, Word

SHAPE = Shape(down_after=1_000, failover_timeout=10_000)
DIRECTORY = "/state"


def nested(reply: Any) -> Any:
    """Return a reply with its maps, which RESP2 sends as lists, as dictionaries with texts."""
    if isinstance(reply, list):
        keys = [key.decode() if isinstance(key, bytes) else key for key in reply[::2]]
        if reply and len(reply) % 2 == 0 and all(isinstance(key, str) and key.isidentifier() for key in keys):
            return {key: nested(value) for key, value in zip(keys, reply[1::2], strict=True)}
        return [nested(each) for each in reply]
    return reply.decode() if isinstance(reply, bytes) else reply


class SwitchoverCase(SynchronousTestCase):
    """Orders switchovers of one group under three Sentinels."""

    def start(self, seed: int = 1, shape: Shape = SHAPE) -> Fleet:
        """Start a fleet whose violations are recorded."""
        self.fleet = Fleet(seed, shape)
        self.fleet.state_dir = DIRECTORY
        self.checker = InvariantChecker(self.fleet)
        self.fleet.start()
        self.assertTrue(self.fleet.converge(30.0), self.fleet.disagreements())
        self.name = self.fleet.masters[0].name
        return self.fleet

    def call(self, *words: str, client: int = 0, seconds: float = 3.0) -> Any:
        """Send a command to a Sentinel, and return its reply; an error as text."""
        replies: list[Word] = []
        conversation = self.fleet.clients[client].conversation
        assert conversation is not None
        conversation.send([(words, replies.append)])
        self.assertTrue(self.fleet.simulation.run_until(lambda: bool(replies), seconds), words)
        return str(replies[0]) if isinstance(replies[0], Failed) else nested(replies[0])

    def order(self, *words: str, client: int = 0) -> Any:
        """Order a switchover."""
        return self.call("TXSENTINEL", "SWITCHOVER", self.name, *words, client=client)

    def finish(self, operation: Any, seconds: float = 20.0) -> Any:
        """Return the operation when it has ended."""
        found: Any = {}

        def ended() -> bool:
            found.update(self.call("TXSENTINEL", "OPERATION", operation["operation_id"]))
            return found["state"] in ("done", "failed", "cancelled")

        while not ended():
            self.assertGreater(seconds, 0, f"it has not ended: {found}")
            self.fleet.run(0.2)
            seconds -= 0.2
        return found

    def master(self) -> Any:
        """Return the only master among the servers."""
        (found,) = (server for server in self.fleet.servers if server.is_master)
        return found

    def codes(self, operation: Any) -> set[str]:
        """Return the codes of the conditions that were not met."""
        return {each["code"] for each in operation["reasons"]}

    def check_fine(self) -> None:
        """Check that no invariant was violated and all agree."""
        self.assertTrue(self.fleet.converge(60.0), self.fleet.disagreements())
        self.assertEqual([str(each) for each in self.checker.violations], [])
        self.assertEqual([str(each) for each in self.fleet.simulation.failures], [])


class MethodTests(SwitchoverCase):
    """Switchovers that succeed."""

    def check(self, method: str) -> Any:
        """Check the steps and the receipt of a method; return the operation."""
        fleet = self.fleet if hasattr(self, "fleet") else self.start()
        old = self.master()
        wanted = next(server for server in fleet.servers if not server.is_master)
        begun = self.order("TO", wanted.host.ip, "6379", "METHOD", method, "COMMENT", "new disk")
        self.assertEqual((begun["state"], begun["plan"]["method"]), ("running", method))
        operation = self.finish(begun)
        receipt = operation["receipt"]
        self.assertEqual((operation["state"], receipt["verdict"]), ("done", "proven"), operation)
        self.assertIs(self.master(), wanted)
        self.assertEqual(receipt["old"]["address"]["host"], old.host.ip)
        self.assertEqual(receipt["new"]["address"]["host"], wanted.host.ip)
        self.assertEqual(receipt["old"]["replid"], receipt["new"]["replid2"])
        self.assertLessEqual(receipt["old"]["offset_final"], receipt["new"]["fork_offset"])
        self.assertEqual(receipt["resyncs"], {"partial": 2, "full": 0})
        ids = {sentinel.alive.core.options.my_id for sentinel in fleet.sentinels[1:]}
        self.assertEqual({each["sentinel_id"] for each in receipt["sentinels"]}, ids)
        self.check_fine()
        # The receipt is added to the record of the failover a moment later.
        fleet.run(1.0)
        raw = fleet.sentinels[0].host.files.contents[f"{DIRECTORY}/{FILE_NAME}"]
        record = decode_records(raw)[0][-1]
        assert record.receipt is not None
        self.assertEqual((record.kind, record.outcome), (FailoverKind.SWITCHOVER, Outcome.SWITCHED))
        self.assertEqual((record.cause, record.comment), ("operator", "new disk"))
        self.assertEqual(record.operation, operation["operation_id"])
        self.assertEqual(record.receipt.verdict, ReceiptVerdict.PROVEN)
        self.assertEqual(record.receipt.fence.held_ms, receipt["fence"]["held_ms"])
        return operation

    def test_fence(self) -> None:
        """The writes are held until the replica has everything; they stay held until the old master follows."""
        operation = self.check("fence")
        steps = [each["step"] for each in operation["steps"]]
        expected = ["requested", "checked", "elected", "writes_held", "caught_up", "hold_extended"]
        expected += ["promotion_ordered", "promoted"]
        self.assertEqual(steps, [*expected, "demoted", "clients_closed", "receipt"])
        receipt = operation["receipt"]
        self.assertEqual(receipt["old"]["offset_final"], receipt["old"]["offset_at_fence"])

    def test_handover(self) -> None:
        """The servers exchange their roles."""
        operation = self.check("handover")
        steps = [each["step"] for each in operation["steps"]]
        self.assertEqual(steps[2:5], ["elected", "promotion_ordered", "writes_held"])

    def test_reject(self) -> None:
        """The writes are rejected once the former values are durable at all Sentinels; then they are restored."""
        fleet = self.start()
        for server in fleet.servers:
            server.configure({"min-replicas-to-write": "1", "min-replicas-max-lag": "0"})
        operation = self.check("reject")
        steps = [each["step"] for each in operation["steps"]]
        expected = ["requested", "checked", "elected", "writes_held", "caught_up", "promotion_ordered", "promoted"]
        self.assertEqual(steps, [*expected, "demoted", "clients_closed", "receipt"])
        self.assertEqual(operation["receipt"]["fence"]["kind"], "min-replicas-to-write")
        fleet.run(4.0)
        names = ("min-replicas-to-write", "min-replicas-max-lag")
        self.assertEqual({tuple(map(each.setting, names)) for each in fleet.servers}, {("1", "0")})
        for sentinel in fleet.sentinels:
            core = sentinel.alive.core
            self.assertEqual(list(core.records.in_force(RecordKind.REJECTING, core.swept_at or 0)), [])

    def test_dry_run(self) -> None:
        """A dry run changes nothing and needs no votes, but returns the plan."""
        self.start()
        before = self.master()
        operation = self.order("DRYRUN", "MAXPAUSE", "150")
        self.assertEqual((operation["state"], operation["reasons"]), ("done", []))
        plan = operation["plan"]
        self.assertEqual(plan["method"], "fence")
        self.assertIn("shortest time", plan["why"])
        self.assertEqual((plan["hold_limit_ms"], plan["hold_timeout_ms"]), (150, 10_000))
        self.fleet.run(5.0)
        self.assertIs(self.master(), before)
        self.assertEqual(self.fleet.sentinels[0].alive.core.current_epoch, 0)
        self.check_fine()

    def test_rights_without_effect(self) -> None:
        """The rights are tested once in ten minutes on each connection, and nothing of the test is executed."""
        fleet = self.start()
        self.order("DRYRUN")
        before = [dict(server.replication.__dict__) for server in fleet.servers]
        self.order("DRYRUN")
        self.assertEqual([server.replication.id for server in fleet.servers], [each["id"] for each in before])
        self.assertTrue(all(not server.paused for server in fleet.servers))
        self.check_fine()


class RejectionTests(SwitchoverCase):
    """Writes that are rejected are accepted again, whatever happens."""

    def value(self, server: Any) -> str:
        """Return ``min-replicas-to-write`` of a server."""
        found: str = server.setting("min-replicas-to-write")
        return found

    def begin(self, seed: int = 1) -> tuple[Any, Any, Any]:
        """Begin a switchover to a replica that gets nothing, so that writes are rejected until the time is over."""
        fleet = self.start(seed)
        old = self.master()
        old.configure({"min-replicas-to-write": "1"})
        replica = next(server for server in fleet.servers if not server.is_master)
        fleet.network.partition([old.host], [replica.host])
        old.write([b"SET", b"m1:0", b"new"])
        begun = self.order("TO", replica.host.ip, "6379", "METHOD", "REJECT", "MAXPAUSE", "400")
        self.assertEqual(begun["state"], "running", begun)
        self.assertTrue(fleet.simulation.run_until(lambda: self.value(old) == "999999", 2.0))
        return fleet, old, begun

    def records(self, sentinel: Any) -> list[Any]:
        """Return the records in force of a Sentinel."""
        core = sentinel.alive.core
        return list(core.records.in_force(RecordKind.REJECTING, core.swept_at or 0))

    def test_aborted(self) -> None:
        """If the replica does not get everything in time, the former value is restored at once."""
        fleet, old, begun = self.begin()
        self.assertEqual([len(self.records(each)) for each in fleet.sentinels], [1, 1, 1])
        operation = self.finish(begun)
        self.assertEqual((operation["state"], operation["problem"]["code"]), ("failed", "max_pause"), operation)
        fleet.run(0.1)
        self.assertEqual(self.value(old), "1")
        refused = self.order("METHOD", "FENCE")
        self.assertEqual(self.codes(refused) & {"rejects_writes"}, {"rejects_writes"}, refused)
        fleet.network.heal()
        fleet.run(4.0)
        self.assertEqual([self.records(each) for each in fleet.sentinels], [[], [], []])
        self.assertIs(self.master(), old)
        self.check_fine()

    def test_leader_dies(self) -> None:
        """If the leader dies for good, the others restore the value when it would not reject the writes any more."""
        fleet, old, _ = self.begin()
        fleet.sentinels[0].host.kill()
        fleet.run(5.0)
        self.assertEqual(self.value(old), "999999")
        fleet.network.heal()
        self.assertTrue(fleet.simulation.run_until(lambda: self.value(old) == "1", 10.0))
        fleet.run(4.0)
        self.assertEqual([self.records(each) for each in fleet.sentinels[1:]], [[], []])
        self.assertIs(self.master(), old)

    def test_everything_restarts(self) -> None:
        """A value that was written to the file of the old master is restored there, also after all have restarted."""
        fleet, old, _ = self.begin()
        old.rewrite()
        hosts = [old.host, *(each.host for each in fleet.sentinels)]
        for host in hosts:
            host.kill()
        fleet.network.heal()
        fleet.run(1.0)
        for host in hosts:
            host.restart()
        self.assertTrue(fleet.simulation.run_until(lambda: self.value(old) == "1", 30.0))
        old.host.kill()
        old.host.restart()
        self.assertEqual(self.value(old), "1")
        fleet.run(4.0)
        self.assertEqual([self.records(each) for each in fleet.sentinels], [[], [], []])

    def test_removed(self) -> None:
        """A master that is not monitored any more accepts writes."""
        fleet, old, _ = self.begin()
        self.assertEqual(self.call("SENTINEL", "REMOVE", self.name), "OK")
        fleet.run(0.5)
        self.assertEqual(self.value(old), "1")

    def test_never_by_itself(self) -> None:
        """The method is used only if it is named, which the refusal of the others points out."""
        fleet = self.start()
        self.order("DRYRUN")
        rights = fleet.sentinels[0].alive.core.master(self.name).link.rights
        assert rights is not None
        rights.denied["CLIENT PAUSE"] = "NOPERM no permission"
        refused = self.order()
        self.assertEqual(self.codes(refused), {"not_permitted_on_server"})
        self.assertIn("reject is possible if it is named", refused["reasons"][0]["text"])
        rights.denied["CONFIG SET"] = "NOPERM no permission"
        named = self.order("METHOD", "REJECT")
        self.assertIn("answers CONFIG SET with NOPERM", named["reasons"][0]["text"])
        self.assertNotIn("reject is possible", self.order()["reasons"][0]["text"])

    def test_rejects_already(self) -> None:
        """A master that rejects all writes by the same value is left as it is."""
        self.start()
        old = self.master()
        old.configure({"min-replicas-to-write": "999999"})
        operation = self.finish(self.order("METHOD", "REJECT"))
        self.assertEqual((operation["state"], operation["problem"]["code"]), ("failed", "not_permitted_on_server"))
        self.assertIn("rejects all writes already", operation["problem"]["text"])
        self.fleet.run(3.0)
        self.assertEqual(self.value(old), "999999")


class RestartTests(SwitchoverCase):
    """Operations are known after a restart of the Sentinel that executes them."""

    KEY = 'a "key" \n'

    def restart(self, step: str) -> Any:
        """Order a switchover, kill the leader right after a step, and start it again; return the operation."""
        fleet = self.start()
        leader = fleet.sentinels[0]
        begun = self.order("METHOD", "FENCE", "KEY", self.KEY, "COMMENT", "new disk")
        operation = leader.alive.core.state.operations.known[begun["operation_id"]]
        self.assertTrue(fleet.simulation.run_until(lambda: any(each.step == step for each in operation.steps), 20.0))
        fleet.run(0.3 if step == "receipt" else 0.0)
        leader.host.kill()
        fleet.run(0.1)
        leader.host.restart()
        fleet.run(3.0)
        return begun

    def test_done(self) -> None:
        """One that was done is done, and its idempotency key still belongs to it."""
        begun = self.restart("receipt")
        found = self.call("TXSENTINEL", "OPERATION", begun["operation_id"])
        self.assertEqual((found["state"], found["comment"], found["problem"]), ("done", "new disk", None))
        self.assertLess(abs(found["requested_at"] - begun["requested_at"]), 50)
        again = self.order("METHOD", "FENCE", "KEY", self.KEY, "COMMENT", "new disk")
        self.assertEqual(again["operation_id"], begun["operation_id"])
        self.check_fine()

    def test_running(self) -> None:
        """One that was running ends as the address of the master shows; until then there can be no other one."""
        for step, state, text in (
            ("writes_held", "failed", "was restarted meanwhile; the master is"),
            ("clients_closed", "done", "so there is no receipt; the master is"),
        ):
            begun = self.restart(step)
            found = self.finish(begun)
            self.assertEqual((found["state"], found["problem"]["code"]), (state, "leader_restarted"), found)
            self.assertIn(text, found["problem"]["text"])
            self.assertEqual([each["step"] for each in found["steps"]][:2], ["requested", "restored"])
            self.assertEqual(self.finish(self.order())["state"], "done")
            self.check_fine()


class ConditionTests(SwitchoverCase):
    """What keeps a switchover from beginning."""

    def test_all_conditions(self) -> None:
        """All conditions that are not met are returned, each with its numbers, and nothing is done."""
        fleet = self.start()
        before = self.master()
        self.fleet.sentinels[1].host.kill()
        self.fleet.sentinels[2].host.kill()
        replicas = [server for server in fleet.servers if not server.is_master]
        for server in replicas:
            server.configure({"replica-priority": "0"})
        fleet.run(12.0)
        operation = self.order("EXPECT", before.host.ip, "6379", "7")
        self.assertEqual((operation["state"], operation["problem"]["code"]), ("failed", "expectation_failed"))
        self.assertEqual(self.codes(operation), {"expectation_failed", "no_majority", "candidate_unfit"})
        reasons = {each["code"]: each for each in operation["reasons"]}
        self.assertEqual((reasons["no_majority"]["measured"], reasons["no_majority"]["limit"]), (1, 2))
        self.assertEqual((reasons["expectation_failed"]["measured"], reasons["expectation_failed"]["limit"]), (0, 7))
        unfit = [each["subject"] for each in operation["reasons"] if each["code"] == "candidate_unfit"]
        self.assertEqual(set(unfit), {f"{server.host.ip}:6379" for server in replicas})
        self.assertIs(self.master(), before)

    def test_candidates(self) -> None:
        """A candidate is honoured or refused with the reason, never replaced by another."""
        fleet = self.start()
        old = self.master()
        wanted = next(server for server in fleet.servers if not server.is_master)
        wanted.configure({"replica-priority": "0"})
        fleet.run(12.0)
        for words, text in (
            ((wanted.host.ip, "6379"), "its priority is 0"),
            (("10.9.9.9", "6379"), "it is no replica of this master"),
            ((old.host.ip, "6379"), "it is no replica of this master"),
        ):
            operation = self.order("TO", *words)
            self.assertEqual(operation["state"], "failed")
            self.assertEqual([each["text"] for each in operation["reasons"]], [text])
        self.assertIs(self.master(), old)
        self.check_fine()

    def test_rights(self) -> None:
        """A method that a server does not permit is not chosen, and refused with its error if it is named."""
        fleet = self.start()
        self.order("DRYRUN")
        core = fleet.sentinels[0].alive.core
        rights = core.master(self.name).link.rights
        assert rights is not None
        self.assertEqual(rights.denied, {})
        rights.denied["SLAVEOF"] = "NOPERM no permission"
        plan = self.order("DRYRUN")["plan"]
        self.assertEqual(plan["method"], "handover")
        self.assertIn("answers SLAVEOF with NOPERM", plan["why"])
        operation = self.order("METHOD", "FENCE")
        self.assertEqual(self.codes(operation), {"not_permitted_on_server"})
        rights.denied["FAILOVER"] = "NOPERM no permission"
        self.assertEqual(self.codes(self.order()), {"not_permitted_on_server"})
        self.check_fine()

    def test_short_down_after(self) -> None:
        """A fence needs a down-after that is not too short, as the writes are released before it is over."""
        self.start(shape=Shape(down_after=300, failover_timeout=10_000))
        operation = self.order("METHOD", "FENCE")
        self.assertEqual(self.codes(operation), {"down_after_too_short"})
        self.assertEqual((operation["problem"]["measured"], operation["problem"]["limit"]), (240, 400))
        plan = self.order("DRYRUN")["plan"]
        self.assertEqual(plan["method"], "handover")
        self.assertIn("down-after-milliseconds leaves 240 ms", plan["why"])

    def test_words(self) -> None:
        """Each wrong word is named."""
        self.start()
        for words, error in (
            (("NOW",), "unknown option 'NOW'"),
            (("TO", "10.0.0.1"), "TO needs 2 values"),
            (("TO", "10.0.0.1", "x"), "the port after TO must be an integer"),
            (("METHOD", "magic"), "METHOD must be one of auto, handover, fence"),
            (("TIMEOUT", "0"), "TIMEOUT must be between 10 and 600000"),
            (("MAXLAG", "-1"), "MAXLAG must be between 0"),
            (("DRYRUN", "DRYRUN"), "DRYRUN is given twice"),
            (("EXPECT", "10.0.0.1", "6379", "x"), "the config epoch after EXPECT must be an integer"),
            (("COMMENT", "x" * 1001), "COMMENT is longer than 1000 bytes"),
            (("KEY", "x" * 256), "KEY is longer than 255 bytes"),
        ):
            self.assertIn(error, self.order(*words))
        self.assertIn("No such master", self.call("TXSENTINEL", "SWITCHOVER", "other"))
        self.assertIn("NOSUCHOPERATION", self.call("TXSENTINEL", "OPERATION", "01"))
        self.assertIn("NOSUCHOPERATION", self.call("TXSENTINEL", "CANCEL", "01"))
        self.assertEqual(self.call("TXSENTINEL", "OPERATIONS"), [])


class OperationTests(SwitchoverCase):
    """Operations by ID and by key."""

    def test_keys(self) -> None:
        """The same key and order start no second operation; another order with the key is refused."""
        self.start()
        first = self.order("KEY", "k1")
        second = self.order("KEY", "k1")
        self.assertEqual(first["operation_id"], second["operation_id"])
        self.assertIn("KEYREUSED", self.order("KEY", "k1", "MAXLAG", "7"))
        self.assertIn(f"INPROG operation {first['operation_id']}", self.order())
        self.assertIn("operation_pending", self.codes(self.order("DRYRUN")))
        done = self.finish(first)
        self.assertEqual(self.order("KEY", "k1")["state"], "done")
        self.assertIn("TOOLATE", self.call("TXSENTINEL", "CANCEL", done["operation_id"]))
        listed = self.call("TXSENTINEL", "OPERATIONS")
        self.assertEqual([each["state"] for each in listed], ["done", "done"])
        self.assertEqual(listed[1]["operation_id"], first["operation_id"])
        self.check_fine()

    def test_cancel(self) -> None:
        """Before the promotion is ordered, a switchover can be cancelled: the writes go on."""
        fleet = self.start()
        before = self.master()
        replica = next(server for server in fleet.servers if not server.is_master)
        replica.host.pause_for(0.3)
        begun = self.order("TO", replica.host.ip, "6379", "METHOD", "FENCE")
        self.assertEqual(begun["state"], "running", begun)
        cancelled = self.call("TXSENTINEL", "CANCEL", begun["operation_id"])
        self.assertEqual((cancelled["state"], cancelled["problem"]["code"]), ("cancelled", "cancelled"))
        fleet.run(5.0)
        self.assertIs(self.master(), before)
        self.assertFalse(before.paused)
        self.check_fine()
        raw = fleet.sentinels[0].host.files.contents[f"{DIRECTORY}/{FILE_NAME}"]
        self.assertEqual(decode_records(raw)[0][-1].outcome, Outcome.CANCELLED)
        done = self.finish(self.order("METHOD", "FENCE"))
        self.assertEqual(done["receipt"]["verdict"], "proven")


class AbortTests(SwitchoverCase):
    """Switchovers that fail."""

    def test_replica_without_data(self) -> None:
        """If the replica does not get everything in time, writes go on at the old master after the permitted pause."""
        fleet = self.start()
        before = self.master()
        replica = next(server for server in fleet.servers if not server.is_master)
        fleet.network.partition([before.host], [replica.host])
        before.write([b"SET", b"m1:0", b"new"])
        begun = self.order("TO", replica.host.ip, "6379", "METHOD", "FENCE", "MAXPAUSE", "200")
        self.assertEqual(begun["state"], "running", begun)
        ordered_at = fleet.simulation.seconds()
        self.assertTrue(fleet.simulation.run_until(lambda: before.paused, 1.0))
        self.assertTrue(fleet.simulation.run_until(lambda: not before.paused, 1.0))
        self.assertLess(fleet.simulation.seconds() - ordered_at, 0.3)
        operation = self.finish(begun)
        self.assertEqual((operation["state"], operation["problem"]["code"]), ("failed", "max_pause"), operation)
        self.assertGreater(operation["problem"]["measured"], 200)
        fleet.network.heal()
        self.assertIs(self.master(), before)
        self.check_fine()

    def test_no_votes(self) -> None:
        """Without a majority nothing is held, and the operation fails."""
        fleet = self.start()
        before = self.master()
        for sentinel in fleet.sentinels[1:]:
            sentinel.host.pause_for(4.0)
        operation = self.finish(self.order("TIMEOUT", "2000"))
        self.assertEqual((operation["state"], operation["problem"]["code"]), ("failed", "timeout"), operation)
        self.assertLess(operation["problem"]["measured"], 2100)
        self.assertNotIn("writes_held", [each["step"] for each in operation["steps"]])
        fleet.run(5.0)
        self.assertIs(self.master(), before)

    def test_removed(self) -> None:
        """If the master is removed meanwhile, the operation ends and the writes go on."""
        fleet = self.start()
        before = self.master()
        replica = next(server for server in fleet.servers if not server.is_master)
        replica.host.pause_for(0.5)
        begun = self.order("TO", replica.host.ip, "6379", "METHOD", "FENCE")
        fleet.simulation.run_until(lambda: before.paused, 1.0)
        self.assertEqual(self.call("SENTINEL", "REMOVE", self.name), "OK")
        operation = self.finish(begun)
        self.assertEqual((operation["state"], operation["problem"]["code"]), ("failed", "unknown_master"))
        fleet.run(1.0)
        self.assertFalse(before.paused)


class SupersededTests(SwitchoverCase):
    """Failovers soon after a switchover."""

    def test_promoted_again(self) -> None:
        """If the new master dies at once, the leader of the switchover lets another Sentinel promote the old one."""
        fleet = self.start()
        old = self.master()
        second, third = (server for server in fleet.servers if server is not old)
        third.configure({"replica-priority": "200"})
        old.configure({"replica-priority": "1"})
        fleet.run(12.0)
        begun = self.order("TO", second.host.ip, "6379", "METHOD", "FENCE")
        operation = fleet.sentinels[0].alive.core.state.operations.known[begun["operation_id"]]
        self.assertTrue(
            fleet.simulation.run_until(lambda: operation.evidence is not None and not old.is_master, 4.0), begun
        )
        second.host.crash()
        self.assertTrue(fleet.simulation.run_until(lambda: old.is_master, 8.0))
        leader = next(n for n, each in enumerate(fleet.sentinels) if each.alive.core.master(self.name).failover)
        self.assertNotEqual(leader, 0)
        fleet.run(2.0)
        self.assertTrue(old.is_master)
        for sentinel in fleet.sentinels[1:]:
            fleet.network.cut(sentinel.host, old.host)
        self.assertEqual(self.call("SENTINEL", "FAILOVER", self.name, client=1), "OK")
        self.assertTrue(fleet.simulation.run_until(lambda: third.is_master, 4.0))
        fleet.run(3.0)
        self.assertEqual([str(each) for each in self.checker.violations], [])


class ScheduleTests(SwitchoverCase):
    """Switchovers at a later time."""

    def at(self, seconds: float) -> str:
        """Return the time in so many seconds by the wall clock of the first Sentinel."""
        return str(int((self.fleet.sentinels[0].host.wall_clock() + seconds) * 1000))

    def states(self, operation_id: str) -> list[str]:
        """Return the state of the operation at each Sentinel that knows it."""
        cores = [sentinel.alive.core for sentinel in self.fleet.sentinels if sentinel.running]
        found = [core.state.operations.known.get(operation_id) for core in cores]
        return sorted(each.state.value for each in found if each is not None)

    def test_executed_once(self) -> None:
        """All Sentinels keep it, also over a restart; one executes it at its time, and the record has the cause."""
        fleet = self.start()
        before = self.master()
        begun = self.order("AT", self.at(30.0), "METHOD", "FENCE", "COMMENT", "at night, quietly")
        self.assertEqual(begun["state"], "scheduled", begun)
        fleet.run(2.0)
        self.assertEqual(self.states(begun["operation_id"]), ["scheduled"] * 3)
        self.assertIn("is scheduled", self.order("AT", self.at(60.0)))
        for sentinel in fleet.sentinels:
            sentinel.host.restart()
        fleet.run(20.0)
        self.assertEqual(self.states(begun["operation_id"]), ["scheduled"] * 3)
        self.assertIs(self.master(), before)
        fleet.run(15.0)
        self.assertIsNot(self.master(), before)
        self.assertEqual(self.states(begun["operation_id"]), ["cancelled", "cancelled", "done"])
        self.assertTrue(fleet.converge(60.0), fleet.disagreements())
        leader = min(fleet.sentinels, key=lambda each: each.alive.core.options.my_id)
        record = decode_records(leader.host.files.contents[f"{DIRECTORY}/{FILE_NAME}"])[0][-1]
        self.assertEqual((record.cause, record.comment), ("schedule", "at night, quietly"))
        self.assertEqual(record.operation, begun["operation_id"])
        assert record.receipt is not None
        self.assertEqual(record.receipt.verdict, ReceiptVerdict.PROVEN)
        fleet.run(70.0)
        self.assertEqual(sum(server.is_master for server in fleet.servers), 1)
        self.assertEqual(leader.alive.core.master(self.name).config_epoch, record.config_epoch)
        self.check_fine()

    def test_taken_over(self) -> None:
        """If the Sentinel with the lowest ID is down, the next one executes it."""
        fleet = self.start()
        before = self.master()
        lowest = min(fleet.sentinels, key=lambda each: each.alive.core.options.my_id)
        place = next(n for n, each in enumerate(fleet.clients) if each.target is not lowest.host)
        begun = self.order("AT", self.at(10.0), client=place)
        fleet.run(2.0)
        lowest.host.kill()
        fleet.run(12.0)
        self.assertIsNot(self.master(), before)
        self.assertIn("done", self.states(begun["operation_id"]))
        lowest.host.restart()
        self.check_fine()

    def test_drained(self) -> None:
        """A Sentinel that is drained sends its schedules to those that missed them, and does not execute them."""
        fleet = self.start()
        lowest = min(fleet.sentinels, key=lambda each: each.alive.core.options.my_id)
        place = next(n for n, each in enumerate(fleet.clients) if each.target is lowest.host)
        others = [each for each in fleet.sentinels if each is not lowest]
        for each in others:
            each.host.kill()
        fleet.run(2.0)
        begun = self.order("AT", self.at(30.0), client=place)
        fleet.run(2.0)
        for each in others:
            each.host.restart()
        fleet.run(8.0)
        self.assertFalse(any(begun["operation_id"] in each.alive.core.state.operations.known for each in others))
        drained = self.call("TXSENTINEL", "DRAIN", lowest.host.ip, client=place, seconds=10.0)
        self.assertTrue(isinstance(drained, dict), drained)
        self.assertEqual((drained["safe"], drained["kept"]), (1, []))
        fleet.run(0.5)
        self.assertTrue(all(begun["operation_id"] in each.alive.core.state.operations.known for each in others))
        fleet.run(30.0)
        states = {each: each.alive.core.state.operations.known[begun["operation_id"]].state for each in others}
        self.assertIn(OperationState.DONE, states.values())
        self.assertIs(lowest.alive.core.state.operations.known[begun["operation_id"]].state, OperationState.CANCELLED)
        self.check_fine()

    def test_cancelled(self) -> None:
        """It can be cancelled, is refused for a time that has passed, and while failovers are paused."""
        fleet = self.start()
        before = self.master()
        self.assertIn("SCHEDULEINPAST", self.order("AT", self.at(-1.0)))
        self.assertIn("KEY cannot be given with AT", self.order("AT", self.at(5.0), "KEY", "k"))
        begun = self.order("AT", self.at(5.0))
        cancelled = self.call("TXSENTINEL", "CANCEL", begun["operation_id"])
        self.assertEqual((cancelled["state"], cancelled["problem"]["code"]), ("cancelled", "withdrawn"))
        fleet.run(8.0)
        self.assertIs(self.master(), before)
        self.assertEqual(set(self.states(begun["operation_id"])), {"cancelled"})
        begun = self.order("AT", self.at(5.0))
        self.call("TXSENTINEL", "PAUSE", self.name, "FOR", "60000")
        fleet.run(8.0)
        self.assertIs(self.master(), before)
        self.assertIn("failed", self.states(begun["operation_id"]))
        self.check_fine()

    def test_missed(self) -> None:
        """One that nobody could begin within a minute has failed."""
        fleet = self.start()
        before = self.master()
        begun = self.order("AT", self.at(5.0))
        fleet.run(1.0)
        for sentinel in fleet.sentinels:
            sentinel.host.pause_for(70.0)
        fleet.run(75.0)
        self.assertIs(self.master(), before)
        self.assertEqual(set(self.states(begun["operation_id"])), {"failed"})
