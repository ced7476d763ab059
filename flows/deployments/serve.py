"""A Prefect server, a worker and the deployments, all on loopback and in one data folder: `make serve`.

Everything runs in processes of its own and ends with this one. Not for a network: nothing asks for a password.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import click
import httpx

from runtime.checkout import CHECKOUT
from runtime.exits import failed
from runtime.http import Bounds, parse_json, request_once
from runtime.locks import locked
from runtime.processes import HOST, Process, choose_port, interrupt_on_sigterm, process, wait_until
from schemas.errors import RegionwiseError

PORT, POOL = 4200, "regionwise"
#: A fresh database took 29 s on two cores, a known one 9 s.
START_TIMEOUT_S, COMMAND_TIMEOUT_S = 180, 120
ANSWER_BOUNDS = Bounds(connect_timeout_s=5, read_timeout_s=5, total_timeout_s=30, max_bytes=16 * 1024 * 1024)
PREFECT = (sys.executable, "-m", "prefect", "--no-prompt")


@dataclass(frozen=True)
class Served:
    """A running server. environment: what a process needs to speak to it. processes: server and worker."""

    url: str
    environment: dict[str, str]
    processes: tuple[Process, ...]


@contextmanager
def serve(data: Path, port: int | None = None) -> Iterator[Served]:
    """Starts server, work pool, deployments and worker, and stops all of them where the block ends.

    port: the server's; without one 4200, or any free one where that is taken.
    Raises: BadInput where `port` is taken; RunInUse where `data` is served already; RegionwiseError where a part of it
    does not start.
    """
    chosen = choose_port(port, PORT)
    data = data.resolve()
    environment = server_environment(data, chosen)
    url = f"http://{HOST}:{chosen}"
    with ExitStack() as stack:
        stack.enter_context(locked(data))
        log = data / "server.log"
        server = stack.enter_context(process([*PREFECT, "server", "start"], environment, log, CHECKOUT))
        wait_until(lambda: _answer(f"{url}/api/health") is True, "the Prefect server", log, server, START_TIMEOUT_S)
        _command(environment, "work-pool", "create", POOL, "--type", "process", "--overwrite")
        _command(environment, "deploy", "--all")
        log, command = data / "worker.log", [*PREFECT, "worker", "start", "--pool", POOL, "--name", f"{POOL}-local"]
        worker = stack.enter_context(process(command, environment, log, CHECKOUT))
        wait_until(lambda: _worker_is_online(url), "the Prefect worker", log, worker, START_TIMEOUT_S)
        yield Served(url, environment, (server, worker))


def server_environment(data: Path, port: int) -> dict[str, str]:
    """This process's environment with settings that keep Prefect in `data`, on loopback, and quiet."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return own | {
        "REGIONWISE_ROOT": str(CHECKOUT),
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(data / "home"),
        "PREFECT_LOCAL_STORAGE_PATH": str(data / "results"),
        "PREFECT_API_URL": f"http://{HOST}:{port}/api",
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_WORKER_WEBSERVER_HOST": HOST,
    }


def _command(environment: dict[str, str], *arguments: str) -> None:
    """One Prefect command. Raises: RegionwiseError with the last line that it printed."""
    answer = subprocess.run(
        [*PREFECT, *arguments],
        cwd=CHECKOUT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    if answer.returncode:
        last = (answer.stdout + answer.stderr).strip().splitlines()[-1:]
        raise RegionwiseError(f"prefect {' '.join(arguments)}", f"failed: {''.join(last)}", "see the logs beside")


def _worker_is_online(url: str) -> bool:
    workers = _answer(f"{url}/api/work_pools/{POOL}/workers/filter", {}) or []
    return any(worker["status"] == "ONLINE" for worker in workers)


def _answer(url: str, body: dict[str, Any] | None = None) -> Any:
    """What the server answers as JSON, or None where it does not answer."""
    try:
        answer = request_once("GET" if body is None else "POST", url, ANSWER_BOUNDS, body=body)
        return parse_json(answer.content) if answer.is_success else None
    except (httpx.HTTPError, ValueError):
        return None


def run_command(url: str) -> str:
    """The command that runs the deployment, as a person types it in the checkout."""
    prefect = Path(sys.executable).with_name("prefect")
    shown = prefect.relative_to(CHECKOUT) if prefect.is_relative_to(CHECKOUT) else prefect
    config = """--param 'config={"scenes": 24, "scene_size_px": 64, "part_requests": 4}'"""
    arguments = f"deployment run build-dataset/local --param run=runs/from-prefect {config} --watch"
    return f"PREFECT_API_URL={url}/api {shown} --no-prompt {arguments}"


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=CHECKOUT / "runs" / "prefect", help="the data folder")
@click.option("--port", type=click.IntRange(1, 65535), default=None, help="the server's port [default: 4200 or free]")
def main(data: Path, port: int | None) -> None:
    """Serve Prefect on loopback until Ctrl-C."""
    try:
        print("starting a Prefect server, about half a minute the first time", flush=True)
        with interrupt_on_sigterm(), serve(data, port) as served:
            print(f"UI:    {served.url}\ndata:  {data}\nbuild: {run_command(served.url)}\nCtrl-C stops all", flush=True)
            _watch(served, data)
    except KeyboardInterrupt:
        print("stopped", flush=True)
    except (RegionwiseError, OSError) as error:
        sys.exit(failed(error))


def _watch(served: Served, data: Path) -> NoReturn:
    while True:
        for started, name in zip(served.processes, ("server", "worker"), strict=True):
            if started.poll() is not None:
                raise RegionwiseError(f"the Prefect {name}", "ended on its own", f"read {data / name}.log")
        time.sleep(1)


if __name__ == "__main__":
    main()
