"""A local Label Studio, started on loopback and ended with this process.

Its data folder holds everything it knows: database, log, and `account.json` with the generated password and token,
which only its owner may read. Not for a network: web hooks may reach this machine.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psutil

from annotation.studio.account import Account, LocalAddress, account_in, write_account, write_address
from annotation.studio.image_urls import Ask
from annotation.studio.installation import PORT, copy_whole, set_up
from annotation.studio.server_environment import studio_environment
from runtime.http import Bounds, request_once
from runtime.locks import locked_file
from runtime.processes import HOST, Process, choose_port, process, wait_until
from schemas.errors import RegionwiseError, RunInUse

#: On two cores: a known database 6 to 10 s, a fresh one about a minute, on a slow disk three.
START_TIMEOUT_S = 600
#: Of one answer of a server of our own.
BOUNDS = Bounds(connect_timeout_s=60, read_timeout_s=60, total_timeout_s=600, max_bytes=256 * 1024 * 1024)


@dataclass(frozen=True)
class Studio:
    """A running Label Studio. documents: the root of what local storages may serve. process: the server's own."""

    url: str
    account: Account
    data: Path
    documents: Path
    process: Process

    @property
    def log(self) -> Path:
        """What the server said."""
        return self.data / "studio.log"


@contextmanager
def studio(
    data: Path,
    *,
    port: int | None = None,
    documents: Path | None = None,
    database: str | None = None,
) -> Iterator[Studio]:
    """Installs Label Studio where that was not done, starts it, and stops it where the block ends.

    port: without one 8080, or any free one where that is taken. documents: the root of local images, without one
    `data`/documents. database: a postgresql:// address, without one an SQLite file in `data`.
    Raises: BadInput where `port` is taken or `database` is no such address; RunInUse where `data` is served already;
    RegionwiseError where it does not start, or does not know the account in `data`.
    """
    data = data.resolve()
    documents = (documents or data / "documents").resolve()
    chosen = choose_port(port, PORT)
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    documents.mkdir(parents=True, exist_ok=True)
    with _held(data):
        installed = set_up()
        account = account_in(data)
        settings = studio_environment(data, chosen, account, documents, database)
        if database is None and not (data / "label_studio.sqlite3").exists():
            copy_whole(installed.template, data / "label_studio.sqlite3")
        command = (str(installed.program), "start", "--no-browser", "--internal-host", HOST, "--port", str(chosen))
        log = data / "studio.log"
        with process(command, settings, log, data) as started:
            wait_until(lambda: _listens_on(started) is not None, "Label Studio", log, started, START_TIMEOUT_S)
            url = f"http://{HOST}:{_own_port(started, port)}"
            wait_until(lambda: _knows(url, account, data), "Label Studio", log, started, START_TIMEOUT_S)
            running = Studio(url, account, data, documents, started)
            write_address(LocalAddress(url, str(documents)), data)
            yield running


@contextmanager
def _held(data: Path) -> Iterator[None]:
    in_use = RunInUse(str(data), "is served by another process already", "use that one or end it")
    with locked_file(data / ".lock", lambda: in_use):
        yield


def personal_token(running: Studio) -> str:
    """A personal access token of the account, made on the first call and kept in `account.json`.

    It is what Label Studio calls a refresh token: `POST /api/token/refresh/` gives access for some minutes.
    Raises: RegionwiseError where the server does not make one.
    """
    account = account_in(running.data)
    if account.personal_token is None:
        answer = _ask("POST", f"{running.url}/api/token/", account)
        if answer.status_code != 201:
            raise RegionwiseError(running.url, f"made no personal token: HTTP {answer.status_code}", "make one there")
        account = replace(account, personal_token=str(answer.json()["token"]))
        write_account(account, running.data)
    return str(account.personal_token)


def asker(running: Studio) -> Ask:
    """Asks the running server as its account. The function raises: RegionwiseError where it refuses or is silent."""

    def ask(method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        try:
            answer = _ask(method, f"{running.url}{path}", running.account, body)
        except httpx.HTTPError as error:
            fault = f"gives no answer to {method} {path}: {type(error).__name__}"
            raise RegionwiseError(f"Label Studio at {running.url}", fault, f"read {running.log}") from None
        if not answer.is_success:
            fault = f"answers {method} {path} with HTTP {answer.status_code}: {answer.text[:200]}"
            raise RegionwiseError(f"Label Studio at {running.url}", fault, f"read {running.log}")
        return answer.json() if answer.content else None

    return ask


def _ask(method: str, url: str, account: Account, body: Mapping[str, Any] | None = None) -> httpx.Response:
    """Asks the server on loopback, past any proxy."""
    return request_once(method, url, BOUNDS, headers={"Authorization": f"Token {account.token}"}, body=body)


def _listens_on(started: Process) -> int | None:
    """The port on which the process itself listens, None for not yet: the only answer that nobody else can give."""
    try:
        connections = psutil.Process(started.pid).net_connections("tcp")
    except psutil.Error:
        return None
    return next((found.laddr.port for found in connections if found.status == psutil.CONN_LISTEN), None)


def _own_port(started: Process, wanted: int | None) -> int:
    """The server's port: where the wanted one is taken in between, Label Studio silently moves on to another."""
    found = _listens_on(started)
    if found is None or wanted not in (None, found):
        raise RegionwiseError(
            f"port {wanted}", f"was taken in between, Label Studio moved to {found}", "start it again"
        )
    return found


def _knows(url: str, account: Account, data: Path) -> bool:
    """Whether the server answers to the account's token; False for not yet."""
    try:
        answer = _ask("GET", f"{url}/api/current-user/whoami", account)
    except httpx.TransportError:
        return False
    if answer.status_code >= 500:
        return False
    if answer.status_code != 200 or answer.json().get("email") != account.user:
        fault = f"does not know the account in {data / 'account.json'}: HTTP {answer.status_code}"
        raise RegionwiseError(
            f"Label Studio at {url}", fault, "bring that file back from a copy, or give another --data"
        )
    return True
