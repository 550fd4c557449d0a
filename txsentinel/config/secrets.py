"""
References to secrets that are kept outside of the configuration file.

A C Sentinel does not load a file with unknown directives, but keeps comments in their places. So a reference is a
comment: ``#: txsentinel secret auth-pass <master> <source>``, or ``#: txsentinel secret <directive> <source>`` for the
directives of the Sentinel itself. ``secret.next`` in place of ``secret`` names a second password, which is tried, or
accepted, while the passwords of servers and Sentinels are changed one after another.

A source is ``file:<absolute path>``, ``cred:<name>`` for a file in ``$CREDENTIALS_DIRECTORY``, where systemd puts the
credentials of a service, or ``env:<name>`` for an environment variable. One line end at the end of a file is removed.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from txsentinel.config.disk import Disk
from txsentinel.config.document import Line
from txsentinel.config.elsewhere import NOTE, Elsewhere
from txsentinel.config.errors import DirectiveError
from txsentinel.config.quoting import written
from txsentinel.core.options import MasterOptions

SECRET: Final = "secret"
NEXT_SECRET: Final = "secret.next"
"""The first words of references."""

OF_MASTERS: Final = "auth-pass"
"""The directive of a master whose value can be a reference."""

WITHOUT_NEXT: Final = ("tls-key-file-pass", "tls-client-key-file-pass")
"""Directives that have one value only."""

OWN: Final = ("sentinel-pass", "requirepass", *WITHOUT_NEXT)
"""The directives of the Sentinel itself whose values can be references."""

MAX_SECRET: Final = 4096
"""Maximum length of a secret in bytes."""

CREDENTIALS_DIRECTORY: Final = "CREDENTIALS_DIRECTORY"

SOURCES: Final = "file:<absolute path>, cred:<name of a systemd credential> or env:<environment variable>"

_VARIABLE: Final = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_CREDENTIAL: Final = re.compile(r"(?!\.{1,2}\Z)[^/\x00-\x1f\x7f:]{1,255}")


@dataclass(frozen=True, slots=True)
class SecretReference:
    """Where the value of one directive is read from."""

    directive: str
    master: str
    """The name of the master; empty for a directive of the Sentinel itself."""

    source: str
    upcoming: bool = False
    """Whether it is the second password."""

    @property
    def word(self) -> str:
        """The first word of the comment."""
        return NEXT_SECRET if self.upcoming else SECRET

    @property
    def subject(self) -> str:
        """The directive with the master, for texts."""
        return f"{self.directive} of master {self.master}" if self.master else self.directive

    @property
    def variable(self) -> str | None:
        """The environment variable that has the secret; ``None`` if the source is a file."""
        kind, _, name = self.source.partition(":")
        return name if kind == "env" else None

    def path(self, environment: Mapping[str, str]) -> str | None:
        """
        Return the absolute path of the file that has the secret; ``None`` if the source is an environment variable.

        :raises DirectiveError: for a credential of systemd, if systemd has provided none.
        """
        kind, _, name = self.source.partition(":")
        if kind == "env":
            return None
        if kind == "file":
            return name
        directory = environment.get(CREDENTIALS_DIRECTORY, "")
        if not directory:
            raise DirectiveError(
                f"{self.subject}: {self.source} cannot be read, as ${CREDENTIALS_DIRECTORY} is not set; does the unit"
                f" have LoadCredential={name}:<path>?"
            )
        return os.path.join(directory, name)


def is_reference(word: str) -> bool:
    """Whether a comment that begins with ``word`` is a reference."""
    return word.lower() in (SECRET, NEXT_SECRET)


def parse_reference(words: Sequence[str]) -> SecretReference:
    """
    Parse the words of a comment after ``txsentinel``.

    :raises DirectiveError: with what is wrong.
    """
    word, directive = words[0].lower(), words[1].lower() if len(words) > 1 else ""
    upcoming = word == NEXT_SECRET
    allowed = [OF_MASTERS, *(each for each in OWN if not (upcoming and each in WITHOUT_NEXT))]
    if directive not in allowed:
        raise DirectiveError(f"'{word}' must be followed by one of {', '.join(allowed)}")
    place = "a master and a source" if directive == OF_MASTERS else "a source"
    if len(words) != (4 if directive == OF_MASTERS else 3):
        raise DirectiveError(f"'{word} {directive}' must be followed by {place}, which is {SOURCES}")
    source = words[-1]
    kind, _, name = source.partition(":")
    valid = {
        "file": os.path.isabs(name),
        "cred": _CREDENTIAL.fullmatch(name) is not None,
        "env": _VARIABLE.fullmatch(name) is not None,
    }
    if not valid.get(kind, False):
        # What was written may be the secret itself, so it is not repeated here.
        raise DirectiveError(f"The source of {directive} is not {SOURCES}")
    return SecretReference(directive, words[2] if directive == OF_MASTERS else "", source, upcoming)


def secret_of(reference: SecretReference, contents: bytes) -> str:
    """
    Return the secret in the contents of a file or variable.

    :raises DirectiveError: if it is empty, too long or has a NUL byte.
    """
    for end in (b"\r\n", b"\n"):
        if contents.endswith(end):
            contents = contents[: -len(end)]
            break
    if not contents:
        raise DirectiveError(f"{reference.subject}: {reference.source} is empty")
    if len(contents) > MAX_SECRET:
        raise DirectiveError(f"{reference.subject}: {reference.source} has more than {MAX_SECRET} bytes")
    if b"\0" in contents:
        raise DirectiveError(f"{reference.subject}: {reference.source} has a NUL byte")
    return contents.decode("utf-8", "surrogateescape")


class SecretLoader:
    """
    Reads secrets.

    :param environment: the variables, with ``CREDENTIALS_DIRECTORY``. They are copied, so that they can be removed
        from the environment that scripts inherit.
    """

    def __init__(self, disk: Disk, environment: Mapping[str, str]) -> None:
        self._disk = disk
        self._environment = dict(environment)

    def read(self, reference: SecretReference) -> str:
        """
        Return a secret. Files are read at once, without waiting in a thread.

        :raises DirectiveError: with the directive and the source, if it cannot be read or is invalid.
        """
        path = reference.path(self._environment)
        if path is None:
            variable = reference.variable or ""
            if variable not in self._environment:
                raise DirectiveError(f"{reference.subject}: the environment variable {variable} is not set")
            return secret_of(reference, self._environment[variable].encode("utf-8", "surrogateescape"))
        try:
            contents = self._disk.read(path)
        except OSError as error:
            reason = error.strerror or str(error)
            raise DirectiveError(f"{reference.subject}: {reference.source} cannot be read: {reason}") from None
        return secret_of(reference, contents)

    def warning(self, reference: SecretReference) -> str | None:
        """Return a sentence if other users of the machine can read the secret."""
        path = reference.path(self._environment)
        if path is None or not self._disk.readable_by_others(path):
            return None
        return f"Every user of this machine can read {reference.source}, which has the {reference.subject}."


def refused_beside_reference(option: str, source: str) -> str:
    """Return the RESP error for a change by command of a value that is read from ``source``."""
    return f"ERR {option} is read from {source}. Change it there, and send SIGHUP to this process"


def secret_lines(master: str, options: MasterOptions, elsewhere: Elsewhere) -> list[Line]:
    """Return the comments with the references of a master, except those that other files have."""
    stated = elsewhere.master(master)
    lines = []
    for word, source in ((SECRET, options.auth_pass_source), (NEXT_SECRET, options.next_auth_pass_source)):
        if source and stated.get(word) != source:
            text = f"{NOTE}{word} {OF_MASTERS} {written(master)} {written(source)}"
            lines.append(Line(word, OF_MASTERS, text))
    return lines
