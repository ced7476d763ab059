"""HTTP to servers that are not trusted, within bounds: of time, of size, of attempts.

A client made here follows no redirect, takes no proxy and no .netrc from the environment, and refuses compressed
answers, whose size is known only once they are unpacked. What an answer means is its caller's to say.
"""

import asyncio
import json
import os
import re
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpx

from schemas.errors import BadInput

#: A second try may help; everything from 500 up does, too.
RETRIED_STATUSES = (408, 425, 429)
FAULT_CHARS = 200
MAX_URL_CHARS = 2000
#: An access or refresh token, wherever it stands.
_JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*")
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}


@dataclass(frozen=True)
class Bounds:
    """What one request may take. read_timeout_s: longest silence; total_timeout_s: the whole, however much trickles in.

    max_bytes: longest answer that is read.
    """

    connect_timeout_s: float
    read_timeout_s: float
    total_timeout_s: float
    max_bytes: int


class AnswerTooLarge(httpx.TransportError):
    """An answer longer than is read."""


class AnswerTooSlow(httpx.ReadTimeout):
    """An answer that trickles."""


class AnswerCompressed(httpx.TransportError):
    """An answer that is compressed though asked not to be."""

    def __init__(self, response: httpx.Response, request: httpx.Request) -> None:
        super().__init__("answered compressed", request=request)
        self.response = response


def open_client(bounds: Bounds, *, base_url: str = "", headers: Mapping[str, str] | None = None) -> httpx.Client:
    """A client to be closed, whose answers keep to `bounds`: else it raises one of the three errors above.

    No connection outlives its answer: a poller sleeps longer than servers keep one.
    """
    inner = httpx.HTTPTransport(verify=_certificates(), limits=httpx.Limits(max_keepalive_connections=0))
    return httpx.Client(
        base_url=base_url,
        headers={**_HEADERS, **(headers or {})},
        timeout=httpx.Timeout(bounds.read_timeout_s, connect=bounds.connect_timeout_s),
        transport=_BoundedTransport(inner, bounds),
        follow_redirects=False,
        trust_env=False,
    )


@cache
def _certificates() -> ssl.SSLContext:
    """The trusted authorities, read once: that takes longer than a whole exchange with a server nearby."""
    return httpx.create_ssl_context()


def open_async_client(
    bounds: Bounds, *, max_connections: int, headers: Mapping[str, str] | None = None
) -> httpx.AsyncClient:
    """A connection pool for one event loop, to be closed with `async with`; bounded as that of `open_client`.

    Where the time as a whole is over it raises TimeoutError.
    """
    limits = httpx.Limits(max_connections=max_connections)
    inner = httpx.AsyncHTTPTransport(verify=_certificates(), limits=limits, trust_env=False)
    return httpx.AsyncClient(
        headers={**_HEADERS, **(headers or {})},
        timeout=httpx.Timeout(bounds.read_timeout_s, connect=bounds.connect_timeout_s, pool=None),
        transport=_AsyncBoundedTransport(inner, bounds),
        follow_redirects=False,
        trust_env=False,
    )


def request_once(
    method: str, url: str, bounds: Bounds, *, headers: Mapping[str, str] | None = None, body: Any = None
) -> httpx.Response:
    """One answer, read whole, over a connection of its own. body: sent as JSON. Raises: httpx.HTTPError."""
    with open_client(bounds, headers=headers) as client:
        return client.request(method, url, json=body)


class _BoundedTransport(httpx.BaseTransport):
    """Passes on an answer's bytes within bounds."""

    def __init__(self, inner: httpx.BaseTransport, bounds: Bounds) -> None:
        self._inner, self._bounds = inner, bounds

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        until = time.monotonic() + self._bounds.total_timeout_s
        response = self._inner.handle_request(request)
        if _is_compressed(response):
            response.close()
            raise AnswerCompressed(response, request)
        return _with_stream(response, _BoundedStream(response.stream, self._bounds.max_bytes, until, request))

    def close(self) -> None:
        self._inner.close()


class _BoundedStream(httpx.SyncByteStream):
    def __init__(self, inner: Any, max_bytes: int, until: float, request: httpx.Request) -> None:
        self._inner, self._left, self._until, self._request = inner, max_bytes, until, request

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._inner:
            self._left -= len(chunk)
            if self._left < 0:
                raise AnswerTooLarge("answered with too much", request=self._request)
            if time.monotonic() > self._until:
                raise AnswerTooSlow("answered too slowly", request=self._request)
            yield chunk

    def close(self) -> None:
        self._inner.close()


class _AsyncBoundedTransport(httpx.AsyncBaseTransport):
    """As `_BoundedTransport`; the time as a whole ends a wait, too."""

    def __init__(self, inner: httpx.AsyncBaseTransport, bounds: Bounds) -> None:
        self._inner, self._bounds = inner, bounds

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        until = asyncio.get_running_loop().time() + self._bounds.total_timeout_s
        async with asyncio.timeout_at(until):
            response = await self._inner.handle_async_request(request)
        if _is_compressed(response):
            await response.aclose()
            raise AnswerCompressed(response, request)
        return _with_stream(response, _AsyncBoundedStream(response.stream, self._bounds.max_bytes, until, request))

    async def aclose(self) -> None:
        await self._inner.aclose()


class _AsyncBoundedStream(httpx.AsyncByteStream):
    def __init__(self, inner: Any, max_bytes: int, until: float, request: httpx.Request) -> None:
        self._inner, self._left, self._until, self._request = inner, max_bytes, until, request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._inner)
        while True:
            async with asyncio.timeout_at(self._until):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            self._left -= len(chunk)
            if self._left < 0:
                raise AnswerTooLarge("answered with too much", request=self._request)
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


def _is_compressed(response: httpx.Response) -> bool:
    return bool(response.headers.get("content-encoding", "identity") != "identity")


def _with_stream(response: httpx.Response, stream: httpx.SyncByteStream | httpx.AsyncByteStream) -> httpx.Response:
    return httpx.Response(response.status_code, headers=response.headers, stream=stream, extensions=response.extensions)


async def read_start(response: httpx.Response, n_bytes: int) -> bytes:
    """The first bytes of a streamed body, as sent; the rest stays unread."""
    body = bytearray()
    with suppress(AnswerTooLarge):
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) >= n_bytes:
                break
    return bytes(body[:n_bytes])


def may_succeed_later(status: int) -> bool:
    """Whether the same request may fare better in a while."""
    return status in RETRIED_STATUSES or status >= 500


def backoff_s(first_s: float, attempt: int) -> float:
    """The wait behind attempt number `attempt`, from 1: `first_s`, doubled with each."""
    return first_s * 2.0 ** (attempt - 1)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Retry-After in seconds from now (seconds or an HTTP date), None where it is absent or means nothing."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal() and len(value) < 10:
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def parse_json(body: bytes) -> Any:
    """The JSON of a body. Raises: ValueError for anything else, and for JSON that is nested too deeply."""
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def safe_line(text: str, secret: str | None = None) -> str:
    """`text` on one short line, with the secret and every JSON web token, which some servers repeat, blotted out."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    line = line.replace(secret, "***") if secret else line
    return _JWT.sub("***", line)[:FAULT_CHARS]


def split_url(url: str, thing: str, remedy: str) -> SplitResult:
    """The parts of an http or https URL. Raises: BadInput for anything else, without repeating it."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits or not url.isascii() or not url.isprintable() or " " in url or len(url) > MAX_URL_CHARS:
        raise BadInput(thing, "its URL is no http or https URL", remedy)
    return parts


def is_loopback(url: str) -> bool:
    """Whether a URL is of this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_secret(variable: str, noun: str, url: str, thing: str, remedy: str) -> str:
    """The `noun` (API key, token) for the server `thing` at `url`, from an environment variable.

    Raises: BadInput, without it, where it is not set, cannot stand in a header or would go out unencrypted.
    """
    secret = os.environ.get(variable, "").strip()
    if not secret:
        raise BadInput(f"environment variable {variable}", "is not set", remedy)
    if not (secret.isascii() and secret.isprintable()) or " " in secret:
        raise BadInput(f"environment variable {variable}", f"holds characters that no {noun} has", remedy)
    if url.startswith("http:") and not is_loopback(url):
        raise BadInput(thing, f"would be sent the {noun} unencrypted", "use https")
    return secret
