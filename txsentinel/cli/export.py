"""``txsentinel config export --for-c``: a configuration with all secrets in it, for C Sentinels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from txsentinel.cli.refusing import refuse
from txsentinel.config.configuration import Configuration
from txsentinel.config.disk import read_file
from txsentinel.config.elsewhere import NOTE
from txsentinel.config.quoting import decoded, encoded, in_quotes, split_line, written
from txsentinel.config.secrets import SECRET, SecretReference, parse_reference

USAGE: Final = "usage: txsentinel config export --for-c FILE"

NO_STATE_FILE: Final = (
    "{path} has the directive state-config-file, which C Sentinels do not know: add its settings to the state file, and"
    " export that."
)
INCLUDED: Final = "The reference to {source} is in a file that {path} includes: move it there."


def directive(reference: SecretReference, secret: str) -> str:
    """Return the directive that a reference stands for."""
    if reference.master:
        return f"sentinel {reference.directive} {written(reference.master)} {in_quotes(secret)}"
    prefix = "sentinel " if reference.directive == "sentinel-pass" else ""
    return f"{prefix}{reference.directive} {in_quotes(secret)}"


def export_for_c(contents: bytes, secrets: Mapping[SecretReference, str]) -> tuple[bytes, set[SecretReference]]:
    """
    Return the contents with a directive in place of each reference in use, and these references.

    All other comments stay, the second passwords among them: C Sentinels have one password for each purpose.
    """
    lines, replaced = contents.split(b"\n"), set()
    for position, line in enumerate(lines):
        note = line.strip(b" \t\r")
        if note.startswith(NOTE.encode()):
            words = [decoded(word) for word in split_line(note[len(NOTE) :]) or []]
            if words and words[0].lower() == SECRET:
                reference = parse_reference(words)
                if reference in secrets:
                    lines[position] = encoded(directive(reference, secrets[reference]))
                    replaced.add(reference)
    return b"\n".join(lines), replaced


def exported(configuration: Configuration) -> bytes:
    """
    Return the exported file of a configuration.

    :raises SystemExit: if it has a state file, or a reference in a file that it includes.
    """
    path = configuration.path
    if configuration.state_path is not None:
        refuse(NO_STATE_FILE.format(path=path))
    contents, replaced = export_for_c(read_file(path), configuration.secrets)
    for reference in configuration.secrets:
        if not reference.upcoming and reference not in replaced:
            refuse(INCLUDED.format(source=reference.source, path=path))
    return contents
