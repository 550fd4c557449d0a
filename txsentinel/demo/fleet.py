"""One master, its replicas and the Sentinels over them: a complete installation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from txsentinel.demo.blocking import MAX_WAIT_SECONDS, Reply, ReplyError, pairs, wait_for
from txsentinel.demo.processes import Harness, RedisProcess, SentinelProcess, free_port, quoted


class Fleet:
    """
    Servers and Sentinels of a :class:`Harness`, all monitoring one master.

    The servers' roles change with each failover; :attr:`servers` has them by port.
    """

    def __init__(
        self,
        harness: Harness,
        sentinel_kinds: Sequence[str],
        server_kind: str = "redis",
        replicas: int = 2,
        quorum: int | None = None,
        down_after: int = 1000,
        failover_timeout: int = 60_000,
        name: str = "mymaster",
        password: str | None = None,
        sentinel_password: str | None = None,
        extra: Sequence[str] = (),
        http: bool = False,
    ) -> None:
        """
        Create the processes without starting them.

        :param sentinel_kinds: one word per Sentinel.
        :param quorum: a majority if not given.
        :param down_after: milliseconds, as is ``failover_timeout``.
        :param password: of the servers; the Sentinels know it. ``sentinel_password`` is theirs.
        :param extra: further lines for the Sentinels' configurations.
        :param http: whether the Sentinels, which are all ours then, have a page.
        """
        self.name = name
        master = harness.redis(server_kind, password=password)
        self._first_master = master
        self.servers: dict[int, RedisProcess] = {master.port: master}
        for _ in range(replicas):
            replica = harness.redis(server_kind, replica_of=master.port, password=password)
            self.servers[replica.port] = replica
        quorum = len(sentinel_kinds) // 2 + 1 if quorum is None else quorum
        monitor = [(name, "127.0.0.1", master.port, quorum)]
        auth = [] if password is None else [f"sentinel auth-pass {name} {quoted(password)}"]
        self.sentinels: list[SentinelProcess] = [
            harness.sentinel(
                kind,
                monitor=monitor,
                down_after=down_after,
                failover_timeout=failover_timeout,
                password=sentinel_password,
                extra=[*auth, *extra],
            )
            for kind in sentinel_kinds
        ]
        self.pages: list[str] = []
        """The addresses of their pages, in the same order."""

        for sentinel in self.sentinels if http else ():
            port = free_port()
            sentinel.arguments += ["--extension", f"http:tcp:{port}"]
            self.pages.append(f"http://127.0.0.1:{port}/")

    @property
    def ports(self) -> dict[str, int]:
        """Port of every Sentinel by its name."""
        return {sentinel.name: sentinel.port for sentinel in self.sentinels}

    def start(self, seconds: float = MAX_WAIT_SECONDS) -> None:
        """
        Start the servers, then the Sentinels, and wait until all know each other and nothing is down.

        :raises DeadlineExpired: if a step of that takes longer than ``seconds``.
        """
        for server in self.servers.values():
            server.start(ready=False)
        for server in self.servers.values():
            server.wait_ready(seconds)
        self.start_sentinels(seconds)

    def start_sentinels(self, seconds: float = MAX_WAIT_SECONDS) -> None:
        """
        Start the Sentinels over servers that run, and wait until all know each other and nothing is down.

        :raises DeadlineExpired: if a step of that takes longer than ``seconds``.
        """
        # A Sentinel that asks the master before its replicas are connected asks again only after an INFO period.
        wait_for(self._replicated, seconds, "the replicas to be synchronized")
        for sentinel in self.sentinels:
            sentinel.start(ready=False)
        for sentinel in self.sentinels:
            sentinel.wait_ready(seconds)
        self.wait_quiet(seconds)

    def master_seen_by(self, sentinel: SentinelProcess) -> int | None:
        """Port of the master as this Sentinel answers it; ``None`` if it monitors no such name."""
        address = sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name, timeout=2.0)
        return int(str(address[1])) if isinstance(address, list) else None

    def master_port(self) -> int:
        """
        Port of the master on which all Sentinels agree.

        :raises ReplyError: if they do not.
        """
        seen = {sentinel.name: self.master_seen_by(sentinel) for sentinel in self.sentinels if sentinel.running}
        ports = set(seen.values())
        if len(ports) != 1 or None in ports:
            raise ReplyError(f"no agreement: {seen}")
        return next(port for port in ports if port is not None)

    def master(self) -> RedisProcess:
        """The server on which all Sentinels agree as the master; errors as :meth:`master_port`."""
        return self.servers[self.master_port()]

    def config_epochs(self) -> dict[str, int]:
        """The config epoch that each running Sentinel holds, by its name."""
        return {
            sentinel.name: int(self._master_fields(sentinel)["config-epoch"])
            for sentinel in self.sentinels
            if sentinel.running
        }

    def quiet_problems(self) -> list[str]:
        """List what keeps the installation from being stable; empty if nothing does."""
        try:
            master = self.master_port()
        except (OSError, ReplyError) as problem:
            return [str(problem)]
        problems = self.agreement_problems([server for server in self.servers.values() if server.running])
        for sentinel in self.sentinels:
            problems += self._sentinel_problems(sentinel, master)
        return problems

    def agreement_problems(self, servers: Sequence[RedisProcess]) -> list[str]:
        """
        List where the running Sentinels differ about master or config epoch, and which of ``servers`` do not comply.

        Flags are ignored, so this list is empty soon after a failover, while the old master is still down.
        """
        try:
            master = self.master_port()
            problems = [problem for server in servers for problem in self._server_problems(server, master)]
            epochs = self.config_epochs()
        except (OSError, ReplyError) as problem:
            return [str(problem)]
        if len(set(epochs.values())) > 1:
            problems.append(f"config epochs differ: {epochs}")
        return problems

    def wait_quiet(self, seconds: float = MAX_WAIT_SECONDS, every: float = 0.1) -> int:
        """
        Wait until all agree: one master, all replicas synchronized, no instance down, every link up.

        :returns: port of the master.
        :raises DeadlineExpired: after ``seconds``; the text lists what is missing.
        """

        def quiet() -> bool:
            problems = self.quiet_problems()
            if problems:
                raise ReplyError("; ".join(problems))
            return True

        wait_for(quiet, seconds, "a quiet fleet", every)
        return self.master_port()

    def set_info_period(self, milliseconds: int) -> None:
        """
        Set how often the Sentinels send INFO to healthy servers; a shorter period makes changes visible sooner.

        Sentinels before Redis 7.0 have no ``SENTINEL DEBUG`` and keep their ten seconds.
        """
        for sentinel in self.sentinels:
            if sentinel.running and sentinel.kind != "redis-6.2":
                sentinel.call("SENTINEL", "DEBUG", "INFO-PERIOD", milliseconds)

    def revive(self, server: RedisProcess) -> None:
        """Restart a dead server as a replica of the present master."""
        server.replica_of = self.master_port()
        server.start()

    def _replicated(self) -> bool:
        return not any(
            problem
            for server in self.servers.values()
            for problem in self._server_problems(server, self._first_master.port)
        )

    def _server_problems(self, server: RedisProcess, master: int) -> Iterable[str]:
        fields = server.replication()
        if server.port == master:
            if fields["role"] != "master":
                yield f"{server.name} should be the master but is {fields['role']}"
            return
        if fields["role"] != "slave" or fields["master_port"] != str(master):
            yield f"{server.name} does not follow {master}: {fields['role']} of {fields.get('master_port')}"
        elif fields["master_link_status"] != "up":
            yield f"{server.name} is not synchronized"

    def _sentinel_problems(self, sentinel: SentinelProcess, master: int) -> Iterable[str]:
        if not sentinel.running:
            yield f"{sentinel.name} does not run"
            return
        fields = self._master_fields(sentinel)
        if fields["flags"] != "master":
            yield f"{sentinel.name} flags the master {fields['flags']}"
        peers = self._list(sentinel, "SENTINELS")
        if len(peers) != len(self.sentinels) - 1:
            yield f"{sentinel.name} knows {len(peers)} peers"
        # Valkey 9.1 keeps the flag of a peer that once reported the master down, so it does not describe the present.
        odd_peers = [peer["flags"] for peer in peers if {"s_down", "disconnected"} & set(peer["flags"].split(","))]
        yield from (f"{sentinel.name} flags a peer {flags}" for flags in odd_peers)
        replicas = self._list(sentinel, "REPLICAS")
        expected = {str(port) for port in self.servers if port != master}
        if {replica["port"] for replica in replicas} != expected:
            yield f"{sentinel.name} knows {len(replicas)} replicas"
        for replica in replicas:
            if replica["flags"] != "slave" or replica["master-link-status"] != "ok":
                yield f"{sentinel.name} on {replica['name']}: {replica['flags']} {replica['master-link-status']}"
            elif replica["master-port"] != str(master):
                yield f"{sentinel.name} thinks {replica['name']} follows {replica['master-port']}"

    def _master_fields(self, sentinel: SentinelProcess) -> dict[str, str]:
        return pairs(sentinel.call("SENTINEL", "MASTER", self.name, timeout=2.0))

    def _list(self, sentinel: SentinelProcess, what: str) -> list[dict[str, str]]:
        reply: Reply = sentinel.call("SENTINEL", what, self.name, timeout=2.0)
        if not isinstance(reply, list):
            raise ReplyError(f"{sentinel.name} answered {reply!r}")
        return [pairs(entry) for entry in reply]
