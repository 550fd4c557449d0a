"""Tests of ``txsentinel.wire.info``."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.wire.info import DataSetReport, InfoReport, parse_info

RUN_ID = "89abcdef0123456789abcdef0123456789abcdef"
REPLID = "e" * 40

MASTER = f"""# Server\r
redis_version:7.0.15\r
run_id:{RUN_ID}\r
tcp_port:6379\r
\r
# Replication\r
role:master\r
connected_slaves:2\r
slave0:ip=127.0.0.1,port=6380,state=online,offset=14,lag=1\r
slave1:ip=::1,port=6381,state=wait_bgsave,offset=0,lag=0\r
master_failover_state:no-failover\r
master_replid:{REPLID}\r
master_replid2:{RUN_ID}\r
master_repl_offset:14\r
second_repl_offset:9\r
slave_repl_offset:99\r
\r
# Keyspace\r
db0:keys=5,expires=2,avg_ttl=0\r
db12:keys=1000,expires=0,avg_ttl=0,keys_with_volatile_items=0\r
""".encode()

REPLICA = f"""# Server\r
run_id:{RUN_ID}\r
# Replication\r
role:slave\r
master_host:redis-a.example\r
master_port:6379\r
master_link_status:down\r
master_last_io_seconds_ago:-1\r
master_sync_in_progress:0\r
slave_read_repl_offset:2\r
slave_repl_offset:1234\r
master_link_down_since_seconds:7\r
slave_priority:25\r
slave_read_only:1\r
replica_announced:0\r
connected_slaves:0\r
master_failover_state:waiting-for-sync\r
""".encode()

WORDS = (
    b"role:slave",
    b"role:master",
    b"run_id:",
    b"slave0:",
    b"ip=",
    b"port=",
    b"master_port:",
    b"slave_priority:",
    b"master_link_down_since_seconds:-",
    b"9" * 30,
    b"\n",
    b"\r\n",
    b",",
    b"\x00",
    b"\xff",
)


class InfoTests(SynchronousTestCase):
    """The required fields are found in the INFO of any server."""

    def test_master(self) -> None:
        """INFO of a master has role, run ID and replicas; lines of replicas are skipped."""
        self.assertEqual(
            parse_info(MASTER),
            InfoReport(
                run_id=RUN_ID,
                role="master",
                replicas=(("127.0.0.1", 6380), ("::1", 6381)),
                failover_running=False,
                major_version=7,
                least_lag=1,
                data_set=DataSetReport(REPLID, RUN_ID, 14, 9, 1005, 2, False),
            ),
        )

    def test_acknowledgements(self) -> None:
        """The lag is that of the replica that acknowledged last; before a replica is online it is always 0."""
        line = "slave{}:ip=10.0.0.2,port=6379,state={},offset=9,lag={},type=replica\r\n"
        for lags, expected in (
            ([("online", 7), ("online", 3), ("send_bulk", 0)], 3),
            ([("wait_bgsave", 0)], None),
            ([("online", "")], None),
            ([], None),
        ):
            lines = "".join(line.format(number, *lag) for number, lag in enumerate(lags))
            self.assertEqual(parse_info(lines.encode()).least_lag, expected, lags)

    def test_changes(self) -> None:
        """The number of changes, the append-only file and writability belong to the report on the data set."""
        lines = ("slave_read_only:0", "aof_enabled:1", "rdb_changes_since_last_save:12", f"master_replid:{REPLID}", "")
        report = parse_info("\r\n".join(lines).encode()).data_set
        assert report is not None
        self.assertEqual((report.changes, report.append_only, report.read_only), (12, True, False))

    def test_data_set_without_keys(self) -> None:
        """A server without keys has an empty section; if the section is missing, the number is unknown."""
        text = f"master_replid:{REPLID}\r\nmaster_replid2:{'0' * 40}\r\nloading:1\r\n".encode()
        self.assertEqual(parse_info(text).data_set, DataSetReport(REPLID, None, 0, -1, None, 0, True))
        self.assertEqual(
            parse_info(text + b"\r\n# Keyspace\r\n").data_set, DataSetReport(REPLID, None, 0, -1, 0, 0, True)
        )

    def test_data_set_of_an_old_server(self) -> None:
        """A server that reports no replication ID, or a malformed one, has no data set that could be judged."""
        for text in (b"role:master\r\n# Keyspace\r\ndb0:keys=1,expires=0\r\n", b"master_replid:abc\r\n"):
            self.assertIsNone(parse_info(text).data_set)

    def test_replica(self) -> None:
        """INFO of a replica has its master and the state of replication."""
        self.assertEqual(
            parse_info(REPLICA),
            InfoReport(
                run_id=RUN_ID,
                role="slave",
                master_link_down_for=7000,
                master_host="redis-a.example",
                master_port=6379,
                master_link_up=False,
                priority=25,
                repl_offset=1234,
                announced=False,
                failover_running=True,
            ),
        )

    def test_two_channels(self) -> None:
        """The second connection of a replica that synchronizes over two channels is not another replica."""
        report = parse_info(
            b"role:master\r\n"
            b"slave0:ip=10.0.0.2,port=6379,state=wait_bgsave,offset=0,lag=0,type=rdb-channel\r\n"
            b"slave1:ip=10.0.0.2,port=6380,state=bg_transfer,offset=0,lag=0,type=main-channel\r\n"
            b"slave2:ip=10.0.0.3,port=6381,state=online,offset=9,lag=0,type=replica\r\n"
        )
        self.assertEqual(report.replicas, (("10.0.0.2", 6380), ("10.0.0.3", 6381)))

    def test_nothing(self) -> None:
        """A text without known lines has no fields; the time since the loss of the link is zero."""
        self.assertEqual(parse_info(b""), InfoReport())
        self.assertEqual(parse_info(b"# Sentinel\r\nmaster0:name=m,status=ok\r\n").role, None)

    def test_bare_line_feeds(self) -> None:
        """A text without carriage returns is parsed all the same."""
        for text in (MASTER, REPLICA):
            self.assertEqual(parse_info(text.replace(b"\r", b"")), parse_info(text))

    def test_first_and_last_line(self) -> None:
        """The first line needs no line end before it, the last one none after it."""
        self.assertEqual(parse_info(b"role:slave").role, "slave")
        self.assertEqual(parse_info(b"role:slave\r\nslave_priority:0").priority, 0)

    def test_order_matters(self) -> None:
        """Fields of a replica before ``role:slave`` are ignored."""
        report = parse_info(b"master_host:h\r\nslave_priority:3\r\nrole:slave\r\nmaster_port:1\r\n")
        self.assertEqual((report.master_host, report.priority, report.master_port), (None, None, 1))

    def test_prefixes_at_line_starts_only(self) -> None:
        """Field names count at the start of a line only."""
        report = parse_info(b"x_role:master\r\nxslave0:ip=a,port=1,\r\n run_id:" + RUN_ID.encode() + b"\r\n")
        self.assertEqual(report, InfoReport())

    def test_unknown_role(self) -> None:
        """Any other role is ignored."""
        self.assertIsNone(parse_info(b"role:sentinel\r\n").role)

    def test_run_id_length(self) -> None:
        """A run ID has forty characters; a shorter one is ignored, a longer one is cut."""
        self.assertIsNone(parse_info(b"run_id:" + b"a" * 39).run_id)
        self.assertEqual(parse_info(b"run_id:" + b"a" * 41).run_id, "a" * 40)

    def test_old_replica_lines(self) -> None:
        """Servers before 2.8 write host and port without names."""
        self.assertEqual(
            parse_info(b"slave0:10.0.0.1,6380,online\r\nslave10:h,6381,online\r\n").replicas,
            (("10.0.0.1", 6380), ("h", 6381)),
        )

    def test_unusable_replica_lines(self) -> None:
        """A replica without a host or with an invalid port is skipped."""
        for line in (b"ip=,port=1,", b"ip=h", b"ip=h,port=0,", b"ip=h,port=65536,", b"ip=h,port=x,", b"h", b"", b",1,"):
            self.assertEqual(parse_info(b"slave0:" + line + b"\r\n").replicas, (), line)

    def test_lenient_numbers(self) -> None:
        """Numbers end at their last digit; a link that never was up is −1 second down."""
        report = parse_info(
            b"role:slave\r\nslave_priority:12abc\r\nmaster_link_down_since_seconds:-1\r\nmaster_port:\r\n"
        )
        self.assertEqual((report.priority, report.master_link_down_for, report.master_port), (12, -1000, 0))

    def test_offset_without_data(self) -> None:
        """An offset of −1 is lower than any other, not higher."""
        self.assertEqual(parse_info(b"role:slave\r\nslave_repl_offset:-1\r\n").repl_offset, -1)

    def test_link_status(self) -> None:
        """Only ``up`` means up."""
        for word, up in ((b"up", True), (b"UP", True), (b"down", False), (b"", False), (b"upper", False)):
            self.assertEqual(parse_info(b"role:slave\r\nmaster_link_status:" + word + b"\r\n").master_link_up, up, word)

    @given(st.binary() | st.lists(st.sampled_from(WORDS)).map(b"".join))
    def test_never_raises(self, raw: bytes) -> None:
        """Any bytes result in a report."""
        self.assertIsInstance(parse_info(raw), InfoReport)
