"""Templates of Jinja in a sandbox, in which a name that is not defined is an error."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined, TemplateError, TemplateNotFound, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment


class TemplateProblem(ValueError):
    """A template cannot be read or rendered; the text has its path, and the line of an error of syntax."""


class TemplateFile:
    """
    A template on disk. It is read again when it was changed. It may include files of its directory.

    :param path: its absolute path.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._environment = ImmutableSandboxedEnvironment(
            loader=FileSystemLoader(os.path.dirname(path)),
            undefined=StrictUndefined,
            autoescape=False,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )

    def check(self) -> None:
        """
        Read the template.

        :raises TemplateProblem: if that fails.
        """
        try:
            self._environment.get_template(os.path.basename(self._path))
        except TemplateSyntaxError as error:
            place = error.filename or self._path
            raise TemplateProblem(f"the template {place!a}, line {error.lineno}: {error.message}") from None
        except (TemplateError, OSError, UnicodeDecodeError) as error:
            raise TemplateProblem(f"the template {self._path!a} cannot be read: {_reason(error)}") from None

    def render(self, variables: Mapping[str, Any]) -> bytes:
        """
        Return the text with the values of variables.

        :raises TemplateProblem: if the template cannot be read, or fails.
        """
        self.check()
        try:
            text: str = self._environment.get_template(os.path.basename(self._path)).render(variables)
        except Exception as error:  # Expressions of a template can raise anything.
            raise TemplateProblem(f"the template {self._path!a} fails: {_reason(error)}") from None
        return text.encode("utf-8", "surrogateescape")


def _reason(error: Exception) -> str:
    if isinstance(error, TemplateNotFound):
        return f"there is no file {error.name!a}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
