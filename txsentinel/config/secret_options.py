"""Which settings the secrets are, at the start and when they are read again."""

from __future__ import annotations

from collections.abc import Sequence

from txsentinel.config.errors import ConfigError, DirectiveError
from txsentinel.config.generic import GenericOptions
from txsentinel.config.secrets import SecretLoader, SecretReference, parse_reference
from txsentinel.config.statements import CommentStatement, ParsedState
from txsentinel.core.options import MasterOptions, SentinelOptions
from txsentinel.model.log_text import excerpt


def read_secrets(
    notes: Sequence[CommentStatement], state: ParsedState, generic: GenericOptions, reader: SecretLoader | None
) -> dict[SecretReference, str]:
    """
    Read what the references name, and set the options; return reference → secret.

    Of several references for one value the last one counts, and those of our own file count after those of others.
    Sentences about references without effect, and files that others can read, are added to the warnings of ``state``.

    :param reader: ``None`` to check the references only.
    :raises ConfigError: for the first reference that is invalid or cannot be read.
    """
    chosen: dict[tuple[str, str, bool], tuple[SecretReference, CommentStatement]] = {}
    for note in sorted(notes, key=lambda each: not each.included):
        try:
            reference = parse_reference(note.words)
        except DirectiveError as problem:
            raise _error(note, problem) from None
        chosen[reference.directive, reference.master, reference.upcoming] = reference, note
    secrets: dict[SecretReference, str] = {}
    # The current passwords first: a directive beside a reference becomes the second password.
    for reference, note in sorted(chosen.values(), key=lambda each: each[0].upcoming):
        where = f"{note.file}, line {note.line_number}"
        master = state.masters.get(reference.master)
        if reference.master and master is None:
            # A C Sentinel that stops to monitor a master keeps the comments about it.
            state.warnings.append(f"{where}: '{excerpt(reference.master)}' is not monitored, its secret is not read.")
            continue
        if reader is None:
            continue
        try:
            secrets[reference] = secret = reader.read(reference)
            warnings = [reader.warning(reference)]
            if master is not None:
                if note.included:
                    state.elsewhere.masters.setdefault(master.name, {})[reference.word] = reference.source
                warnings.append(_start_auth_pass(master.options, reference, secret))
            elif reference.directive == "sentinel-pass":
                warnings.append(_start_sentinel_pass(state.options, reference, secret))
            else:
                _start_generic(generic, reference, secret)
        except DirectiveError as problem:
            raise _error(note, problem) from None
        state.warnings += [f"{where}: {warning}" for warning in warnings if warning is not None]
    return secrets


def _error(note: CommentStatement, problem: DirectiveError) -> ConfigError:
    # The line may have the secret in place of a reference, so it is not shown.
    return ConfigError(f"In {note.file}: {problem}.", note.line_number, " ".join(["#: txsentinel", *note.words[:2]]))


def _start_auth_pass(options: MasterOptions, reference: SecretReference, secret: str) -> str | None:
    beside = None
    if reference.upcoming:
        beside = options.auth_pass_source and options.next_auth_pass
        options.next_auth_pass_source = reference.source
    else:
        beside, options.next_auth_pass = options.auth_pass, options.auth_pass
        options.auth_pass_source = reference.source
    set_auth_pass(options, reference, secret)
    return _beside(reference) if beside else None


def _start_sentinel_pass(options: SentinelOptions, reference: SecretReference, secret: str) -> str | None:
    if reference.upcoming:
        beside = options.sentinel_pass_source and options.next_sentinel_pass
        options.next_sentinel_pass_source = reference.source
    else:
        beside, options.next_sentinel_pass = options.sentinel_pass, options.sentinel_pass
        options.sentinel_pass_source = reference.source
    set_sentinel_pass(options, reference, secret)
    return _beside(reference) if beside else None


def _beside(reference: SecretReference) -> str:
    if reference.upcoming:
        return f"{reference.subject} is set by a directive as well, which is removed: {reference.source} replaces it."
    return f"{reference.subject} is set by a directive as well, whose value is tried if {reference.source} is refused."


def _start_generic(generic: GenericOptions, reference: SecretReference, secret: str) -> None:
    if not reference.upcoming and getattr(generic, reference.directive.replace("-", "_")):
        raise DirectiveError(f"{reference.directive} is set by a directive as well. Keep one of them")
    set_generic(generic, reference, secret)


def set_auth_pass(options: MasterOptions, reference: SecretReference, secret: str) -> None:
    """Set the password, or the second password, of the servers of a master."""
    if reference.upcoming:
        options.next_auth_pass = secret
    else:
        options.auth_pass = secret


def auth_pass_source(options: MasterOptions, upcoming: bool) -> str:
    """Return where the password, or the second one, of a master is read from; empty if it is not a reference."""
    return options.next_auth_pass_source if upcoming else options.auth_pass_source


def set_sentinel_pass(options: SentinelOptions, reference: SecretReference, secret: str) -> None:
    """Set the password, or the second password, for peers."""
    if reference.upcoming:
        options.next_sentinel_pass = secret
    else:
        options.sentinel_pass = secret


def set_generic(generic: GenericOptions, reference: SecretReference, secret: str) -> None:
    """Set our own password, a second one, or the passphrase of a key."""
    if reference.upcoming:
        generic.next_requirepass = secret
    elif reference.directive == "requirepass":
        generic.requirepass = secret
    elif reference.directive == "tls-key-file-pass":
        generic.tls_key_file_pass = secret
    else:
        generic.tls_client_key_file_pass = secret


def copy_requirepass(generic: GenericOptions, options: SentinelOptions) -> None:
    """Copy our own passwords to the options of the core: without ``sentinel-pass``, peers have the same ones."""
    options.requirepass = generic.requirepass or None
    options.next_requirepass = generic.next_requirepass or None
