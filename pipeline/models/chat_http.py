"""One chat completion over HTTP, within the bounds of `runtime.http`.

Whatever a server does ends in a `Completion` or a `CallFailure` with its reason; only a programming error raises.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import httpx

from pipeline.models.chat_settings import ChatSettings, model_name, named_model, parse_endpoint, read_key
from runtime.http import (
    AnswerCompressed,
    AnswerTooLarge,
    Bounds,
    backoff_s,
    may_succeed_later,
    open_async_client,
    parse_json,
    read_start,
    retry_after_s,
    safe_line,
)
from schemas.errors import BadInput, RegionwiseError

#: refused: 4xx that no second try helps. not_a_completion: 200, but no chat completion (HTML, an empty body).
CallFault = Literal[
    "time_out", "connection", "rate_limited", "server_error", "refused", "redirected", "too_large", "not_a_completion"
]
#: The server does not know the key, the path or the model: no other call will fare better.
FATAL_STATUSES = (401, 403, 404)
_FAULT_BYTES = 4096
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
class CallFailure:
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

    result: Completion | CallFailure
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
        headers = {"User-Agent": "regionwise"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        bounds = Bounds(
            connect_timeout_s=self.settings.connect_timeout_s,
            read_timeout_s=self.settings.read_timeout_s,
            total_timeout_s=self.settings.total_timeout_s,
            max_bytes=self.settings.max_response_bytes,
        )
        return open_async_client(bounds, max_connections=self.settings.concurrency, headers=headers)

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

    async def models(self, connections: httpx.AsyncClient) -> list[str] | CallFailure:
        """The names of the models that the server lists."""
        result = await self._once(connections, "GET", "/models", None)
        if isinstance(result, CallFailure):
            return result
        try:
            return [str(model["id"]) for model in parse_json(result)["data"]]
        except (ValueError, KeyError, TypeError):
            return CallFailure("not_a_completion", "GET /models answered with no list of models")

    def _wait_s(self, failure: CallFailure, attempt: int) -> float | None:
        """Seconds until the next attempt, or None where there is none."""
        if not failure.retry or attempt >= self.settings.attempts:
            return None
        if failure.wait_s is None:
            return min(backoff_s(self.settings.backoff_s, attempt), self.settings.retry_after_max_s)
        return failure.wait_s if failure.wait_s <= self.settings.retry_after_max_s else None

    async def _once(
        self, connections: httpx.AsyncClient, method: str, path: str, content: bytes | None
    ) -> bytes | CallFailure:
        """The body of a 200, or what went wrong."""
        headers = {} if content is None else {"Content-Type": "application/json"}
        try:
            async with connections.stream(method, self.base_url + path, content=content, headers=headers) as response:
                if response.status_code != 200:
                    return self._status_failure(response, await read_start(response, _FAULT_BYTES))
                return b"".join([chunk async for chunk in response.aiter_raw()])
        except AnswerCompressed as error:
            if error.response.status_code != 200:
                return self._status_failure(error.response, b"")
            return CallFailure("not_a_completion", "answered compressed, though asked not to", status=200)
        except AnswerTooLarge:
            fault = f"answered with more than {self.settings.max_response_bytes} bytes"
            return CallFailure("too_large", fault, status=200)
        except (TimeoutError, httpx.TimeoutException) as error:
            return CallFailure("time_out", f"no answer in time ({type(error).__name__})", retry=True)
        except (httpx.TransportError, OSError) as error:
            return CallFailure("connection", safe_line(f"{type(error).__name__}: {error}", self.key), retry=True)

    def _status_failure(self, response: httpx.Response, body: bytes) -> CallFailure:
        status = response.status_code
        detail = f"HTTP {status}" + ("" if status in (401, 403) else safe_line(_message(body), self.key))
        failure = CallFailure("refused", detail, status=status)
        if 300 <= status < 400:
            return replace(failure, reason="redirected", detail=f"HTTP {status}: redirects elsewhere; none is followed")
        if may_succeed_later(status):
            reason: CallFault = "rate_limited" if status == 429 else "time_out" if status == 408 else "server_error"
            return replace(failure, reason=reason, retry=True, wait_s=retry_after_s(response.headers))
        return failure


def _message(body: bytes) -> str:
    """The message of an error body as APIs write it, or nothing: HTML is not worth a line."""
    try:
        error = parse_json(body)["error"]
        message = error["message"] if isinstance(error, dict) else error
    except (ValueError, KeyError, TypeError):
        return ""
    return f": {message}" if isinstance(message, str) else ""


def read_completion(body: bytes) -> Completion | CallFailure:
    """The first choice of a chat completion's body."""
    try:
        document = parse_json(body)
        choice = document["choices"][0]
        message = choice["message"]
        text = message.get("content")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return CallFailure("not_a_completion", _what_it_is(body), status=200)
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
    async def ask() -> list[str] | CallFailure:
        async with client.open() as connections:
            return await client.models(connections)

    found, thing = run_async(ask), f"{what} {client.base_url}"
    remedy = "name the model behind the URL as #model or in the setting `model`"
    if isinstance(found, CallFailure):
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
