"""
Invariants of every byte that a Sentinel sends: the content is durable first, and no more than permitted.

:class:`~txsentinel.sim.wiretap.WireTapInstaller` calls the checker when bytes are handed to the kernel. Durable is what
    the simulated disk would return after a power cut.
"""

from __future__ import annotations

from txsentinel.core.instances import Master
from txsentinel.sim.data_checks import DataChecker
from txsentinel.sim.pause_checks import PauseChecker
from txsentinel.sim.records import NEVER, Leader, MasterHistory, Records, SentinelRecord
from txsentinel.sim.values import Failed, Word
from txsentinel.sim.wiretap import Request

ORDER_LIFE = 0.5
"""Seconds within which an order to fail over takes effect: earlier reply slots must be free first."""


class WireChecker:
    """The :class:`~txsentinel.sim.wiretap.WireListener` of the checker."""

    def __init__(self, records: Records, data: DataChecker, pauses: PauseChecker) -> None:
        self._records = records
        self._pauses = pauses
        self._data = data
        self._expect = records.expect

    def hello_sent(self, who: str, payload: bytes) -> None:
        """A hello contains nothing that a crash could undo, unless the disk is known to fail."""
        record = self._records.sentinels.get(who)
        if record is None:
            words = payload.decode().split(",")
            self._records.hellos.setdefault((words[4], int(words[7]), (words[5], int(words[6]))), set()).add(who)
            return
        if payload in record.valid_hellos:
            return
        words = payload.decode().split(",")
        my_id, current, name, place = words[2], int(words[3]), words[4], (words[5], int(words[6]))
        epoch = int(words[7])
        persisted = record.persisted
        self._records.hellos.setdefault((name, epoch, place), set()).add(who)
        self._records.claimed(who, name, epoch, place)
        self._expect(
            epoch <= current, "S8", f"{who} announces config epoch {epoch} on {name} and current epoch {current}"
        )
        self._expect(my_id == persisted.my_id, "durable", f"{who} goes by {my_id[:8]}, which is not on disk")
        if record.disk_fails:
            return
        master = persisted.masters.get(name)
        if master is not None:
            fine = epoch < master.config_epoch or (epoch == master.config_epoch and place == master.place)
            # A hello that arrived after this one was decided may have replaced its content.
            fine = fine or (epoch <= master.config_epoch and place in record.master(name).durable_places)
            # An order to remove the master may have shared the write.
            fine = fine or self._records.now - record.master(name).reset_at < ORDER_LIFE
            self._expect(
                fine,
                "durable",
                f"{who} announces {name} at {place}@{epoch}, on disk {master.place}@{master.config_epoch}",
            )
        record.valid_hellos.add(payload)

    def saw_master(self, who: str, ip: str) -> None:
        """Record the role for S12."""
        self._records.sentinels[who].saw_master[ip] = self._records.now

    def saw_replica(self, who: str, ip: str) -> None:
        """Record the role for S15 to S17."""
        record, now = self._records.sentinels[who], self._records.now
        if record.saw_master.get(ip, NEVER) >= record.became_replica.get(ip, NEVER):
            record.became_replica[ip] = now
        record.saw_replica[ip] = now

    def saw_pong(self, who: str, ip: str) -> None:
        """Record the PONG for S17."""
        self._records.sentinels[who].saw_pong[ip] = self._records.now

    def was_asked(self, voter: str, asker: str, request: Request) -> None:
        """Record operators' orders, which permit what is otherwise a violation."""
        record = self._records.sentinels[voter]
        name = request.words[2].decode() if len(request.words) > 2 else ""
        words = request.words
        switchover = len(words) > 2 and words[:2] == [b"TXSENTINEL", b"SWITCHOVER"]
        name = words[2].decode() if switchover else name
        if request.name == b"FAILOVER" or switchover:
            record.master(name).ordered_at = self._records.now
        elif request.name in (b"REMOVE", b"MONITOR"):
            newest = record.master(name).newest_vote
            now = self._records.now
            record.masters[name] = MasterHistory(newest_vote=newest, may_fall=True, reset_at=now, reset_writes=2)
            record.seen = None
            record.valid_hellos.clear()
        elif request.name in (b"RESET", b"SET"):
            for each in record.masters.values():
                each.forget_attempts()

    def asked(self, asker: str, voter: str, request: Request) -> None:
        """A request for a vote has an ID that is on disk."""
        candidate = request.words[5].decode()
        if candidate != "*" and request.words[4] != b"0":  # In epoch 0 the candidate itself is asked whether it is one.
            durable = self._records.sentinels[asker].persisted.my_id
            self._expect(candidate == durable, "durable", f"{asker} campaigns as {candidate[:8]}, which is not on disk")

    def answered(self, voter: str, asker: str, request: Request, reply: Word) -> None:
        """Votes and confirmations are durable when they are sent; opinions were held when they were requested."""
        record = self._records.sentinels[voter]
        if request.name == b"IS-MASTER-DOWN-BY-ADDR" and isinstance(reply, list):
            self._opinion_sent(record, request, reply)
        elif request.name == b"GET-MASTER-ADDR-BY-NAME" and isinstance(reply, list):
            place = (_text(reply[0]), int(_text(reply[1])))
            name = request.words[2].decode()
            fine = record.disk_fails or self._records.may_publish(record, name, place)
            self._expect(fine, "durable", f"{voter} answers a client {name} at {place}")
        elif reply == b"OK":
            self._confirmed(record, request)

    def _confirmed(self, record: SentinelRecord, request: Request) -> None:
        words = [word.decode() for word in request.words]
        if request.name == b"MONITOR":
            fine = words[2] in record.persisted.masters
        elif request.name == b"SET":
            master = record.persisted.masters.get(words[2])
            wanted = {words[4]}
            now = record.sentinel.alive.core.registry.masters.get(words[2])
            if now is not None:
                # Two orders may share one write. Then the first one was never on disk, but the file has a newer one.
                present = {
                    "quorum": now.options.quorum,
                    "down-after-milliseconds": now.options.down_after,
                    "failover-timeout": now.options.failover_timeout,
                    "parallel-syncs": now.options.parallel_syncs,
                }
                wanted.add(str(present.get(words[3], words[4])))
            ordered_value = (
                None if master is None else str(master.quorum) if words[3] == "quorum" else master.options.get(words[3])
            )
            # An option at its default is written without a line.
            fine = ordered_value in wanted or (ordered_value is None and words[3] == "parallel-syncs" and "1" in wanted)
        else:
            return
        self._expect(fine, "durable", f"{record.sentinel.name} confirmed {words} before it was on disk")

    def _opinion_sent(self, record: SentinelRecord, request: Request, reply: list[Word]) -> None:
        voter = record.sentinel.name
        place = (request.words[2].decode(), int(request.words[3]))
        name = self._records.master_at(place[0])
        down, candidate, epoch = reply[0], _text(reply[1]), reply[2]
        if name is None or not isinstance(epoch, int):
            return
        if down:
            tilt = record.tilt_since
            frozen = tilt is not None and tilt <= request.at and record.sentinel.alive.core.tilt.active
            self._expect(not frozen, "S13", f"{voter} reported in TILT that {place} is down")
            master = record.master(name)
            held = master.down_at == place or master.down_until.get(place, NEVER) >= request.at
            self._expect(held, "S10", f"{voter} reported that {place} is down, which it does not hold")
        if candidate != "*":
            self._records.voted(voter, name, epoch, candidate, out=True)
            durable = record.persisted.masters.get(name)
            least = 0 if durable is None else durable.leader_epoch
            self._expect(epoch <= least, "durable", f"{voter} sent its vote of {epoch} on {name}, durable is {least}")
            core = record.sentinel.alive.core
            self._expect(epoch <= core.current_epoch, "S9", f"{voter} sent a vote of {epoch}, beyond its current epoch")
            if candidate != core.options.my_id and epoch > record.master(name).newest_vote:
                record.master(name).voted_for_other = self._records.now
                record.master(name).other = candidate, epoch

    def was_answered(self, asker: str, voter: str, request: Request, reply: Word) -> None:
        """Record the reply for S4 and S10."""
        place = (request.words[2].decode(), int(request.words[3]))
        name = self._records.master_at(place[0])
        if name is None or isinstance(reply, Failed) or not isinstance(reply, list):
            return
        record = self._records.sentinels[asker]
        master = record.master(name)
        if reply[0] == 1:
            master.opinions[place, voter] = self._records.now
        else:
            master.opinions.pop((place, voter), None)
        epoch = reply[2]
        if _text(reply[1]) == record.persisted.my_id and isinstance(epoch, int):
            master.voters.setdefault(epoch, set()).add(voter)

    def ordered(self, who: str, ip: str, words: list[bytes]) -> None:
        """A server is ordered to change its role (S3, S4, S11, S13, S14, S17)."""
        name = self._records.master_at(ip)
        record = self._records.sentinels[who]
        core = record.sentinel.alive.core
        master = None if name is None else core.registry.masters.get(name)
        if name is None or master is None or words[1:] == [b"ABORT"]:
            return
        if words[0] == b"SLAVEOF" and words[1:] != [b"NO", b"ONE"]:
            place = (words[1].decode(), int(words[2]))
            # A server that follows the master of another group is a replica of that group as well.
            groups = [each for each in core.registry.masters.values() if each is master or _has_replica(each, ip)]
            published = [(each.published_address.ip, each.published_address.port) for each in groups]
            self._expect(place in published, "S11", f"{who} ordered {ip} to follow {place}")
            self._expect(place[0] != ip, "S11", f"{who} ordered {ip} to follow itself")
            # The master of a group follows no master but its successor, wherever else it is listed.
            fine = master.address.ip != ip or place == (master.published_address.ip, master.published_address.port)
            self._expect(fine, "S11", f"{who} ordered {ip}, the master of {name}, to follow {place}")
            return
        promoted_ip = words[2].decode() if words[0] == b"FAILOVER" else ip
        for each in core.registry.masters.values():
            if each.failover is not None and each.failover.promoted is not None:
                if each.failover.promoted.address.ip == promoted_ip:
                    master = each
        self._check_promotion(record, master, promoted_ip)

    def _check_promotion(self, record: SentinelRecord, master: Master, ip: str) -> None:
        """A server is promoted."""
        who, name = record.sentinel.name, master.name
        failover, kept, core = master.failover, record.master(name), record.sentinel.alive.core
        if failover is None or failover.promoted is None or failover.promoted.address.ip != ip:
            self._expect(False, "S11", f"{who} made {ip} a master without leading a failover to it")
            return
        epoch = failover.epoch
        self._expect(not core.tilt.active, "S13", f"{who} promoted in TILT")
        if not (failover.forced or failover.planned):
            self._old_master_is_lost(record, master)
        server = self._records.server_at(ip)
        self._expect(server.setting("replica-priority") != "0", "S14", f"{who} promoted {ip}, whose priority is 0")
        kept.promotions[ip] = self._records.now
        self._data.promoted(record, master, ip)
        if failover.automatic:
            self._pauses.promoted(who, name)
        if epoch not in kept.led:
            kept.led.add(epoch)
            self._records.failovers += 1
        durable = record.persisted.masters.get(name)
        vote = 0 if durable is None else durable.leader_epoch
        self._expect(vote >= epoch, "durable", f"{who} acts on {name} in {epoch}, its durable vote is of {vote}")
        self._expect(
            record.persisted.current_epoch >= epoch,
            "durable",
            f"{who} acts on {name} in {epoch}, which is not on disk",
        )
        known = max(len(master.peers), 0 if durable is None else len(durable.peers))
        needed = max((known + 1) // 2 + 1, master.options.quorum)
        voters = kept.voters.get(epoch, set()) - {who}
        elected = len(voters) + 1 >= needed
        if kept.forced and not elected:
            self._records.unelected.add((name, epoch))
            return
        self._expect(elected, "S4", f"{who} acts on {name} in {epoch} with {len(voters) + 1} votes of {needed}")
        known_ids = frozenset(master.peers).union(() if durable is None else durable.peers)
        leader = self._records.leaders.setdefault((name, epoch), Leader(who, core.options.my_id, known_ids))
        # A Sentinel that was just ordered to remove a master knows no peer of its group and may form a group of its
        # own. No protocol lets two Sentinels agree that do not know of each other.
        unknown_peers = leader.run_id not in known_ids and core.options.my_id not in leader.known
        self._expect(leader.name == who or unknown_peers, "S3", f"{who} and {leader.name} both lead {name} in {epoch}")

    def _old_master_is_lost(self, record: SentinelRecord, master: Master) -> None:
        """
        A leader that promotes unasked has had no reply of the old master within the last ping period (S17).

        A master that restarted without data that another server holds may answer. So may one whose data another server
        held as far as this Sentinel knows: replicas may have copied the loss since they last reported.
        """
        if master.crash.confirmed_at is not None:
            # The invariant "crash" is about that.
            return
        old, now = master.address.ip, self._records.now
        if record.saw_replica.get(old, NEVER) > record.saw_master.get(old, NEVER):
            return
        if self._data.is_missing_at(old) or self._data.was_missing_to(record, master):
            return
        period = min(master.options.down_after, record.sentinel.alive.core.timings.ping_period) / 1000
        silence = now - record.saw_pong.get(old, NEVER)
        what = f"{record.sentinel.name} promotes in place of {master.name} at {old}, which answered {silence:.3f} s ago"
        self._expect(silence >= period, "S17", what)


def _text(word: Word) -> str:
    return word.decode() if isinstance(word, bytes) else str(word)


def _has_replica(master: Master, ip: str) -> bool:
    return any(replica.address.ip == ip for replica in master.replicas.values())
