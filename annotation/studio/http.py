"""HTTP to a Label Studio, within the bounds of `runtime.http`: of time, size and attempts.

Whatever goes wrong is one line that names the server, and never the token: `BadInput` where the token, the project or
what was sent is wrong, `RegionwiseError` where the server is down, slow or broken, and `LostAnswer` where
something was sent that must not be sent twice.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
from pydantic import BaseModel, ConfigDict, Field

from annotation.client import LostAnswer
from annotation.studio.account import account_path, read_account
from runtime.http import (
    AnswerCompressed,
    AnswerTooLarge,
    Bounds,
    backoff_s,
    is_loopback,
    may_succeed_later,
    open_client,
    parse_json,
    read_secret,
    safe_line,
    split_url,
)
from schemas.errors import BadInput, RegionwiseError

Seconds = Annotated[float, Field(gt=0, le=3600)]
#: A proxy's word that what stands behind it has not answered: it may still be at work.
_GATEWAY_STATUSES = (502, 504)


class StudioSettings(BaseModel):
    """A project on a Label Studio, and how it is spoken to. The token is never part of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    url: Annotated[str, Field(max_length=2000)]
    """where the server is, like http://127.0.0.1:8080"""
    project: Annotated[int, Field(ge=0)] = 0
    """the project's number there; 0 until it is made"""
    token_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = "LABEL_STUDIO_API_KEY"
    """the environment variable that holds the token: a personal access token or a legacy one"""
    studio: Path | None = None
    """data folder of a server on this machine, whose account then has the token in the place of `token_env`"""
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
    parts = split_url(url, "Label Studio", remedy)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise BadInput(f"Label Studio {parts.scheme}://{parts.hostname}", "has a user or query in its URL", remedy)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def read_token(settings: StudioSettings) -> str:
    """The token of the local server's account, or from the environment; it goes into no environment of a child.

    Raises: BadInput, without it, where it is not set or would go unencrypted.
    """
    url = base_url(settings.url)
    data = local_data(settings)
    if data is not None:
        return read_account(data).token
    remedy = "put a token from Label Studio's account page into it"
    return read_secret(settings.token_env, "token", url, f"Label Studio {url}", remedy)


def local_data(settings: StudioSettings) -> Path | None:
    """The data folder whose account signs in; None for another machine's server, which never gets its token."""
    return settings.studio if is_loopback(base_url(settings.url)) else None


@dataclass(frozen=True)
class StudioFailure(Exception):
    """One attempt that brought nothing. retry: whether a second may help; over: whether the server is done with it."""

    fault: str
    remedy: str = ""
    retry: bool = False
    over: bool = True
    wrong_input: bool = False


def connect(settings: StudioSettings) -> httpx.Client:
    """A client of one server, within the bounds of the settings."""
    bounds = Bounds(
        connect_timeout_s=settings.connect_timeout_s,
        read_timeout_s=settings.read_timeout_s,
        total_timeout_s=settings.total_timeout_s,
        max_bytes=settings.max_answer_bytes,
    )
    return open_client(bounds, base_url=base_url(settings.url))


class StudioHttp:
    """Requests to one server. authorize: the header with the token, which may itself ask the server."""

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
            except StudioFailure as failure:
                lost = method == "POST" and not failure.over  # a second try might do it twice
                if lost or not failure.retry or attempt == self._settings.attempts:
                    raise self._error(failure, attempt) from None
            time.sleep(backoff_s(self._settings.backoff_s, attempt))
        raise AssertionError("the last attempt returns or raises")

    def send(self, path: str, params: Mapping[str, str | int], body: bytes) -> Any:
        """Sends something that must not be sent twice, once. Raises: BadInput where it was refused, LostAnswer."""
        try:
            return self._once("POST", path, params, body)
        except StudioFailure as failure:
            if failure.wrong_input:
                raise self._error(failure, 1) from None
            raise LostAnswer(self.thing, failure.fault, failure.remedy, over=failure.over) from None

    def _error(self, failure: StudioFailure, attempts: int) -> RegionwiseError:
        fault = failure.fault + (f" ({attempts} attempts)" if attempts > 1 else "")
        return (BadInput if failure.wrong_input else RegionwiseError)(self.thing, fault, failure.remedy)

    def _once(self, method: str, path: str, params: Mapping[str, str | int] | None, body: bytes | None) -> Any:
        """One attempt. Raises: StudioFailure."""
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            headers |= self._authorize()
            answer = self._http.request(method, path, params=params, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise self.transport_failure(error) from None
        if answer.is_success:
            return read_json(answer)
        raise self.status_failure(answer.status_code, answer.content)

    def transport_failure(self, error: httpx.HTTPError) -> StudioFailure:
        """What a broken connection means."""
        if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
            return StudioFailure("cannot be reached", "start it, or give its URL", retry=True)
        if isinstance(error, AnswerTooLarge):
            limit = f"{self._settings.max_answer_bytes:,} bytes"
            return StudioFailure(f"answers with more than {limit}", "lower body_tasks or raise max_answer_bytes")
        if isinstance(error, AnswerCompressed):
            return StudioFailure("answers compressed, though asked not to", "turn that off in the proxy before it")
        if isinstance(error, httpx.TimeoutException):
            waited = f"{self._settings.read_timeout_s:g} s"
            return StudioFailure(
                f"gave no answer within {waited}", "try again, or raise read_timeout_s", True, over=False
            )
        return StudioFailure(f"broke off the connection ({type(error).__name__})", "try again", retry=True, over=False)

    def status_failure(self, status: int, content: bytes) -> StudioFailure:
        """What an error answer means."""
        said = self._safe(_message(content))
        if status == 401:
            return StudioFailure(f"refuses the token: HTTP 401{said}", self._token_remedy(), wrong_input=True)
        if status == 403:
            return StudioFailure(f"does not allow it: HTTP 403{said}", self._token_remedy(), wrong_input=True)
        if status == 404:
            fault = f"has no project {self._settings.project} for this token, or is no Label Studio (HTTP 404)"
            return StudioFailure(fault, "give the number in the project's address", wrong_input=True)
        if 300 <= status < 400:
            return StudioFailure(f"redirects elsewhere (HTTP {status}); none is followed", "give the URL itself")
        if may_succeed_later(status):
            over = status not in _GATEWAY_STATUSES
            return StudioFailure(f"answers HTTP {status}", "look into its log", retry=True, over=over)
        return StudioFailure(f"refuses what was sent: HTTP {status}{said}", "look into its log", wrong_input=True)

    def _token_remedy(self) -> str:
        data = local_data(self._settings)
        if data is not None:
            return f"{account_path(data)} is of another server: give that one's folder with --studio"
        return f"put a valid token into {self._settings.token_env}"

    def close(self) -> None:
        """Ends its connections."""
        self._http.close()

    def _safe(self, text: str) -> str:
        """`text` behind a colon, on one short line, with every token blotted out."""
        shown = safe_line(text, self._token)
        return f": {shown}" if shown else ""


def read_json(answer: httpx.Response) -> Any:
    """The JSON of an answer, None where it is empty. Raises: StudioFailure."""
    if answer.status_code == 204:
        return None
    try:
        return parse_json(answer.content)
    except ValueError:
        kind = answer.headers.get("content-type", "nothing named").partition(";")[0][:40]
        fault = f"answers with something that is no JSON ({kind})"
        raise StudioFailure(fault, "give the URL of Label Studio itself") from None


def _message(content: bytes) -> str:
    """What an error answer says, or nothing: HTML is not worth a line."""
    try:
        document = parse_json(content)
    except ValueError:
        return ""
    said = document.get("detail") or document.get("validation_errors") if isinstance(document, dict) else document
    return said if isinstance(said, str) else json.dumps(said)[:1000] if said else ""
