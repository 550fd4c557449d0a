"""
The build backend of pyproject.toml: setuptools, plus what a build needs beyond it.

A wheel contains the man page, which docutils makes. The compiled build, chosen by ``TXSENTINEL_COMPILED``, needs the
compiler and everything that the type checker follows imports to; other builds do not install those.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from glob import glob
from typing import Any, Final, TypeAlias

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403 - the hooks that are not replaced below

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DOCUTILS: Final = "docutils >= 0.20"

Settings: TypeAlias = Any
"""What frontends pass on from their users; setuptools reads it."""


def compiler_requirements() -> list[str]:
    """Return what the compiled build needs: the dependency group ``compiler``, and the dependencies of the package."""
    with open("pyproject.toml", "rb") as file:
        compiler = tomllib.load(file)["dependency-groups"]["compiler"]
    configuration = ConfigParser()
    configuration.read("setup.cfg", encoding="utf-8")
    dependencies = configuration["options"]["install_requires"].strip().splitlines()
    return [*compiler, *dependencies]


def additional_requirements() -> list[str]:
    """Return what the wanted build needs beyond setuptools."""
    return compiler_requirements() if os.environ.get("TXSENTINEL_COMPILED") else []


@contextmanager
def not_compiling() -> Iterator[None]:
    """Hide the wish for the compiled build from hooks that only read metadata, and run before its compiler is there."""
    wanted = os.environ.pop("TXSENTINEL_COMPILED", None)
    try:
        yield
    finally:
        if wanted is not None:
            os.environ["TXSENTINEL_COMPILED"] = wanted


def get_requires_for_build_sdist(config_settings: Settings = None) -> list[str]:
    """See PEP 517."""
    with not_compiling():
        return build_meta.get_requires_for_build_sdist(config_settings)


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """See PEP 517."""
    with not_compiling():
        requirements = build_meta.get_requires_for_build_wheel(config_settings)
    return [*requirements, DOCUTILS, *additional_requirements()]


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    """See PEP 660. An editable installation has no man page."""
    with not_compiling():
        requirements = build_meta.get_requires_for_build_editable(config_settings)
    return [*requirements, *additional_requirements()]


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: Settings = None) -> str:
    """See PEP 517."""
    with not_compiling():
        return build_meta.prepare_metadata_for_build_wheel(metadata_directory, config_settings)


def prepare_metadata_for_build_editable(metadata_directory: str, config_settings: Settings = None) -> str:
    """See PEP 660."""
    with not_compiling():
        return build_meta.prepare_metadata_for_build_editable(metadata_directory, config_settings)


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    """See PEP 517."""
    with not_compiling():
        return build_meta.build_sdist(sdist_directory, config_settings)


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    """See PEP 517."""
    from build_support.man_page import PATH, write

    # setuptools would add modules of an earlier build that have been renamed or removed since.
    for path in glob("build/lib*"):
        shutil.rmtree(path)
    write(PATH)
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
