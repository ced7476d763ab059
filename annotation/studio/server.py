"""A local Label Studio: installed into a virtual environment of its own, started on loopback, ended with this process.

Label Studio wants other versions than the rest, so it has its own environment: `.venv-studio` in the checkout, or the
one that REGIONWISE_STUDIO_VENV names. Its data folder holds everything it knows: database, log, and `account.json` with
the generated password and token, which only its owner may read. Not for a network: web hooks may reach this machine.
"""

import importlib.resources
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import psutil

from annotation.studio.image_urls import Ask
from runtime.checkout import CHECKOUT
from runtime.files import whole_file, write_whole
from runtime.locks import locked_file
from runtime.processes import HOST, Process, choose_port, process, tail, wait_until
from schemas.errors import BadInput, RegionwiseError, RunInUse

ENVIRONMENT = CHECKOUT / ".venv-studio"
ENVIRONMENT_SETTING = "REGIONWISE_STUDIO_VENV"
CONSTRAINTS = importlib.resources.files("annotation.studio") / "studio-constraints.txt"
PORT, USER = 8080, "studio@localhost"
#: On two cores: a known database 6 to 10 s, a fresh one about a minute, on a slow disk three.
START_TIMEOUT_S, MIGRATE_TIMEOUT_S, INSTALL_TIMEOUT_S, ANSWER_TIMEOUT_S = 600, 900, 3_600, 60
#: What Label Studio gets of this process's environment: it reads names as plain as HOST, PORT, USERNAME and DEBUG.
KEPT_NAMES = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
KEPT_PREFIXES = ("AWS_",)
#: Nothing is reported to anybody, and no version is asked for.
SILENT = {
    "COLLECT_ANALYTICS": "false",
    "LATEST_VERSION_CHECK": "false",
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
}


@dataclass(frozen=True)
class Installed:
    """A Label Studio that can be started. template: an SQLite database without anybody in it, which starts faster."""

    program: Path
    template: Path


@dataclass(frozen=True)
class Account:
    """Who signs in. token: 40 hex digits; personal_token: made on the first call for it. Neither is ever shown."""

    user: str
    password: str = field(repr=False)
    token: str = field(repr=False)
    personal_token: str | None = field(default=None, repr=False)


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
            _copy_whole(installed.template, data / "label_studio.sqlite3")
        command = (str(installed.program), "start", "--no-browser", "--internal-host", HOST, "--port", str(chosen))
        log = data / "studio.log"
        with process(command, settings, log, data) as started:
            wait_until(lambda: _listens_on(started) is not None, "Label Studio", log, started, START_TIMEOUT_S)
            url = f"http://{HOST}:{_own_port(started, port)}"
            wait_until(lambda: _knows(url, account, data), "Label Studio", log, started, START_TIMEOUT_S)
            running = Studio(url, account, data, documents, started)
            _tell_address(running)
            yield running


@dataclass(frozen=True)
class LocalAddress:
    """Where the server of a data folder is, or last was."""

    url: str
    documents: str


def _tell_address(running: Studio) -> None:
    """Leaves the address in the data folder, for commands on this machine."""
    address = LocalAddress(running.url, str(running.documents))
    write_whole(running.data / "address.json", json.dumps(asdict(address)))


def local_address(data: Path) -> LocalAddress:
    """The address in a data folder. Raises: BadInput where no server ran there."""
    try:
        return LocalAddress(**json.loads((data / "address.json").read_text()))
    except (OSError, ValueError, TypeError):
        raise BadInput(str(data), "is the data folder of no local Label Studio", "start one: `make studio`") from None


@contextmanager
def _held(data: Path) -> Iterator[None]:
    in_use = RunInUse(str(data), "is served by another process already", "use that one or end it")
    with locked_file(data / ".lock", lambda: in_use):
        yield


def studio_environment(
    data: Path, port: int, account: Account, documents: Path, database: str | None = None
) -> dict[str, str]:
    """What Label Studio's process is told: data in `data`, loopback only, closed sign-up, and silence.

    Raises: BadInput where `database` is no postgresql:// address.
    """
    own = {name: value for name, value in os.environ.items() if name in KEPT_NAMES or name.startswith(KEPT_PREFIXES)}
    return own | SILENT | _database(database) | {
        "LABEL_STUDIO_BASE_DATA_DIR": str(data),
        "LABEL_STUDIO_PORT": str(port),
        "LABEL_STUDIO_USERNAME": account.user,
        "LABEL_STUDIO_PASSWORD": account.password,
        "LABEL_STUDIO_USER_TOKEN": account.token,
        # Read when the organisation is made, so it must be there from the first start on.
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(documents),
        # `regionwise collect` listens for web hooks on this machine.
        "SSRF_PROTECTION_ENABLED": "false",
    }  # fmt: skip


def _database(address: str | None) -> dict[str, str]:
    """Label Studio's settings of a database, SQLite without an address."""
    if address is None:
        return {"LABEL_STUDIO_DJANGO_DB": "sqlite"}
    try:
        parts = urlsplit(address)
        port = parts.port or 5432
    except ValueError:
        parts, port = urlsplit(""), 0
    name = parts.path.removeprefix("/")
    if parts.scheme != "postgresql" or not (parts.hostname and parts.username and name):
        raise BadInput("database", "is no PostgreSQL address", "give postgresql://USER:PASSWORD@HOST:PORT/NAME")
    return {
        "LABEL_STUDIO_DJANGO_DB": "default",
        "LABEL_STUDIO_POSTGRE_USER": unquote(parts.username),
        "LABEL_STUDIO_POSTGRE_PASSWORD": unquote(parts.password or ""),
        "LABEL_STUDIO_POSTGRE_NAME": unquote(name),
        "LABEL_STUDIO_POSTGRE_HOST": parts.hostname,
        "LABEL_STUDIO_POSTGRE_PORT": str(port),
    }


def account_in(data: Path) -> Account:
    """The account of a data folder, made up on the first call and kept in `account.json`, for its owner's eyes only.

    Raises: BadInput where the file is there and is none.
    """
    path = data / "account.json"
    if not path.exists():
        _keep(Account(USER, secrets.token_urlsafe(12), secrets.token_hex(20)), data)
    try:
        account = Account(**json.loads(path.read_text()))
        if not all(isinstance(part, str) and part for part in (account.user, account.password, account.token)):
            raise ValueError("empty")
    except (TypeError, ValueError):
        raise BadInput(str(path), "is no account", "bring it back from a copy, or give another --data") from None
    return account


def _keep(account: Account, data: Path) -> None:
    """Writes the account whole, readable by its owner alone from its first byte on."""
    write_whole(data / "account.json", json.dumps(asdict(account)), mode=0o600)


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
        _keep(account, running.data)
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
    headers = {"Authorization": f"Token {account.token}"}
    return httpx.request(method, url, headers=headers, json=body, timeout=ANSWER_TIMEOUT_S, trust_env=False)


def _listens_on(started: Process) -> int | None:
    """The port on which the process itself listens, None for not yet: the only answer that nobody else can give."""
    try:
        connections = psutil.Process(started.pid).net_connections("tcp")
    except psutil.Error:
        return None
    return next((found.laddr.port for found in connections if found.status == psutil.CONN_LISTEN), None)


def _own_port(started: Process, wanted: int | None) -> int:
    """The server's port: it moves on without a word where the one that it was told is taken in between."""
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


def set_up() -> Installed:
    """Label Studio in its own environment with a template database, made on the first call: 1 GB, some minutes.

    Raises: RegionwiseError where that fails, BadInput where REGIONWISE_STUDIO_VENV names no such environment.
    """
    ENVIRONMENT.mkdir(exist_ok=True)
    with locked_file(ENVIRONMENT / ".lock"):
        given = os.environ.get(ENVIRONMENT_SETTING)
        if not given:
            _install(ENVIRONMENT)
        folder = Path(given).absolute() if given else ENVIRONMENT
        program = folder / "bin" / "label-studio"
        found, wanted = _version(folder), _pinned()
        if found != wanted:
            fault = f"has Label Studio {found}, expected {wanted}" if found else "has no Label Studio in it"
            raise BadInput(str(folder), fault, f"remove it, or set {ENVIRONMENT_SETTING} to another")
        template = ENVIRONMENT / f"template-{found}.sqlite3"
        if not template.exists():
            _make_template(program, template)
        return Installed(program, template)


def _pinned() -> str:
    """The version of Label Studio in the constraints."""
    lines = CONSTRAINTS.read_text().splitlines()
    return next(line for line in lines if line.startswith("label-studio==")).partition("==")[2]


def _version(folder: Path) -> str | None:
    """The version of Label Studio in a virtual environment, None without one."""
    found = sorted(folder.glob("lib/python3*/site-packages/label_studio-*.dist-info"))
    started = found and (folder / "bin" / "label-studio").is_file()
    return found[0].name.removeprefix("label_studio-").removesuffix(".dist-info") if started else None


def _install(folder: Path) -> None:
    """Installs what the constraints say, once for each change of theirs."""
    stamp, wanted = folder / ".set-up", sha256(CONSTRAINTS.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    begun = time.monotonic()
    print(f"set-up: installing Label Studio into {folder.name}", file=sys.stderr, flush=True)
    log = folder / "set-up.log"
    _run([sys.executable, "-m", "venv", str(folder)], log, dict(os.environ), INSTALL_TIMEOUT_S)
    with importlib.resources.as_file(CONSTRAINTS) as constraints:
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--constraint", str(constraints), "label-studio"], log, dict(os.environ), INSTALL_TIMEOUT_S)
    write_whole(stamp, wanted)
    print(f"set-up: Label Studio, {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)


def _make_template(program: Path, template: Path) -> None:
    """An SQLite database with all of Label Studio's tables and nobody in it.

    Its some 500 steps each wait for the disk, so they are made in memory where there is a folder for that.
    """
    print("set-up: Label Studio's tables", file=sys.stderr, flush=True)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        nobody = Account(USER, "", "")
        settings = studio_environment(Path(folder), PORT, nobody, Path(folder))
        _run([str(program), "version"], template.with_suffix(".log"), settings, MIGRATE_TIMEOUT_S)
        _copy_whole(Path(folder) / "label_studio.sqlite3", template)


def _copy_whole(source: Path, target: Path) -> None:
    with source.open("rb") as file, whole_file(target) as copy:
        shutil.copyfileobj(file, copy)


def _run(command: list[str], log: Path, settings: dict[str, str], timeout_s: float) -> None:
    """Runs a command to its end. Raises: RegionwiseError with the end of its log."""
    with log.open("ab") as output:
        try:
            ended = subprocess.run(
                command, env=settings, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=timeout_s
            )
        except subprocess.TimeoutExpired:
            raise RegionwiseError(Path(command[0]).name, f"took more than {timeout_s:g} s", f"read {log}") from None
    if ended.returncode:
        raise RegionwiseError(Path(command[0]).name, f"failed: {tail(log)}", f"read {log}")


if __name__ == "__main__":
    try:
        set_up()
    except RegionwiseError as error:
        sys.exit(f"regionwise: {error}")
