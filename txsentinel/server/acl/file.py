"""The ACL file: one line for each user, in a stricter grammar than that of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from txsentinel.server.acl.rights import RuleError, has_white_space
from txsentinel.server.acl.users import Unmatched, User, joined_selectors
from txsentinel.wire.resp import data, text

NOTHING_CHANGED: Final = "WARNING: ACL errors detected, no change to the previously active ACL rules was performed"


class AclFileError(Exception):
    """The ACL file is invalid; ``str()`` has all its errors in one line."""


def parse_users(path: str, contents: bytes, new_user: Callable[[str], User]) -> dict[str, User]:
    """
    Parse an ACL file.

    :param path: the name of the file in error texts.
    :param new_user: returns a user of that name without rules.
    :raises AclFileError: if any line is invalid.
    """
    users: dict[str, User] = {}
    errors: list[str] = []
    for number, raw in enumerate(text(contents).split("\n"), 1):
        line = raw.strip(" \t\r")
        if line:
            _read_line(line, f"{path}:{number}", number, users, errors, new_user)
    if errors:
        raise AclFileError("".join(errors) + NOTHING_CHANGED)
    return users


def _read_line(
    line: str,
    where: str,
    number: int,
    users: dict[str, User],
    errors: list[str],
    new_user: Callable[[str], User],
) -> None:
    keyword, *words = line.split(" ")
    if keyword != "user" or not words:
        errors.append(f"{where} should start with user keyword followed by the username. ")
        return
    name, *rules = words
    if has_white_space(name):
        errors.append(f"{where}: username '{name}' contains invalid characters. ")
        return
    if name in users:
        errors.append(f"WARNING: Duplicate user '{name}' found on line {number}. ")
        return
    user = users[name] = new_user(name)
    try:
        joined = joined_selectors(rules)
    except Unmatched:
        errors.append(f"{where}: Unmatched parenthesis in selector definition. ")
        return
    _apply(user, joined, where, errors)


def _apply(user: User, rules: Iterable[str], where: str, errors: list[str]) -> None:
    """Apply all rules. Report every unknown name, but only the first of other errors, as it can cause the rest."""
    reported = False
    for rule in rules:
        try:
            user.apply(rule.strip("\t\r\n"))
        except RuleError as error:
            if error.unknown:
                errors.append(f"{where}: Error in applying operation '{rule}': {error}. ")
            elif not reported:
                reported = True
                errors.append(f"{where}: {error}. ")


def render_users(users: Iterable[User]) -> bytes:
    """Return the contents of an ACL file with these users."""
    return data("".join(f"{user.line()}\n" for user in users))
