"""Bounded HTTP: what a server does beyond the bounds is an error that says which, with and without an event loop."""

import asyncio
import gzip
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx
import pytest

from runtime.http import (
    FAULT_CHARS,
    AnswerCompressed,
    AnswerTooLarge,
    AnswerTooSlow,
    Bounds,
    backoff_s,
    may_succeed_later,
    open_async_client,
    open_client,
    parse_json,
    read_secret,
    read_start,
    retry_after_s,
    safe_line,
    split_url,
)
from schemas.errors import BadInput
from tests.cases.local_http import LocalHttp

BOUNDS = Bounds(connect_timeout_s=5, read_timeout_s=5, total_timeout_s=0.5, max_bytes=1000)
SERVER = "server"


class _Handler(BaseHTTPRequestHandler):
    """/ok, /bytes/N, /slow (a byte now and then, without end), /gzip and /away, which redirects to /ok."""

    over: Any

    def do_GET(self) -> None:
        kind, _, number = self.path.strip("/").partition("/")
        self.send_response(302 if kind == "away" else 200)
        body = gzip.compress(b"{}") if kind == "gzip" else b"x" * int(number or 2)
        if kind == "gzip":
            self.send_header("Content-Encoding", "gzip")
        if kind == "away":
            self.send_header("Location", "/ok")
        self.end_headers()
        while kind == "slow" and not self.over.wait(0.05):
            self.wfile.write(b"x")
            self.wfile.flush()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with LocalHttp(type("Handler", (_Handler,), {})) as server:
        _Handler.over = server.over
        import_backend()
        yield server.address


def import_backend() -> None:
    """What httpx imports with its first request in an event loop takes longer than `BOUNDS` allow."""
    from anyio._backends import _asyncio  # noqa: F401


def _get(url: str) -> httpx.Response:
    with open_client(BOUNDS) as client:
        return client.get(url)


def _async_get(url: str) -> httpx.Response:
    async def get() -> httpx.Response:
        async with open_async_client(BOUNDS, max_connections=1) as client:
            return await client.get(url)

    return asyncio.run(get())


Get = Callable[[str], httpx.Response]
both = pytest.mark.parametrize("get", [_get, _async_get])


@both
def test_an_answer_within_bounds_is_passed_on(address: str, get: Get) -> None:
    assert get(f"{address}/bytes/1000").content == b"x" * 1000


@both
def test_an_answer_beyond_the_bytes_is_an_error(address: str, get: Get) -> None:
    with pytest.raises(AnswerTooLarge):
        get(f"{address}/bytes/1001")


@pytest.mark.parametrize(("get", "error"), [(_get, AnswerTooSlow), (_async_get, TimeoutError)])
def test_an_answer_that_trickles_is_an_error(address: str, get: Get, error: type[Exception]) -> None:
    with pytest.raises(error):
        get(f"{address}/slow")


@both
def test_a_compressed_answer_is_an_error_with_its_status(address: str, get: Get) -> None:
    with pytest.raises(AnswerCompressed) as caught:
        get(f"{address}/gzip")
    assert caught.value.response.status_code == 200


@both
def test_no_redirect_is_followed_and_no_proxy_taken(address: str, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert get(f"{address}/away").status_code == 302


def test_the_start_of_a_long_body_is_read_and_no_more(address: str) -> None:
    async def start(path: str) -> bytes:
        async with open_async_client(BOUNDS, max_connections=1) as client, client.stream("GET", address + path) as it:
            return await read_start(it, 10)

    assert asyncio.run(start("/bytes/500")) == b"x" * 10
    assert asyncio.run(start("/bytes/3")) == b"xxx"
    assert len(asyncio.run(start("/bytes/5000"))) <= 10


def test_waits_double_and_some_statuses_are_tried_again() -> None:
    assert [backoff_s(0.5, attempt) for attempt in (1, 2, 3)] == [0.5, 1.0, 2.0]
    assert [status for status in (200, 400, 401, 404, 408, 425, 429, 500, 503) if may_succeed_later(status)] == [
        *(408, 425, 429, 500, 503)
    ]


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after_s({"retry-after": " 7 "}) == 7
    later = datetime.now(UTC) + timedelta(seconds=100)
    assert retry_after_s({"retry-after": format_datetime(later)}) == pytest.approx(100, abs=5)
    assert retry_after_s({"retry-after": format_datetime(later - timedelta(days=1))}) == 0
    for nothing in ("", "-1", "1e3", "soon", "9" * 12):
        assert retry_after_s({"retry-after": nothing}) is None


def test_a_line_is_short_printable_and_without_secrets() -> None:
    token = "eyJhbGciOi.eyJzdWIi.c2ln"
    assert safe_line(f"bad\x1b[31m  key\ns3cret and {token}!", "s3cret") == "bad [31m key *** and ***!"
    assert len(safe_line("x" * 1000)) == FAULT_CHARS
    assert safe_line("nothing is blotted out for an empty secret", "") == "nothing is blotted out for an empty secret"


def test_json_that_is_none_or_nested_too_deeply_is_one_kind_of_error() -> None:
    assert parse_json(b"[1]") == [1]
    for body in (b"", b"<html>", b"[" * 200_000):
        with pytest.raises(ValueError, match=r"."):
            parse_json(body)


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://a b", "http://x:0", "http://[", "//x", "http://\u00e4"])
def test_a_url_that_is_none_is_one_line(url: str) -> None:
    with pytest.raises(BadInput, match="its URL is no http or https URL; give another"):
        split_url(url, SERVER, "give another")


@pytest.mark.parametrize(
    ("value", "url", "said"),
    [
        ("", "https://x", "^environment variable KEY: is not set; put it there$"),
        ("a b", "https://x", "holds characters that no token has"),
        ("t\u00f6ken", "https://x", "holds characters that no token has"),
        ("t0ken", "http://x", "^server: would be sent the token unencrypted; use https$"),
    ],
)
def test_a_secret_that_cannot_be_sent_is_one_line_without_it(
    monkeypatch: pytest.MonkeyPatch, value: str, url: str, said: str
) -> None:
    monkeypatch.setenv("KEY", value)
    with pytest.raises(BadInput, match=said) as error:
        read_secret("KEY", "token", url, SERVER, "put it there")
    assert not value or value not in str(error.value)


@pytest.mark.parametrize("url", ["https://x", "http://127.0.0.1:1", "http://localhost", "http://[::1]:80/v1"])
def test_a_secret_goes_to_this_machine_or_encrypted(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("KEY", " token\n")
    assert read_secret("KEY", "token", url, SERVER, "") == "token"
