"""Expansion of ``proc-title-template``."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.config.errors import DirectiveError
from txsentinel.config.generic import GenericOptions, apply_generic
from txsentinel.config.process_title import expanded


class ExpandingTests(SynchronousTestCase):
    """Text with variables."""

    def test_variables(self) -> None:
        """Variables are replaced, other text is kept, spaces at the ends are removed."""
        variables = {"one": "1", "empty": "", "odd-name": "x y"}
        for template, text in (
            ("", ""),
            ("plain", "plain"),
            ("{one}{one} {odd-name}", "11 x y"),
            ("  a {empty} b {empty} ", "a  b"),
            ("{{one}", "{one}"),
            ("{{{one}}}", "{1}}"),
            ("a}b", "a}b"),
            ("a\nb\t", "a\nb\t"),
        ):
            self.assertEqual(expanded(template, variables), text, template)

    def test_invalid_templates(self) -> None:
        """Unknown variables and unclosed braces are refused."""
        for template in ("{two}", "{}", "{ one}", "{ONE}", "{one", "{", "{one}{", "{{{", "{o{one}"):
            with self.assertRaises(ValueError, msg=template):
                expanded(template, {"one": "1"})


class DirectiveTests(SynchronousTestCase):
    """``proc-title-template``."""

    def title(self, *lines: tuple[str, str]) -> str:
        """Return the title with these directives."""
        options = GenericOptions()
        for name, word in lines:
            apply_generic(options, name, [word])
        return options.process_title("program", "/etc/s.conf")

    def test_default(self) -> None:
        """The default has the program, the first address with the port, and the mode."""
        self.assertEqual(self.title(), "program *:26379 [sentinel]")
        self.assertEqual(self.title(("bind", "10.0.0.1 ::1"), ("port", "7")), "program 10.0.0.1:7 [sentinel]")
        self.assertEqual(self.title(("bind", "-::1"), ("port", "0"), ("tls-port", "8")), "program -::1:8 [sentinel]")
        self.assertEqual(self.title(("bind", "")), "program *:26379 [sentinel]")
        self.assertEqual(self.title(("port", "0"), ("unixsocket", "s.sock")), "program unixsocket:s.sock [sentinel]")

    def test_every_variable(self) -> None:
        """All variables of C Sentinels."""
        template = "{port}|{tls-port}|{unixsocket}|{config-file}|{server-mode}|{listen-addr}|{title}"
        self.assertEqual(
            self.title(("unixsocket", "/run/s"), ("proc-title-template", template)),
            "26379|0|/run/s|/etc/s.conf|[sentinel]|*:26379|program",
        )

    def test_refusals(self) -> None:
        """An invalid template, or one with an empty result, is refused, and the old one is kept."""
        options = GenericOptions()
        for template in ("{foo}", "{port", "", "  ", "{title}", "{unixsocket}"):
            with self.assertRaises(DirectiveError) as refused:
                apply_generic(options, "proc-title-template", [template])
            self.assertEqual(
                str(refused.exception), "template format is invalid or contains unknown variables", template
            )
        self.assertEqual(options.proc_title_template, GenericOptions().proc_title_template)
        apply_generic(options, "unixsocket", ["/run/s"])
        apply_generic(options, "proc-title-template", ["{unixsocket}"])
        self.assertEqual(options.process_title("program", ""), "/run/s")
