"""Makes the man page from ``docs/txsentinel.8.rst``: ``python -m build_support.man_page FILE``."""

from __future__ import annotations

import os
import re
import sys
from typing import Final

ROOT: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SOURCE: Final = os.path.join(ROOT, "docs", "txsentinel.8.rst")
PATH: Final = os.path.join("build", "man", "man8", "txsentinel.8")
"""Where ``setup.py`` takes it from, relative to its directory."""

HEADER: Final = """\
==========
txsentinel
==========

----------------------------------------------------------
monitor Redis and Valkey masters and fail over to replicas
----------------------------------------------------------

:Manual section: 8
:Manual group: System Administration
:Version: txsentinel {version}

"""
"""Replaces the title of the source: man pages need more, which would be text in the HTML pages."""


def make(version: str) -> bytes:
    """
    Return the man page as bytes.

    :param version: of txsentinel, for the footer.
    :raises ValueError: if the source does not begin as expected.
    :raises docutils.utils.SystemMessage: if docutils has a warning about the source.
    """
    from docutils.core import publish_string
    from docutils.writers.manpage import Writer

    with open(SOURCE, encoding="utf-8") as file:
        title, separator, body = file.read().partition("Synopsis\n========\n")
    if title.split() != ["==========", "txsentinel", "=========="]:
        raise ValueError(f"{SOURCE} does not begin with a title and the section Synopsis")
    page: bytes = publish_string(
        HEADER.format(version=version) + separator + body,
        source_path=SOURCE,
        writer=Writer(),  # the name of a writer is another argument in each version of docutils
        # The text is ours alone, so it includes no files; a user's docutils.conf must not change the page.
        settings_overrides={"halt_level": 2, "file_insertion_enabled": False, "_disable_config": True},
    )
    return page


def write(path: str) -> None:
    """Write the man page of this version to a file, whose directory is created. It raises what :func:`make` does."""
    with open(os.path.join(ROOT, "txsentinel", "__init__.py"), encoding="utf-8") as file:
        version = re.search(r'^__version__ = "(.+)"$', file.read(), re.MULTILINE)
    if version is None:
        raise ValueError("txsentinel/__init__.py has no __version__")
    page = make(version[1])
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "wb") as file:
        file.write(page)


if __name__ == "__main__":
    write(sys.argv[1])
