"""The text formats of Prometheus (0.0.4) and OpenMetrics (1.0): families, labels, numbers and histograms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate
from typing import Final

from txsentinel.model.measurements import HistogramState


class Format(Enum):
    """A text format; the value is its content type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Kind(Enum):
    """The type of a family; the value is the word of OpenMetrics."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    INFO = "info"


_SUFFIXES: Final = {Kind.COUNTER: "_total", Kind.INFO: "_info"}
_UNDECODED: Final = re.compile("[\udc80-\udcff]")
"""Bytes that are no UTF-8, as ``surrogateescape`` decodes them."""


@dataclass(frozen=True)
class Family:
    """
    One metric.

    ``name`` is the family of OpenMetrics, which has neither ``_total`` nor ``_info`` at its end.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    @property
    def sample(self) -> str:
        """The name of its samples, which queries use; without the suffixes of histograms."""
        return self.name + _SUFFIXES.get(self.kind, "")

    def header(self, text_format: Format) -> bytes:
        """Return the lines before the samples."""
        name, kind = self.name, self.kind
        if text_format is Format.TEXT:
            name = self.sample
            kind = Kind.GAUGE if kind is Kind.INFO else kind
        return f"# HELP {name} {self.help}\n# TYPE {name} {kind.value}\n".encode()

    def line(self, values: Sequence[str], value: str) -> str:
        """
        Return one sample.

        :param values: the values of the labels.
        """
        return f"{self.sample}{label_set(self.labels, values)} {value}\n"

    def histogram(self, values: Sequence[str], state: HistogramState) -> str:
        """Return the samples of a histogram, in seconds."""
        names = (*self.labels, "le")
        bounds = [*(seconds(each) for each in state.bounds), "+Inf"]
        lines = [
            f"{self.name}_bucket{label_set(names, (*values, bound))} {count}\n"
            for bound, count in zip(bounds, accumulate(state.counts), strict=True)
        ]
        labels = label_set(self.labels, values)
        lines.append(f"{self.name}_sum{labels} {seconds(state.sum_ms)}\n")
        lines.append(f"{self.name}_count{labels} {state.count}\n")
        return "".join(lines)


class HistogramTexts:
    """Makes the samples of histograms, and keeps those of the ones that do not change."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, tuple[str, ...]], tuple[HistogramState, str]] = {}

    def text(self, family: Family, values: tuple[str, ...], state: HistogramState) -> str:
        """Return ``family.histogram(values, state)``."""
        key = (family.name, values)
        kept = self._kept.get(key)
        if kept is None or kept[0] != state:
            kept = self._kept[key] = (state, family.histogram(values, state))
        return kept[1]


def escaped(value: str) -> str:
    """
    Return the value of a label as it stands between quotes.

    Bytes of names that are no UTF-8 become ``\\xNN``: servers reject a whole page with an invalid character.
    """
    text = value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return text if text.isascii() else _UNDECODED.sub(lambda found: f"\\\\x{ord(found[0]) - 0xDC00:02x}", text)


def label_set(names: Iterable[str], values: Iterable[str]) -> str:
    """Return labels in braces, or nothing without labels."""
    pairs = ",".join(f'{name}="{escaped(value)}"' for name, value in zip(names, values, strict=True))
    return f"{{{pairs}}}" if pairs else ""


def seconds(millis: int) -> str:
    """Return milliseconds as seconds."""
    return repr(millis / 1000)


def negotiated(accept: str | None) -> Format:
    """
    Return the format for the header ``Accept``: OpenMetrics if it is asked for before text.

    A client that accepts neither gets text, as from other exporters.
    """
    best = {Format.TEXT: 0.0, Format.OPEN_METRICS: 0.0}
    for entry in (accept or "").split(","):
        media, *parameters = (part.strip() for part in entry.split(";"))
        options = dict(parameter.split("=", 1) for parameter in parameters if "=" in parameter)
        try:
            quality = float(options.get("q", "1"))
        except ValueError:
            continue
        if media == "application/openmetrics-text" and options.get("version", "1.0.0") in ("0.0.1", "1.0.0"):
            best[Format.OPEN_METRICS] = max(best[Format.OPEN_METRICS], quality)
        elif media in ("text/plain", "text/*", "*/*"):
            best[Format.TEXT] = max(best[Format.TEXT], quality)
    return Format.OPEN_METRICS if best[Format.OPEN_METRICS] > best[Format.TEXT] else Format.TEXT
