"""
The console script ``txsentinel``, with the command line of ``redis-sentinel``.

``txsentinel sentinel.conf --port 26380`` runs the service in the foreground, as ``twistd -n --pidfile= sentinel`` does.
``txsentinel check`` validates a configuration without running it, ``txsentinel whatif`` simulates one. The verbs for
operators are in ``cli.operator``.
"""

# mypy: untyped-calls-exclude=twisted

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from txsentinel import __version__
from txsentinel.cli.imports import few_modules

USAGE: Final = """\
Usage: txsentinel [options] FILE [--directive value ...]
       txsentinel check [options] FILE [--directive value ...]
       txsentinel config export --for-c FILE
       txsentinel whatif FILE --FAULT TARGETS ...
       txsentinel VERB [options] ...
       txsentinel --version | --help

Monitors Redis and Valkey masters and fails over to their replicas, in place of redis-sentinel and along with it.

  FILE     the sentinel.conf to start from and to save the state in; directives that follow overrule it, and a final
           '-' reads more of them from standard input
  check    validate FILE and print what would run; nothing is started, contacted or written
  export   print FILE with the secrets that it refers to, for C Sentinels
  whatif   simulate faults of the installation that FILE describes; 'txsentinel whatif --help' lists them
  VERB     read or operate Sentinels of any kind that run elsewhere; 'txsentinel VERB --help' has the details:
{verbs}

Options:
  --extension NAME[:ARGUMENT]   run an installed extension beside the Sentinel; may be repeated
  --extensions FILE             run the extensions that FILE has settings of, one a line: NAME SETTING VALUE ...
  --state-dir DIRECTORY         where extensions keep their files, by default FILE.d
  --tls-verify-hostnames        with tls-replication: require certificates to name the host or IP connected to

The process stays in the foreground; 'twistd sentinel FILE' runs the same service as a daemon.
"""

VERBS: Final = (
    "completion",
    "diff",
    "doctor",
    "drain",
    "explain",
    "failover",
    "forget",
    "history",
    "list",
    "master",
    "pause",
    "paused",
    "proxy",
    "replicas",
    "restore",
    "resume",
    "run",
    "serve-metrics",
    "set",
    "shadow",
    "switchover",
    "topology",
    "version",
    "watch",
    "webhooks",
)
"""The verbs for operators, which need the packages of the extra ``cli``."""

INDENT: Final = " " * 11

NO_CLI: Final = (
    "txsentinel {}: {} is not installed; the verbs for operators need the extra: pip install 'txsentinel[cli]'"
)

COMPLETION_VARIABLE: Final = "_TXSENTINEL_COMPLETE"
"""Set by the completion scripts of shells."""

HINT: Final = "'txsentinel --help' shows the usage; directives follow FILE."


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """
    Run the console script.

    :param arguments: the words after the program name; ``None`` for those of the process.
    :raises SystemExit: always: with the exit status, or with a text for standard error, which is status 1.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if COMPLETION_VARIABLE in os.environ:
        run_verb(words)
    if not words:
        raise SystemExit(usage().rstrip())
    first, rest = words[0], words[1:]
    # A configuration file of such a name can still be given as ./check or ./list.
    if first in VERBS:
        run_verb(words)
    if words[:2] == ["config", "check"]:
        first, rest = "check", words[2:]
    if words[:2] == ["config", "export"]:
        run_export(words[2:])
    if first == "whatif":
        run_simulation(rest)
    if first == "check":
        first = rest[0] if rest else ""
        if first not in ("--help", "-h", "--version", "-v"):
            run_check(rest)
    if first in ("--help", "-h"):
        sys.stdout.write(usage())
        raise SystemExit(0)
    if first in ("--version", "-v"):
        # Loads much of the service, which the verbs do not need.
        from txsentinel.server.process_info import build_kind

        sys.stdout.write(f"txsentinel {__version__} ({build_kind()})\n")
        raise SystemExit(0)
    refuse_misspelled_verb(first)
    run_service(words)


def refuse_misspelled_verb(word: str) -> None:
    """
    Refuse a word that resembles a verb if there is no such file.

    :raises SystemExit: with the verb that may be meant.
    """
    if word.isalpha() and not os.path.lexists(word):
        from difflib import get_close_matches

        found = get_close_matches(word, [*VERBS, "check", "whatif"], 1)
        if found:
            raise SystemExit(f"txsentinel: there is no verb and no file '{word}'; did you mean '{found[0]}'?\n{HINT}")


def usage() -> str:
    """Return the help text."""
    import textwrap

    return USAGE.format(verbs=textwrap.fill(", ".join(VERBS), 110, initial_indent=INDENT, subsequent_indent=INDENT))


def run_verb(words: Sequence[str]) -> NoReturn:
    """
    Run a verb for operators.

    :raises SystemExit: with its status, or with the name of the extra that is missing.
    """
    try:
        from txsentinel.cli.operator.command import run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("txsentinel"):
            raise
        raise SystemExit(NO_CLI.format(words[0] if words else "", error.name)) from None
    raise SystemExit(run(words))


def run_service(words: Sequence[str]) -> NoReturn:
    """
    Run the service in the foreground until it ends.

    :param words: options of ``twistd sentinel``, the configuration file and overriding directives.
    :raises SystemExit: with the exit status, or with the reason why it does not start.
    """
    # Not imported for the other commands. ``twistd.run`` would answer a mistake with the help text of twistd.
    with few_modules():
        from twisted.python.usage import UsageError
        from twisted.scripts import twistd

        from txsentinel.cli import tap  # noqa: F401
        from txsentinel.cli.server_options import SentinelServerOptions

    options = SentinelServerOptions()
    try:
        options.parseOptions(["--nodaemon", "--pidfile=", "sentinel", *words])
    except UsageError as error:
        raise SystemExit(f"txsentinel: {error}\n{HINT}") from None
    twistd.runApp(options)
    raise SystemExit(0)


def run_check(words: Sequence[str]) -> NoReturn:
    """
    Print what a configuration would run, or why it cannot.

    :param words: as for :func:`run_service`.
    :raises SystemExit: with status 0, or with the reason.
    """
    from twisted.python.usage import UsageError

    from txsentinel.cli.check import CheckOptions, check, describe_extensions
    from txsentinel.cli.operator.program import installed_reactor

    options: Any = CheckOptions()
    try:
        options.parseOptions(list(words))
    except UsageError as error:
        raise SystemExit(f"txsentinel check: {error}\n{HINT}") from None
    reactor = installed_reactor()
    lines = check(options.configuration, reactor)
    directory = options.state_directory(options.configuration.saved_path)
    lines += describe_extensions(options.extensions, options.configuration, directory, reactor)
    sys.stdout.write("\n".join(lines) + "\n")
    raise SystemExit(0)


def run_export(words: Sequence[str]) -> NoReturn:
    """
    Print a configuration with the secrets that it refers to.

    :param words: ``--for-c`` and the file.
    :raises SystemExit: with status 0, or with the reason why it cannot be exported.
    """
    from txsentinel.cli.check import UnchangedDisk
    from txsentinel.cli.export import USAGE as EXPORT_USAGE
    from txsentinel.cli.export import exported
    from txsentinel.cli.tap import read_configuration

    files = [word for word in words if word != "--for-c"]
    if len(files) != 1 or len(words) != 2 or files[0].startswith("-"):
        raise SystemExit(EXPORT_USAGE)
    contents = exported(read_configuration(files[0], (), disk=UnchangedDisk()))
    sys.stdout.write(contents.decode("utf-8", "surrogateescape"))
    raise SystemExit(0)


def run_simulation(words: Sequence[str]) -> NoReturn:
    """
    Simulate faults of a described installation; see ``docs/whatif.rst``.

    :raises SystemExit: with the status of the simulation.
    """
    # A Sentinel in production must not load the simulator.
    from txsentinel.sim.whatif.command import main as simulate

    raise SystemExit(simulate(list(words)))
