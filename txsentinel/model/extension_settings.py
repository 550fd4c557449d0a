"""The settings of extensions, as their file has them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExtensionSetting:
    """
    One line of the file of the extensions: ``<extension> <name> <value> …``.

    ``place`` is the file with the number of the line, for error texts.
    """

    name: str
    values: tuple[str, ...]
    place: str = ""


class SettingError(ValueError):
    """A setting is invalid; the text begins with its place."""

    def __init__(self, setting: ExtensionSetting, problem: str) -> None:
        super().__init__(f"{setting.place}: {problem}" if setting.place else problem)
        self.setting = setting
