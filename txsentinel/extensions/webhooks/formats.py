"""The bodies and headers of requests: CloudEvents with a signature, Slack, and PagerDuty."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from txsentinel.extensions.notifications import FAILOVER, Notification, json_bytes
from txsentinel.extensions.webhooks.signature import signatures
from txsentinel.model.events import LEVELS
from txsentinel.model.plain import Plain

if TYPE_CHECKING:
    from txsentinel.extensions.webhooks.settings import WebhookTarget

MAX_SUMMARY: Final = 1024
"""The longest summary that PagerDuty accepts, in characters."""

ENDS_INCIDENT: Final = {"-odown": "+odown", "+switch-master": "+odown", "-tilt": "+tilt"}
"""The channel of an event → the channel whose incident it ends."""


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """What is sent. The body may contain a secret."""

    headers: dict[str, str]
    body: bytes = field(repr=False)


def make_request(target: WebhookTarget, notification: Notification, now: int) -> WebhookRequest | None:
    """
    Return the request for a notification; ``None`` if the format of the target has none for it.

    :param now: seconds since 1970.
    """
    return _FORMATS[target.format](target, notification, now)


def _cloudevents(target: WebhookTarget, notification: Notification, now: int) -> WebhookRequest:
    document: dict[str, Plain] = {
        "specversion": "1.0",
        "id": notification.notification_id,
        "source": f"/sentinels/{notification.sentinel}",
        "type": event_type(notification.kind),
        "time": notification.at.rfc3339(),
        "datacontenttype": "application/json",
        "data": dict(notification.data),
    }
    if notification.master is not None:
        document["subject"] = notification.master
    body = json_bytes(document)
    headers = {
        "content-type": "application/cloudevents+json; charset=utf-8",
        "webhook-id": notification.notification_id,
        "webhook-timestamp": str(now),
    }
    if target.secrets:
        keys = [file.value for file in target.secrets]
        headers["webhook-signature"] = signatures(keys, notification.notification_id, now, body)
    return WebhookRequest(headers, body)


def event_type(kind: str) -> str:
    """Return the ``type`` of a CloudEvent: the name of the channel, with ``.ended`` if it ends what another began."""
    name = kind.lstrip("+-")
    return f"txsentinel.{name}.ended" if kind.startswith("-") and f"+{name}" in LEVELS else f"txsentinel.{name}"


def _slack(target: WebhookTarget, notification: Notification, now: int) -> WebhookRequest:
    text = sentence(notification).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return WebhookRequest({"content-type": "application/json"}, json_bytes({"text": text}))


def _pagerduty(target: WebhookTarget, notification: Notification, now: int) -> WebhookRequest | None:
    """Return an event of the Events API v2. A failover that ended well opens no incident."""
    kind = notification.kind
    if kind == FAILOVER:
        return None
    subject = notification.master if notification.master is not None else notification.sentinel
    incident = ENDS_INCIDENT.get(kind, kind)
    document: dict[str, Plain] = {
        "routing_key": target.secrets[0].value,
        "event_action": "resolve" if kind in ENDS_INCIDENT else "trigger",
        "dedup_key": f"txsentinel/{subject}/{incident.lstrip('+-')}",
        "payload": {
            "summary": sentence(notification)[:MAX_SUMMARY],
            "source": subject,
            "severity": "critical" if kind == "+odown" or kind.startswith("-failover-abort") else "warning",
            "timestamp": notification.at.rfc3339(),
            "component": "redis",
            "group": subject,
            "class": event_type(kind),
            "custom_details": dict(notification.data),
        },
    }
    return WebhookRequest({"content-type": "application/json"}, json_bytes(document))


def sentence(notification: Notification) -> str:
    """Return a notification as a sentence for people."""
    data, master = notification.data, notification.master
    by = f"(Sentinel {notification.sentinel[:8]})"
    if notification.kind == "+switch-master":
        epoch = data.get("config_epoch", "unknown")
        return f"{master} has moved from {data.get('from')} to {data.get('to')}, config epoch {epoch} {by}"
    if notification.kind == FAILOVER:
        return f"The failover of {master} in epoch {data.get('epoch')} has ended: {data.get('outcome')} {by}"
    if notification.kind in ("+odown", "+sdown") and str(data.get("text", "")).startswith("master "):
        agreed = "by agreement of the Sentinels" if notification.kind == "+odown" else "for one Sentinel"
        address = data.get("address")
        where = address.get("address") if isinstance(address, dict) else "unknown"
        return f"{master} at {where} is down {agreed} {by}"
    return f"{notification.kind} {data.get('text', '')} {by}"


_FORMATS: Final[dict[str, Callable[[WebhookTarget, Notification, int], WebhookRequest | None]]] = {
    "cloudevents": _cloudevents,
    "slack": _slack,
    "pagerduty": _pagerduty,
}
