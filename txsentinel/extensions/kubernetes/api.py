"""Requests to the API of Kubernetes."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from twisted.internet.defer import Deferred

from txsentinel.extensions.setting_lines import shown

if TYPE_CHECKING:
    from txsentinel.extensions.http_client import HttpReply, IRequestClient
    from txsentinel.extensions.kubernetes.settings import KubernetesSettings

MERGE_PATCH: Final = "application/merge-patch+json"

SLICES: Final = "apis/discovery.k8s.io/v1"
CORE: Final = "api/v1"


class ApiFailed(Exception):
    """The API refuses a request, or answers something else; the text has its reason."""


class ApiConflict(Exception):
    """An object has changed since it was read, or exists already, or no longer."""


class KubernetesApi:
    """The objects of one namespace."""

    def __init__(self, client: IRequestClient, settings: KubernetesSettings) -> None:
        self._client = client
        self._settings = settings

    def get(self, group: str, path: str, selector: str = "") -> Deferred[Any]:
        """Fires with an object, or a list of them; with ``None`` if there is none."""
        query = f"?labelSelector={quote(selector, safe='')}" if selector else ""
        return self._request("GET", group, path + query, allowed=(404,))

    def create(self, group: str, path: str, document: object) -> Deferred[Any]:
        """Create an object. Fails with :class:`ApiConflict` if it exists already."""
        return self._request("POST", group, path, document)

    def replace(self, group: str, path: str, document: object) -> Deferred[Any]:
        """Replace an object. Fails with :class:`ApiConflict` if it is not that of the version in the document."""
        return self._request("PUT", group, path, document, gone_is_conflict=True)

    def patch(self, group: str, path: str, document: object) -> Deferred[Any]:
        """Change parts of an object; as :meth:`replace`."""
        return self._request("PATCH", group, path, document, MERGE_PATCH, gone_is_conflict=True)

    def delete(self, group: str, path: str, version: str) -> Deferred[Any]:
        """Delete a version of an object; as :meth:`replace`."""
        document = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"resourceVersion": version}}
        return self._request("DELETE", group, path, document, gone_is_conflict=True)

    def _request(
        self,
        method: str,
        group: str,
        path: str,
        document: object = None,
        content_type: str = "application/json",
        allowed: tuple[int, ...] = (),
        gone_is_conflict: bool = False,
    ) -> Deferred[Any]:
        settings = self._settings
        url = f"{settings.server}/{group}/namespaces/{settings.namespace}/{path}"
        headers = {"authorization": f"Bearer {settings.token.value}", "accept": "application/json"}
        body = None
        if document is not None:
            headers["content-type"] = content_type
            body = json.dumps(document).encode()

        def answered(reply: HttpReply) -> Any:
            if reply.status == 409 or (reply.status == 404 and gone_is_conflict):
                raise ApiConflict(method)
            if reply.status in allowed:
                return None
            if not 200 <= reply.status < 300:
                raise ApiFailed(f"{method} {path.partition('?')[0]}: status {reply.status}{_reason(reply.body)}")
            try:
                value = json.loads(reply.body)
            except ValueError:
                value = None
            if not isinstance(value, dict):
                raise ApiFailed(f"{method} {path}: the answer is no object in JSON")
            return value

        sent: Deferred[Any] = self._client.request(method, url, headers, body)
        return sent.addCallback(answered)


def _reason(body: bytes) -> str:
    """Return the message of a ``Status`` object, with a colon in front."""
    try:
        message = json.loads(body)["message"]
    except (ValueError, TypeError, KeyError):
        return ""
    return f": {shown(str(message))}"
