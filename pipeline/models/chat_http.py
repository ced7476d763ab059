"""One chat completion over HTTP, within bounds: of time, of size, of attempts. No redirects, no proxy, no .netrc.

Whatever a server does ends in a `Completion` or a `Failure` with its reason; only a programming error raises.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypeVar

import httpx

from pipeline.models.chat_settings import ChatSettings, model_name, named_model, parse_endpoint, read_key
from schemas.errors import BadInput, RegionwiseError

#: refused: 4xx that no second try helps. not_a_completion: 200, but no chat completion (HTML, an empty body).
CallFault = Literal[
    "time_out", "connection", "rate_limited", "server_error", "refused", "redirected", "too_large", "not_a_completion"
]
#: A second try may help; everything from 500 up does, too.
_RETRIED_STATUSES = (408, 425, 429)
#: The server does not know the key, the path or the model: no other call will fare better.
FATAL_STATUSES = (401, 403, 404)
_FAULT_BYTES = 4096
_FAULT_CHARS = 200
_T = TypeVar("_T")


@dataclass(frozen=True)
class Usage:
    """Tokens of one call, as the server counts them."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Completion:
    """What the model wrote. text: None where it wrote nothing or refused; model: what the server says it is."""

    text: str | None
    model: str | None
    cut_short: bool
    usage: Usage | None


@dataclass(frozen=True)
class Failure:
    """No answer. detail: one line for a person, without the key. retry: whether a second try may help.

    wait_s: what the server asked to wait; status: HTTP's, where there was one.
    """

    reason: CallFault
    detail: str
    retry: bool = False
    wait_s: float | None = None
    status: int | None = None


@dataclass(frozen=True)
class Outcome:
    """How a call ended, and what it took: attempts, and the faults of those that were tried again."""

    result: Completion | Failure
    attempts: int
    retried: Counter[CallFault] = field(default_factory=Counter)


@dataclass(frozen=True)
class ChatClient:
    """Speaks to one server. key: sent as bearer token, never shown."""

    base_url: str
    settings: ChatSettings
    key: str | None = field(default=None, repr=False)

    def open(self) -> httpx.AsyncClient:
        """A connection pool for one event loop, to be closed with `async with`."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "regionwise"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        read_s = self.settings.read_timeout_s
        return httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(read_s, connect=self.settings.connect_timeout_s, pool=None),
            limits=httpx.Limits(max_connections=self.settings.concurrency),
            follow_redirects=False,
            trust_env=False,
        )

    async def complete(self, connections: httpx.AsyncClient, body: Mapping[str, Any]) -> Outcome:
        """The chat completion of `body`, tried at most `settings.attempts` times."""
        content = json.dumps(body).encode()
        retried: Counter[CallFault] = Counter()
        for attempt in range(1, self.settings.attempts + 1):
            result = await self._once(connections, "POST", "/chat/completions", content)
            if isinstance(result, bytes):
                return Outcome(read_completion(result), attempt, retried)
            wait_s = self._wait_s(result, attempt)
            if wait_s is None:
                return Outcome(result, attempt, retried)
            retried[result.reason] += 1
            await asyncio.sleep(wait_s)
        raise AssertionError("the last attempt has no wait")

    async def models(self, connections: httpx.AsyncClient) -> list[str] | Failure:
        """The names of the models that the server lists."""
        result = await self._once(connections, "GET", "/models", None)
        if isinstance(result, Failure):
            return result
        try:
            return [str(model["id"]) for model in json.loads(result)["data"]]
        except (ValueError, RecursionError, KeyError, TypeError):
            return Failure("not_a_completion", "GET /models answered with no list of models")

    def _wait_s(self, failure: Failure, attempt: int) -> float | None:
        """Seconds until the next attempt, or None where there is none."""
        if not failure.retry or attempt >= self.settings.attempts:
            return None
        if failure.wait_s is None:
            return min(self.settings.backoff_s * 2.0 ** (attempt - 1), self.settings.retry_after_max_s)
        return failure.wait_s if failure.wait_s <= self.settings.retry_after_max_s else None

    async def _once(
        self, connections: httpx.AsyncClient, method: str, path: str, content: bytes | None
    ) -> bytes | Failure:
        """The body of a 200, or what went wrong."""
        headers = {} if content is None else {"Content-Type": "application/json"}
        try:
            async with (
                asyncio.timeout(self.settings.total_timeout_s),
                connections.stream(method, self.base_url + path, content=content, headers=headers) as response,
            ):
                if response.status_code != 200:
                    return self._status_failure(response, await _read(response, _FAULT_BYTES, whole=False))
                if response.headers.get("content-encoding", "identity") != "identity":
                    return Failure("not_a_completion", "answered compressed, though asked not to", status=200)
                body = await _read(response, self.settings.max_response_bytes, whole=True)
        except (TimeoutError, httpx.TimeoutException) as error:
            return Failure("time_out", f"no answer in time ({type(error).__name__})", retry=True)
        except (httpx.TransportError, OSError) as error:
            return Failure("connection", self._safe(f"{type(error).__name__}: {error}"), retry=True)
        if body is None:
            return Failure("too_large", f"answered with more than {self.settings.max_response_bytes} bytes", status=200)
        return body

    def _status_failure(self, response: httpx.Response, body: bytes | None) -> Failure:
        status = response.status_code
        detail = f"HTTP {status}" + ("" if status in (401, 403) else self._safe(_message(body or b"")))
        failure = Failure("refused", detail, status=status)
        if 300 <= status < 400:
            return replace(failure, reason="redirected", detail=f"HTTP {status}: redirects elsewhere; none is followed")
        if status in _RETRIED_STATUSES or status >= 500:
            reason: CallFault = "rate_limited" if status == 429 else "time_out" if status == 408 else "server_error"
            return replace(failure, reason=reason, retry=True, wait_s=retry_after_s(response.headers))
        return failure

    def _safe(self, text: str) -> str:
        """`text` on one short line, with the key (which some servers repeat) blotted out."""
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return (line.replace(self.key, "***") if self.key else line)[:_FAULT_CHARS]


async def _read(response: httpx.Response, limit_bytes: int, *, whole: bool) -> bytes | None:
    """The body; a longer one is None where it must be whole, else its beginning. No more than the limit is held."""
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > limit_bytes:
            return None if whole else bytes(body[:limit_bytes])
    return bytes(body)


def _message(body: bytes) -> str:
    """The message of an error body as APIs write it, or nothing: HTML is not worth a line."""
    try:
        error = json.loads(body)["error"]
        message = error["message"] if isinstance(error, dict) else error
    except (ValueError, RecursionError, KeyError, TypeError):
        return ""
    return f": {message}" if isinstance(message, str) else ""


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


def read_completion(body: bytes) -> Completion | Failure:
    """The first choice of a chat completion's body."""
    try:
        document = json.loads(body)
        choice = document["choices"][0]
        message = choice["message"]
        text = message.get("content")
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError):
        return Failure("not_a_completion", _what_it_is(body), status=200)
    return Completion(
        text=text if isinstance(text, str) and text.strip() and not message.get("refusal") else None,
        model=document["model"] if isinstance(document.get("model"), str) else None,
        cut_short=choice.get("finish_reason") == "length",
        usage=_usage(document.get("usage")),
    )


def _what_it_is(body: bytes) -> str:
    if not body.strip():
        return "answered with an empty body"
    if body.lstrip()[:1] == b"<":
        return "answered with HTML or XML"
    return "answered with something that is no chat completion"


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if type(prompt) is int and type(completion) is int and prompt >= 0 and completion >= 0:
        return Usage(prompt, completion)
    return None


def open_chat(url: str, settings: ChatSettings, what: str) -> tuple[ChatClient, str]:
    """The client of the server behind `url` (`https://host/v1`) and the model to ask for.

    Where neither the settings nor the URL's fragment names a model the server is asked once, and must list exactly one.
    Raises: BadInput for a bad URL, model or key; RegionwiseError where the server does not list its models.
    """
    endpoint = parse_endpoint(url, what)
    client = ChatClient(endpoint.base_url, settings, read_key(endpoint, settings.api_key_env, what))
    return client, named_model(endpoint, settings, what) or _only_model(client, what)


def _only_model(client: ChatClient, what: str) -> str:
    async def ask() -> list[str] | Failure:
        async with client.open() as connections:
            return await client.models(connections)

    found, thing = run_async(ask), f"{what} {client.base_url}"
    remedy = "name the model behind the URL as #model or in the setting `model`"
    if isinstance(found, Failure):
        raise RegionwiseError(thing, f"does not list its models ({found.reason}: {found.detail})", remedy)
    if len(found) != 1:
        raise BadInput(thing, f"serves {len(found)} models", remedy)
    return model_name(
        found[0], BadInput(thing, "serves a model whose name is not plain ASCII", "choose another server")
    )


def run_async(work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Runs `work` to its end; in a thread of its own where this one has an event loop already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()
