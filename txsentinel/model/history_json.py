"""Records of failovers as lines of JSON, for the history file and for commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, Final, TypeVar

from txsentinel.model.history import (
    Acknowledgement,
    DataLoss,
    FailoverKind,
    FailoverRecord,
    LossVerdict,
    ObserverRole,
    Outcome,
    PhaseTime,
    ReplicaRecord,
    Resyncs,
    ServerRecord,
    VoterRecord,
)
from txsentinel.model.plain import plain
from txsentinel.model.receipt import (
    AddressKnown,
    Fence,
    NewMaster,
    OldMaster,
    Receipt,
    ReceiptVerdict,
    ResyncCount,
)
from txsentinel.model.snapshots import Endpoint, Instant

T = TypeVar("T")

MAX_LINE: Final = 1 << 20
"""Length in bytes of the longest line that is read."""


class BadRecord(ValueError):
    """A line that is no record of a failover."""


def encode_record(record: FailoverRecord) -> bytes:
    """Return the record as one line of JSON in UTF-8, with its line end."""
    text = json.dumps(plain(record), separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def decode_record(line: bytes) -> FailoverRecord:
    """
    Parse one line. Fields that are not known are ignored, so that later versions can add some.

    :raises BadRecord: if it is no record, with the reason.
    """
    if len(line) > MAX_LINE:
        raise BadRecord(f"longer than {MAX_LINE} bytes")
    try:
        return record_of(json.loads(line))
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise BadRecord(f"{type(error).__name__}: {error}") from error


def decode_records(
    raw: bytes, between: Callable[[], object] = bool
) -> tuple[list[FailoverRecord], list[tuple[int, str]]]:
    """
    Return the records of a file, oldest first, and the lines that are none: their numbers, with reasons.

    The latest line with a ``record_id`` replaces the earlier ones. The last line may be torn, if the process was
    killed; it is then not counted.

    :param between: called after each line.
    """
    found: dict[str, FailoverRecord] = {}
    bad: list[tuple[int, str]] = []
    lines = raw.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = decode_record(line)
        except BadRecord as error:
            if number < len(lines):
                bad.append((number, str(error)))
            continue
        found[record.record_id] = record
        between()
    return list(found.values()), bad


def record_of(fields: Mapping[str, Any]) -> FailoverRecord:
    """
    Return the record with these fields, as ``plain`` renders them.

    :raises KeyError: if a field is missing.
    :raises ValueError: if a field is invalid; so do ``TypeError`` and ``AttributeError`` if it has another type.
    """
    ack, resyncs, to_server, loss = fields["ack"], fields["resyncs"], fields["to_server"], fields["loss"]
    return FailoverRecord(
        record_id=_text(fields["record_id"]),
        group=_text(fields["group"]),
        master=_text(fields["master"]),
        kind=FailoverKind(fields["kind"]),
        outcome=Outcome(fields["outcome"]),
        observer=_text(fields["observer"]),
        observer_role=ObserverRole(fields["observer_role"]),
        leader=_optional(fields["leader"], str),
        cause=_text(fields["cause"]),
        failure_class=_optional(fields["failure_class"], str),
        from_server=_server(fields["from_server"]),
        to_server=None if to_server is None else _server(to_server),
        epoch=_number(fields["epoch"]),
        config_epoch=_number(fields["config_epoch"]),
        phases=tuple(
            PhaseTime(_text(each["phase"]), _instant(each["at"]), _optional(each["took_ms"], int))
            for each in fields["phases"]
        ),
        voters=tuple(_voter(each) for each in fields["voters"]),
        replicas=tuple(_replica(each) for each in fields["replicas"]),
        chosen_because=_optional(fields["chosen_because"], str),
        loss=DataLoss(
            LossVerdict(loss["verdict"]),
            _optional(loss["lost_bytes"], int),
            _optional(loss["from_offset"], int),
            _optional(loss["to_offset"], int),
            _text(loss["text"]),
        ),
        resyncs=None if resyncs is None else Resyncs(_number(resyncs["partial"]), _number(resyncs["full"])),
        clients_closed=_optional(fields["clients_closed"], int),
        operator=_optional(fields["operator"], str),
        ack=None if ack is None else Acknowledgement(_text(ack["by"]), _instant(ack["at"]), _text(ack["comment"])),
        # Records of earlier versions do not have them.
        comment=_optional(fields.get("comment"), str),
        operation=_optional(fields.get("operation"), str),
        receipt=None if fields.get("receipt") is None else receipt_of(fields["receipt"]),
    )


def receipt_of(fields: Mapping[str, Any]) -> Receipt:
    """Return the receipt with these fields; it raises the same errors as :func:`record_of`."""
    old, new, fence, demoted, resyncs = (fields[name] for name in ("old", "new", "fence", "demoted_at", "resyncs"))
    return Receipt(
        _text(fields["receipt_id"]),
        _text(fields["method"]),
        _text(fields["master"]),
        OldMaster(
            _endpoint(old["address"]),
            _text(old["replid"]),
            _number(old["offset_at_fence"]),
            _optional(old["offset_final"], int),
        ),
        NewMaster(_endpoint(new["address"]), _optional(new["replid2"], str), _optional(new["fork_offset"], int)),
        Fence(
            _text(fence["kind"]),
            _instant(fence["armed_at"]),
            _optional(fence["held_ms"], int),
            _instant(fence["expires_at"]),
        ),
        None if demoted is None else _instant(demoted),
        ReceiptVerdict(fields["verdict"]),
        _text(fields["why"]),
        _optional(fields["lost_bytes"], int),
        None if resyncs is None else ResyncCount(_number(resyncs["partial"]), _number(resyncs["full"])),
        _optional(fields["clients_closed"], int),
        tuple(
            AddressKnown(
                _endpoint(each["sentinel"]), _number(each["after_ms"]), _optional(each.get("sentinel_id"), str)
            )
            for each in fields["sentinels"]
        ),
    )


def records_of(values: Iterable[Mapping[str, Any]]) -> list[FailoverRecord]:
    """Return the records with these fields; see :func:`record_of`."""
    return [record_of(each) for each in values]


def _voter(fields: Mapping[str, Any]) -> VoterRecord:
    asked, answered = fields["asked_at"], fields["answered_at"]
    return VoterRecord(
        _text(fields["sentinel_id"]),
        _text(fields["kind"]),
        None if asked is None else _instant(asked),
        None if answered is None else _instant(answered),
        _optional(fields["vote"], str),
        _optional(fields["epoch"], int),
        _optional(fields["reason"], str),
    )


def _replica(fields: Mapping[str, Any]) -> ReplicaRecord:
    return ReplicaRecord(
        _endpoint(fields["address"]),
        _number(fields["offset"]),
        _optional(fields["lag_bytes"], int),
        _number(fields["priority"]),
        _optional(fields["rank"], int),
        _optional(fields["unfit"], str),
        _optional(fields["unfit_text"], str),
    )


def _server(fields: Mapping[str, Any]) -> ServerRecord:
    return ServerRecord(
        _endpoint(fields["address"]),
        _optional(fields["run_id"], str),
        _optional(fields["replid"], str),
        _optional(fields["offset"], int),
        _optional(fields["priority"], int),
    )


def _endpoint(fields: Mapping[str, Any]) -> Endpoint:
    return Endpoint(_text(fields["host"]), _number(fields["port"]))


def _instant(value: object) -> Instant:
    """Return the time in RFC 3339 or, in replies to commands, in milliseconds since 1970."""
    if type(value) is int:
        return Instant(value)
    text = _text(value)
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    return Instant(int(moment.timestamp()) * 1000 + moment.microsecond // 1000)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"not a text: {value!r:.40}")
    return value


def _number(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"not a number: {value!r:.40}")
    return value


def _optional(value: object, kind: type[T]) -> T | None:
    if value is not None and type(value) is not kind:
        raise TypeError(f"not of type {kind.__name__}: {value!r:.40}")
    return value
