"""Tests of the extension ``nng``: settings, messages, and sockets in memory."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynng
from twisted.logger import LogEvent, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.fixture import OWN_ID, FakeView, three_masters
from tests.extensions.outward.harness import ImmediateReactor
from tests.log_events import observe_log
from tests.servers import free_port
from tests.tls.authority import Authority
from txsentinel.extensions.building import ExtensionContext
from txsentinel.extensions.nng.responder import answer, encode_answer
from txsentinel.extensions.nng.service import RETRY_SECONDS, NngService, make_service
from txsentinel.extensions.nng.settings import NngSettings, read_settings
from txsentinel.model.extension_settings import ExtensionSetting, SettingError

TIMEOUT_MS = 60_000


class SettingTests(SynchronousTestCase):
    """What may be set."""

    def test_argument_and_lines(self) -> None:
        """Both add addresses."""
        line = ExtensionSetting("respond", ("tcp://[::1]:8029",))
        settings = read_settings("pub=tcp://127.0.0.1:8028;pub=ipc:///run/txsentinel/pub", [line])
        self.assertEqual(settings.pub, ("tcp://127.0.0.1:8028", "ipc:///run/txsentinel/pub"))
        self.assertEqual(settings.respond, ("tcp://[::1]:8029",))

    def test_refusals(self) -> None:
        """What is wrong or open to all is refused, with the reason."""
        for argument, reason in (
            ("", "an address is needed"),
            ("tcp://127.0.0.1:8028", "expected name=value"),
            ("sub=tcp://127.0.0.1:8028", "unknown setting 'sub'"),
            ("pub=udp://127.0.0.1:8028", "must be tcp://"),
            ("pub=tcp://127.0.0.1:80280", "above 65535"),
            ("pub=tcp://0.0.0.0:8028", "no login"),
            ("pub=tcp://*:8028", "no login"),
            ("pub=tcp://127.0.0.1:8028;insecure=perhaps", "yes or no"),
            ("pub=tls+tcp://127.0.0.1:8028", "needs tls-certificate"),
            ("pub=tls+tcp://127.0.0.1:8028;tls-certificate=/nowhere", "No such file"),
        ):
            error = self.assertRaises(ValueError, read_settings, argument, [])
            self.assertIn(reason, str(error))
        self.assertEqual(len(read_settings("pub=tcp://0.0.0.0:8028;insecure=yes", []).pub), 1)

    def test_place(self) -> None:
        """A wrong line is named."""
        line = ExtensionSetting("pub", ("here", "there"), "/etc/ext, line 7")
        error = self.assertRaises(SettingError, read_settings, "", [line])
        self.assertTrue(str(error).startswith("/etc/ext, line 7: pub needs one value"))

    def test_unusable_certificate(self) -> None:
        """A file that is no certificate is refused at the start."""
        path = Path(self.mktemp())
        path.write_text("no certificate")
        argument = f"pub=tls+tcp://127.0.0.1:8028;tls-certificate={path}"
        context = ExtensionContext(None, None, argument, None, (), None)  # type: ignore[arg-type]
        error = self.assertRaises(ValueError, make_service, context)
        self.assertIn("cannot be used", str(error))


class AnswerTests(SynchronousTestCase):
    """Answers to surveys."""

    def test_one_master(self) -> None:
        """The text is the name of a master; the zero byte of a C program is ignored."""
        expected = {
            "sentinel": OWN_ID,
            "tilt": False,
            "master": "mymaster",
            "status": "ok",
            "address": "10.0.0.1:6379",
            "config_epoch": 7,
        }
        for survey in (b"mymaster", b"mymaster\0", b"mymaster\n"):
            self.assertEqual(answer(three_masters(), survey), expected)

    def test_all_masters(self) -> None:
        """A star asks for all."""
        reply = answer(three_masters(), b"*")
        masters: Any = reply["masters"]
        self.assertEqual([each["status"] for each in masters], ["ok", "odown", "sdown"])

    def test_unknown_master(self) -> None:
        """That a Sentinel does not know a name is an answer, too; any bytes are accepted."""
        for survey in (b"sessions2", b"", b"\xff\xfe"):
            reply = answer(three_masters(), survey)
            self.assertEqual((reply["status"], reply["address"]), ("unknown", None))
            self.assertIn("unknown", json.loads(encode_answer(reply))["status"])


class SocketTests(SynchronousTestCase):
    """Sockets in memory."""

    def setUp(self) -> None:
        self.reactor = ImmediateReactor()
        self.view: FakeView = three_masters()
        self.lines: list[str] = []
        observe_log(self, self.record)

    def record(self, event: LogEvent) -> None:
        """Keep the text of a log line."""
        self.lines.append(formatEvent(event))

    def start(self, settings: NngSettings) -> NngService:
        """Start a service."""
        service = NngService(self.reactor, self.view, settings)
        service.startService()
        self.addCleanup(self.stop, service)
        return service

    def stop(self, service: NngService) -> None:
        """Stop a service that runs."""
        if service.running:
            service.stopService()

    def connect(self, socket: Any, address: str) -> Any:
        """Connect a socket of a client."""
        self.addCleanup(socket.close)
        socket.dial(address, block=True)
        return socket

    def until(self, attempt: Callable[[], Any]) -> Any:
        """Return what an attempt returns; it is made again while nothing has arrived."""
        for _ in range(50):
            try:
                return attempt()
            except pynng.Timeout:
                continue
        raise AssertionError("nothing has arrived")

    def test_subscriber(self) -> None:
        """A subscriber gets the events whose channel begins with its topic, with name and JSON after it."""
        service = self.start(NngSettings(pub=("inproc://events",)))
        subscriber = self.connect(pynng.Sub0(topics=[b"+switch"], recv_timeout=100), "inproc://events")

        def receive() -> bytes:
            # The connection may not be complete yet.
            self.view.publish("+sdown", "master mymaster 10.0.0.9 6379", "mymaster")
            self.view.publish("+switch-master", "mymaster 10.0.0.9 6379 10.0.0.1 6379", "mymaster")
            received: bytes = subscriber.recv()
            return received

        channel, name, document = self.until(receive).split(b" ", 2)
        self.assertEqual((channel, name), (b"+switch-master", b"mymaster"))
        self.assertEqual((json.loads(document)["to"], json.loads(document)["config_epoch"]), ("10.0.0.1:6379", 7))
        service.stopService()
        self.assertEqual(self.view.event_subscribers, [])

    def test_nobody_subscribed(self) -> None:
        """Without a subscriber events are discarded, and nothing blocks."""
        self.start(NngSettings(pub=("inproc://none",)))
        for _ in range(1_000):
            self.view.publish("+tilt", "#tilt mode entered")
        self.assertEqual([line for line in self.lines if "cannot" in line], [])

    def test_surveys(self) -> None:
        """One surveyor gets the answers of two Sentinels; a second survey works, too."""
        for number in range(2):
            self.start(NngSettings(respond=(f"inproc://ask-{number}",)))
        surveyor = pynng.Surveyor0(survey_time=TIMEOUT_MS)
        self.connect(surveyor, "inproc://ask-0").dial("inproc://ask-1", block=True)
        for name in (b"mymaster", b"*"):
            surveyor.send(name)
            answers = [json.loads(surveyor.recv()) for _ in range(2)]
            self.assertEqual([each["sentinel"] for each in answers], [OWN_ID] * 2)

    def test_address_in_use(self) -> None:
        """An address in use is tried again, with one line in the log."""
        other = pynng.Pub0(listen="inproc://busy")
        service = self.start(NngSettings(pub=("inproc://busy",)))
        self.reactor.pump([RETRY_SECONDS] * 2)
        self.assertEqual(len([line for line in self.lines if "cannot listen" in line]), 1)
        other.close()
        self.reactor.advance(RETRY_SECONDS)
        self.assertIn("listening", self.lines[-1])
        service.stopService()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_certificates(self) -> None:
        """With authorities only clients with a certificate of theirs get an answer."""
        authority = Authority(Path(self.mktemp()))
        server, client = authority.issue("server"), authority.issue("client")
        both = authority.directory / "both.pem"
        both.write_bytes(server.certificate.read_bytes() + server.key.read_bytes())
        address = f"tls+tcp://127.0.0.1:{free_port()}"
        ca = authority.certificate.read_text()
        settings = f"respond={address};tls-certificate={both};tls-authorities={authority.certificate}"
        self.start(read_settings(settings, []))
        tls = pynng.TLSConfig(
            pynng.TLSConfig.MODE_CLIENT,
            server_name="localhost",
            ca_string=ca,
            own_key_string=client.key.read_text(),
            own_cert_string=client.certificate.read_text(),
        )
        surveyor = self.connect(pynng.Surveyor0(survey_time=TIMEOUT_MS, tls_config=tls), address)
        surveyor.send(b"mymaster")
        self.assertEqual(json.loads(surveyor.recv())["address"], "10.0.0.1:6379")
        foreigner = pynng.Surveyor0(
            survey_time=100,
            tls_config=pynng.TLSConfig(pynng.TLSConfig.MODE_CLIENT, server_name="localhost", ca_string=ca),
        )
        self.addCleanup(foreigner.close)
        with contextlib.suppress(pynng.NNGException):  # Whether this fails depends on who is faster.
            foreigner.dial(address, block=True)
        foreigner.send(b"mymaster")
        self.assertRaises(pynng.Timeout, foreigner.recv)
