"""The web hooks of a Label Studio project that call a receiver of ours: there while somebody listens, then gone."""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from annotation.studio.http import StudioHttp
from annotation.studio.webhook import SECRET_HEADER
from schemas.errors import RegionwiseError

PATH = "/api/webhooks/"
ACTIONS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED")
#: How long a receiver of another process on this machine may take to accept a call.
KNOCK_TIMEOUT_S = 1.0


@contextmanager
def called_at(http: StudioHttp, project: int, url: str, secret: str) -> Iterator[None]:
    """Has the server call `url` whenever annotations of the project change, as long as the block runs.

    Hooks of ours to the same host where nobody listens any more, of a process that was killed, are taken down as well.
    Raises: as `StudioHttp.ask` before the block; behind it a server that is down keeps the hook until the next one.
    """
    for hook in _hooks(http, project):
        if hook.get("url") == url or _is_deserted(hook, url):
            _take_down(http, hook)
    hook = {
        "url": url,
        "headers": {SECRET_HEADER: secret},
        "send_payload": False,
        "send_for_all_actions": False,
        "actions": ACTIONS,
        "project": project,
    }
    try:
        http.ask("POST", PATH, body=json.dumps(hook).encode())
        yield
    finally:
        with suppress(RegionwiseError):
            for found in _hooks(http, project):
                if found.get("url") == url:
                    _take_down(http, found)


def _hooks(http: StudioHttp, project: int) -> list[dict[str, Any]]:
    listed = http.ask("GET", PATH, {"project": project})
    return [hook for hook in listed if isinstance(hook, dict)] if isinstance(listed, list) else []


def _take_down(http: StudioHttp, hook: Mapping[str, Any]) -> None:
    http.ask("DELETE", f"{PATH}{int(hook['id'])}/")


def _is_deserted(hook: Mapping[str, Any], url: str) -> bool:
    """Whether a hook of ours calls the host of `url` at a port where nobody listens."""
    headers = hook.get("headers")
    try:
        address, ours = urlsplit(str(hook.get("url"))), urlsplit(url)
        host, port = address.hostname, address.port
    except ValueError:
        return False
    if not isinstance(headers, dict) or SECRET_HEADER not in headers or host is None or host != ours.hostname:
        return False
    try:
        socket.create_connection((host, port or 80), KNOCK_TIMEOUT_S).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
