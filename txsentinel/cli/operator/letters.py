"""``txsentinel webhooks``: the notifications that the extension ``webhooks`` has given up, on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from txsentinel.cli.operator.statuses import OK, UNKNOWN, VerbFailed
from txsentinel.cli.operator.visible import plural, visible
from txsentinel.extensions.webhooks.dead_letters import FILE_NAME, RETRY_NAME, DeadLetter, read_letters

SUBDIRECTORY = "webhooks"
"""That of the extension in the state directory."""

state_directory = click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))


@click.group("webhooks")
def webhooks_verb() -> None:
    """
    Show, or send again, notifications that were given up.

    DIRECTORY is the state directory of a Sentinel on this machine, such as /etc/redis/sentinel.conf.d.
    """


@webhooks_verb.command("list")
@state_directory
def list_verb(directory: Path) -> int:
    """Print the notifications, oldest first."""
    letters, bad = _letters(directory)
    for letter in letters:
        sent = letter.notification
        words = [sent.at.rfc3339(), letter.target, sent.kind, sent.master or "-", f"({letter.reason})"]
        sys.stdout.write(visible("  ".join(words)) + "\n")
    if bad:
        sys.stderr.write(f"{plural(bad, 'line')} of {FILE_NAME} cannot be read\n")
    return OK


@webhooks_verb.command("retry")
@state_directory
def retry_verb(directory: Path) -> int:
    """Have the running Sentinel send all of them again, within some seconds."""
    letters, _ = _letters(directory)
    path, retry = (directory / SUBDIRECTORY / name for name in (FILE_NAME, RETRY_NAME))
    if not letters:
        sys.stdout.write("nothing was given up\n")
        return OK
    try:
        if retry.exists():
            raise VerbFailed(
                f"{retry} is not taken yet: no Sentinel with the extension webhooks runs with this directory", UNKNOWN
            )
        path.rename(retry)
    except OSError as error:
        raise VerbFailed(f"{path} cannot be renamed: {error.strerror}", UNKNOWN) from None
    sys.stdout.write(f"{plural(len(letters), 'notification')} will be sent again\n")
    return OK


def _letters(directory: Path) -> tuple[list[DeadLetter], int]:
    """
    Return the letters, and how many lines are none.

    :raises VerbFailed: if the file cannot be read.
    """
    path = directory / SUBDIRECTORY / FILE_NAME
    try:
        return read_letters(path.read_bytes().splitlines())
    except (FileNotFoundError, NotADirectoryError):
        return [], 0
    except OSError as error:
        raise VerbFailed(f"{path} cannot be read: {error.strerror}", UNKNOWN) from None
