"""The webhook receiver: it wakes, and whatever a caller does it answers at once or not at all, and keeps nothing."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from threading import Thread

import httpx
import pytest

from annotation.studio.webhook import MAX_CALLERS, SECRET_HEADER, WebhookReceiver
from schemas.errors import BadInput

SECRET = "0123456789abcdef-secret"


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver(SECRET) as listening:
        yield listening


def _call(receiver: WebhookReceiver, secret: str | None = SECRET, content: bytes = b"{}") -> int:
    headers = {} if secret is None else {SECRET_HEADER: secret}
    return httpx.post(receiver.url, content=content, headers=headers, timeout=5, verify=False).status_code


def _raw(receiver: WebhookReceiver, text: str) -> bytes:
    """The answer to bytes sent as they are; nothing more is sent."""
    host, port = receiver.url.removeprefix("http://").rstrip("/").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as caller:
        caller.sendall(text.encode())
        return caller.makefile("rb").read()


def test_a_call_with_the_secret_wakes_once(receiver: WebhookReceiver) -> None:
    assert not receiver.wait(0)
    assert _call(receiver) == 204
    assert receiver.wait(5)
    assert not receiver.wait(0)


def test_a_call_wakes_who_waits_already(receiver: WebhookReceiver) -> None:
    woken: list[bool] = []
    waiting = Thread(target=lambda: woken.append(receiver.wait(20)))
    waiting.start()
    assert _call(receiver, content=b"x" * 100_000) == 204
    waiting.join(20)
    assert woken == [True]


@pytest.mark.parametrize("secret", [None, "", "0123456789abcdef-secreT", SECRET[:-1], SECRET + "x", "ü"])
def test_no_secret_or_another_one_is_refused_and_wakes_nobody(receiver: WebhookReceiver, secret: str | None) -> None:
    text = f"POST / HTTP/1.1\r\nHost: x\r\n{'' if secret is None else f'{SECRET_HEADER}: {secret}'}\r\n"
    assert _raw(receiver, text + "Content-Length: 0\r\n\r\n").startswith(b"HTTP/1.0 401")
    assert not receiver.wait(0)


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Content-Length: 104857600", b"413"),
        (f"Content-Length: {'9' * 400}", b"413"),
        ("Content-Length: -1", b"411"),
        ("Content-Length: many", b"411"),
        ("Transfer-Encoding: chunked", b"411"),
    ],
)
def test_100_mb_or_a_body_of_unknown_length_is_refused_unread(
    receiver: WebhookReceiver, header: str, status: bytes
) -> None:
    text = f"POST / HTTP/1.1\r\nHost: x\r\n{SECRET_HEADER}: {SECRET}\r\n{header}\r\n\r\n"
    assert _raw(receiver, text).startswith(b"HTTP/1.0 " + status)
    assert not receiver.wait(0)


def test_the_answer_does_not_wait_for_the_body_and_other_callers_not_for_a_slow_one(receiver: WebhookReceiver) -> None:
    host, port = receiver.url.removeprefix("http://").rstrip("/").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as slow:
        slow.sendall(b"POST / HTTP/1.1\r\n")
        assert _call(receiver) == 204
        text = f"Host: x\r\n{SECRET_HEADER}: {SECRET}\r\nContent-Length: 1000\r\n\r\n"
        slow.sendall(text.encode())
        assert slow.recv(100).startswith(b"HTTP/1.0 204")


def test_only_so_many_callers_at_once_have_a_thread(receiver: WebhookReceiver) -> None:
    host, port = receiver.url.removeprefix("http://").rstrip("/").split(":")
    with ExitStack() as held:
        for _ in range(MAX_CALLERS):
            silent = held.enter_context(socket.create_connection((host, int(port)), timeout=10))
            time.sleep(0.01)  # more at once than the server's backlog holds would try again after a second
            silent.setblocking(False)
            with pytest.raises(BlockingIOError):
                silent.recv(1)
        for _ in range(24):
            with socket.create_connection((host, int(port)), timeout=1) as one_more, suppress(ConnectionResetError):
                assert one_more.recv(1) == b""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            assert _call(receiver) == 204
            break
        except httpx.TransportError:
            time.sleep(0.02)
    assert receiver.wait(5)


def test_other_methods_are_refused(receiver: WebhookReceiver) -> None:
    assert httpx.get(receiver.url, headers={SECRET_HEADER: SECRET}).status_code == 501
    assert not receiver.wait(0)


@pytest.mark.parametrize("secret", ["", "short", "x" * 15, "a" * 15 + "\n", "ü" * 20])
def test_a_receiver_without_a_secret_is_not_made(secret: str) -> None:
    with pytest.raises(BadInput, match="16 printable characters"):
        WebhookReceiver(secret)


def test_a_taken_port_is_one_line(receiver: WebhookReceiver) -> None:
    port = int(receiver.url.rstrip("/").rpartition(":")[2])
    with pytest.raises(BadInput, match=rf"^127.0.0.1:{port}: cannot be listened on"):
        WebhookReceiver(SECRET, port=port)
