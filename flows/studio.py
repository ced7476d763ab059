"""A local Label Studio with a run's candidates to rate, all on loopback and in one data folder: `make studio`.

It runs in a process of its own and ends with this one.
"""

import sys
import time
from pathlib import Path
from typing import NoReturn

import click

from annotation.studio.link import require_link
from annotation.studio.server import Studio, studio
from flows.push import push_run
from flows.push_settings import PushSettings
from runtime.checkout import CHECKOUT
from runtime.exits import failed
from runtime.processes import interrupt_on_sigterm
from schemas.errors import RegionwiseError


def prepare_project(running: Studio, run: Path) -> int:
    """The number of the project on the server where the run's tasks are, pushed now where they are not there.

    Raises: BadInput where `run` is no run, RegionwiseError where the server refuses.
    """
    done = push_run(run, PushSettings(url=running.url, studio=running.data))
    print(f"pushed: {done['new']} new, {done['known']} there before", flush=True)
    return next(iter(require_link(run).projects.values()))


@click.command()
@click.option("--run", type=click.Path(path_type=Path), default=CHECKOUT / "runs" / "demo", help="the run to rate")
@click.option("--data", type=click.Path(path_type=Path), default=CHECKOUT / "runs" / "studio", help="the data folder")
@click.option("--port", type=click.IntRange(1, 65535), default=None, help="the server's port [default: 8080 or free]")
@click.option(
    "--database", envvar="REGIONWISE_STUDIO_DATABASE", default=None, help="postgresql://... [default: SQLite]"
)
def main(run: Path, data: Path, port: int | None, database: str | None) -> None:
    """Serve Label Studio on loopback until Ctrl-C."""
    try:
        print("starting Label Studio", flush=True)
        with interrupt_on_sigterm(), studio(data, port=port, database=database) as running:
            number = prepare_project(running, run)
            print(_where(running, number), flush=True)
            _watch(running)
    except KeyboardInterrupt:
        print("stopped", flush=True)
    except (RegionwiseError, OSError) as error:
        sys.exit(failed(error))


def _where(running: Studio, number: int) -> str:
    """What a person needs to sign in; the token stays in its file."""
    lines = {
        "page": f"{running.url}/projects/{number}/data",
        "user": running.account.user,
        "password": running.account.password,
        "token": f"in {running.data / 'account.json'}",
        "data": str(running.data),
    }
    return "\n".join([*(f"{name + ':':10}{value}" for name, value in lines.items()), "Ctrl-C stops it"])


def _watch(running: Studio) -> NoReturn:
    while running.process.poll() is None:
        time.sleep(1)
    raise RegionwiseError("Label Studio", "ended on its own", f"read {running.log}")


if __name__ == "__main__":
    main()
