"""The TLS options of ``txsentinel proxy``, by a follower over servers in memory."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from tests.memorynet import MemoryNet, MemoryRedis, MemorySentinel, ServedConnection
from tests.tls.authority import Authority
from txsentinel.cli.operator.proxying import tls_creator
from txsentinel.cli.operator.statuses import VerbFailed
from txsentinel.client import FollowerStopped, MasterFollower
from txsentinel.remote.connection import TlsFiles


class TlsTests(SynchronousTestCase):
    """Which servers are accepted."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.authority = Authority(self.directory)
        self.issued = self.authority.issue("server", ip="127.0.0.1")
        self.files = TlsFiles(str(self.authority.certificate), str(self.issued.certificate), str(self.issued.key))

    def accepted(self, files: TlsFiles, ip: str = "127.0.0.1") -> bool:
        """Whether a follower finds its master, whose certificate is for an address."""
        net = MemoryNet()
        issued = self.authority.issue(f"server-{ip}", ip=ip, dns="other")
        text = issued.certificate.read_bytes() + issued.key.read_bytes()
        own = PrivateCertificate.loadPEM(text)
        for server in (MemoryRedis(net, 7001), MemorySentinel(net, 5001, mymaster=(7001, 1))):
            plain = Factory.forProtocol(partial(ServedConnection, server))
            options = CertificateOptions(privateKey=own.privateKey.original, certificate=own.original)
            net.listeners[server.port] = TLSMemoryBIOFactory(options, False, plain, clock=net).buildProtocol
        creator = tls_creator(files)
        follower = MasterFollower(net, [("127.0.0.1", 5001)], "mymaster", tls=creator, sentinel_tls=creator)
        follower.start().addErrback(lambda failure: failure.trap(FollowerStopped))
        net.run(1)
        found = follower.address is not None
        follower.stop()
        net.run(5)
        return found

    def test_authority(self) -> None:
        """A certificate of the given authority is accepted, and one of another authority is not."""
        other = Authority(self.directory / "other")
        self.assertTrue(self.accepted(self.files))
        self.assertFalse(self.accepted(replace(self.files, ca=str(other.certificate))))
        self.assertTrue(self.accepted(replace(self.files, ca=str(other.certificate), insecure=True)))

    def test_host(self) -> None:
        """The address in the certificate counts only with ``--tls-verify-hostname``."""
        self.assertTrue(self.accepted(self.files, "10.0.0.1"))
        self.assertFalse(self.accepted(replace(self.files, verify_hostname=True), "10.0.0.1"))
        self.assertTrue(self.accepted(replace(self.files, verify_hostname=True)))

    def test_files(self) -> None:
        """Files that cannot be used are named."""
        for files in (replace(self.files, ca="/nonexistent"), replace(self.files, certificate=self.files.ca, key=None)):
            self.assertIn("cannot use the TLS files", str(self.assertRaises(VerbFailed, tls_creator, files)))
