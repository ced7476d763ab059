"""HTTP to a Label Studio, within bounds of time, size and attempts; no redirects, no proxy, no compressed answers.

Whatever goes wrong is one line that names the server, and never the token: `BadInput` where the token, the project or
what was sent is wrong, `RegionwiseError` where the server is down, slow or broken, and `LostAnswer` where
something was sent that must not be sent twice.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field

from annotation.client import LostAnswer
from schemas.errors import BadInput, RegionwiseError

Seconds = Annotated[float, Field(gt=0, le=3600)]
#: An access or refresh token, wherever it stands.
_JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*")
_RETRIED_STATUSES = (408, 425, 429)
#: A proxy's word that what stands behind it has not answered: it may still be at work.
_GATEWAY_STATUSES = (502, 504)
_FAULT_CHARS = 200


class StudioSettings(BaseModel):
    """A project on a Label Studio, and how it is spoken to. The token is never part of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    url: Annotated[str, Field(max_length=2000)]
    """where the server is, like http://127.0.0.1:8080"""
    project: Annotated[int, Field(ge=0)] = 0
    """the project's number there; 0 until it is made"""
    token_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = "LABEL_STUDIO_API_KEY"
    """the environment variable that holds the token: a personal access token or a legacy one"""
    batch_tasks: Annotated[int, Field(ge=1, le=5000)] = 250
    """tasks in one import; fewer where images are sent as data URIs"""
    page_tasks: Annotated[int, Field(ge=1, le=1000)] = 100
    """tasks in one listing"""
    body_tasks: Annotated[int, Field(ge=1, le=1000)] = 20
    """tasks whose answers are read in one request; each comes with its masks several times over"""
    overlap_s: Annotated[float, Field(ge=0, le=86_400)] = 60.0
    """how long before the newest change others may still turn up: writes wait for one another on the server"""
    connect_timeout_s: Seconds = 10.0
    """longest wait for a connection"""
    read_timeout_s: Seconds = 120.0
    """longest silence of the server; an import of 250 tasks takes a few seconds"""
    total_timeout_s: Seconds = 600.0
    """longest attempt as a whole, however much trickles in"""
    attempts: Annotated[int, Field(ge=1, le=10)] = 4
    """how often a request is tried on 408, 425, 429, 5xx, a time-out or a lost connection"""
    backoff_s: Annotated[float, Field(gt=0, le=600)] = 1.0
    """wait before the second attempt; doubles with each"""
    max_answer_bytes: Annotated[int, Field(ge=1024, le=2**31)] = 256 * 1024 * 1024
    """longest answer that is read"""
    max_sent_bytes: Annotated[int, Field(ge=1024, le=2**31)] = 200 * 1024 * 1024
    """longest import that is sent; what Label Studio takes"""


def base_url(url: str) -> str:
    """`url` without a slash at its end. Raises: BadInput for anything but http(s), or with a user or query in it."""
    remedy = "give one like http://127.0.0.1:8080"
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits or not url.isascii() or not url.isprintable() or " " in url:
        raise BadInput("Label Studio", "its URL is no http or https URL", remedy)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise BadInput(f"Label Studio {parts.scheme}://{parts.hostname}", "has a user or query in its URL", remedy)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def read_token(settings: StudioSettings) -> str:
    """The token from the environment. Raises: BadInput, without it, where it is not set or would go unencrypted."""
    url = base_url(settings.url)
    token = os.environ.get(settings.token_env, "").strip()
    thing = f"environment variable {settings.token_env}"
    remedy = "put a token from Label Studio's account page into it"
    if not token:
        raise BadInput(thing, "is not set", remedy)
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise BadInput(thing, "holds characters that no token has", remedy)
    if url.startswith("http:") and not _is_loopback(urlsplit(url).hostname or ""):
        raise BadInput(f"Label Studio {url}", "would be sent the token unencrypted", "use https")
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _TooLarge(httpx.TransportError):
    """An answer longer than is read."""


class _TooSlow(httpx.ReadTimeout):
    """An answer that trickles."""


class _Compressed(httpx.TransportError):
    """An answer that is compressed though asked not to be: its size would not be known before it is unpacked."""


class BoundedTransport(httpx.BaseTransport):
    """Passes on an answer's bytes up to a limit of bytes and seconds."""

    def __init__(self, inner: httpx.BaseTransport, max_bytes: int, total_timeout_s: float) -> None:
        self._inner, self._max_bytes, self._total_timeout_s = inner, max_bytes, total_timeout_s

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.BaseTransport`."""
        until = time.monotonic() + self._total_timeout_s
        response = self._inner.handle_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            response.close()
            raise _Compressed("answered compressed", request=request)
        stream = _Bounded(response.stream, self._max_bytes, until, request)
        return httpx.Response(
            response.status_code, headers=response.headers, stream=stream, extensions=response.extensions
        )

    def close(self) -> None:
        """See `httpx.BaseTransport`."""
        self._inner.close()


class _Bounded(httpx.SyncByteStream):
    def __init__(self, inner: Any, max_bytes: int, until: float, request: httpx.Request) -> None:
        self._inner, self._left, self._until, self._request = inner, max_bytes, until, request

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._inner:
            self._left -= len(chunk)
            if self._left < 0:
                raise _TooLarge("answered with too much", request=self._request)
            if time.monotonic() > self._until:
                raise _TooSlow("answered too slowly", request=self._request)
            yield chunk

    def close(self) -> None:
        self._inner.close()


@dataclass(frozen=True)
class Failure(Exception):
    """One attempt that brought nothing. retry: whether a second may help; over: whether the server is done with it."""

    fault: str
    remedy: str = ""
    retry: bool = False
    over: bool = True
    wrong_input: bool = False


def connect(settings: StudioSettings) -> httpx.Client:
    """How one server is spoken to. No connection outlives its answer: a poller sleeps longer than servers keep one."""
    inner = httpx.HTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))
    return httpx.Client(
        base_url=base_url(settings.url),
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        timeout=httpx.Timeout(settings.read_timeout_s, connect=settings.connect_timeout_s),
        transport=BoundedTransport(inner, settings.max_answer_bytes, settings.total_timeout_s),
        follow_redirects=False,
        trust_env=False,
    )


class StudioHttp:
    """Requests to one server. authorize: the header with the token, which may itself ask the server (`Failure`s)."""

    def __init__(
        self, settings: StudioSettings, http: httpx.Client, token: str, authorize: Callable[[], Mapping[str, str]]
    ) -> None:
        self.thing = f"Label Studio {base_url(settings.url)}"
        self._settings, self._http, self._token, self._authorize = settings, http, token, authorize

    def ask(
        self, method: str, path: str, params: Mapping[str, str | int] | None = None, body: bytes | None = None
    ) -> Any:
        """The JSON that the server answers, tried several times. Raises: BadInput, RegionwiseError."""
        for attempt in range(1, self._settings.attempts + 1):
            try:
                return self._once(method, path, params, body)
            except Failure as failure:
                lost = method == "POST" and not failure.over  # a second try might do it twice
                if lost or not failure.retry or attempt == self._settings.attempts:
                    raise self._error(failure, attempt) from None
            time.sleep(self._settings.backoff_s * 2.0 ** (attempt - 1))
        raise AssertionError("the last attempt returns or raises")

    def send(self, path: str, params: Mapping[str, str | int], body: bytes) -> Any:
        """Sends something that must not be sent twice, once. Raises: BadInput where it was refused, LostAnswer."""
        try:
            return self._once("POST", path, params, body)
        except Failure as failure:
            if failure.wrong_input:
                raise self._error(failure, 1) from None
            raise LostAnswer(self.thing, failure.fault, failure.remedy, over=failure.over) from None

    def _error(self, failure: Failure, attempts: int) -> RegionwiseError:
        fault = failure.fault + (f" ({attempts} attempts)" if attempts > 1 else "")
        return (BadInput if failure.wrong_input else RegionwiseError)(self.thing, fault, failure.remedy)

    def _once(self, method: str, path: str, params: Mapping[str, str | int] | None, body: bytes | None) -> Any:
        """One attempt. Raises: Failure."""
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            headers |= self._authorize()
            answer = self._http.request(method, path, params=params, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise self.transport_failure(error) from None
        if answer.is_success:
            return read_json(answer)
        raise self.status_failure(answer.status_code, answer.content)

    def transport_failure(self, error: httpx.HTTPError) -> Failure:
        """What a broken connection means."""
        if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
            return Failure("cannot be reached", "start it, or give its URL", retry=True)
        if isinstance(error, _TooLarge):
            limit = f"{self._settings.max_answer_bytes:,} bytes"
            return Failure(f"answers with more than {limit}", "lower body_tasks or raise max_answer_bytes")
        if isinstance(error, _Compressed):
            return Failure("answers compressed, though asked not to", "turn that off in the proxy before it")
        if isinstance(error, httpx.TimeoutException):
            waited = f"{self._settings.read_timeout_s:g} s"
            return Failure(f"gave no answer within {waited}", "try again, or raise read_timeout_s", True, over=False)
        return Failure(f"broke off the connection ({type(error).__name__})", "try again", retry=True, over=False)

    def status_failure(self, status: int, content: bytes) -> Failure:
        """What an error answer means."""
        said = self._safe(_message(content))
        if status == 401:
            return Failure(f"refuses the token: HTTP 401{said}", self._token_remedy(), wrong_input=True)
        if status == 403:
            return Failure(f"does not allow it: HTTP 403{said}", self._token_remedy(), wrong_input=True)
        if status == 404:
            fault = f"has no project {self._settings.project} for this token, or is no Label Studio (HTTP 404)"
            return Failure(fault, "give the number in the project's address", wrong_input=True)
        if 300 <= status < 400:
            return Failure(f"redirects elsewhere (HTTP {status}); none is followed", "give the URL itself")
        if status in _RETRIED_STATUSES or status >= 500:
            over = status not in _GATEWAY_STATUSES
            return Failure(f"answers HTTP {status}", "look into its log", retry=True, over=over)
        return Failure(f"refuses what was sent: HTTP {status}{said}", "look into its log", wrong_input=True)

    def _token_remedy(self) -> str:
        return f"put a valid token into {self._settings.token_env}"

    def _safe(self, text: str) -> str:
        """`text` behind a colon, short, with every token blotted out."""
        shown = _JWT.sub("***", text.replace(self._token, "***"))[:_FAULT_CHARS]
        return f": {shown}" if shown else ""


def read_json(answer: httpx.Response) -> Any:
    """The JSON of an answer, None where it is empty. Raises: Failure."""
    if answer.status_code == 204:
        return None
    try:
        return json.loads(answer.content)
    except (ValueError, RecursionError):
        kind = answer.headers.get("content-type", "nothing named").partition(";")[0][:40]
        fault = f"answers with something that is no JSON ({kind})"
        raise Failure(fault, "give the URL of Label Studio itself") from None


def _message(content: bytes) -> str:
    """What an error answer says, or nothing: HTML is not worth a line."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    said = document.get("detail") or document.get("validation_errors") if isinstance(document, dict) else document
    return said if isinstance(said, str) else json.dumps(said)[:1000] if said else ""
