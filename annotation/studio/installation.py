"""Label Studio in a virtual environment of its own, as it wants other versions than the rest: `.venv-studio` in the
checkout, or the one that REGIONWISE_STUDIO_VENV names. `python -m annotation.studio.installation` makes it."""

import importlib.resources
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from annotation.studio.account import USER, Account
from annotation.studio.server_environment import studio_environment
from runtime.checkout import CHECKOUT
from runtime.exits import failed
from runtime.files import whole_file, write_whole
from runtime.locks import locked_file
from runtime.processes import tail
from schemas.errors import BadInput, RegionwiseError

ENVIRONMENT = CHECKOUT / ".venv-studio"
ENVIRONMENT_SETTING = "REGIONWISE_STUDIO_VENV"
CONSTRAINTS = importlib.resources.files("annotation.studio") / "studio-constraints.txt"
PORT = 8080
MIGRATE_TIMEOUT_S, INSTALL_TIMEOUT_S = 900, 3_600


@dataclass(frozen=True)
class Installed:
    """A Label Studio that can be started. template: an SQLite database without anybody in it, which starts faster."""

    program: Path
    template: Path


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
        copy_whole(Path(folder) / "label_studio.sqlite3", template)


def copy_whole(source: Path, target: Path) -> None:
    """Copies a file, whole or not at all."""
    with source.open("rb") as given, whole_file(target) as copy:
        shutil.copyfileobj(given, copy)


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
    except (RegionwiseError, OSError) as error:
        sys.exit(failed(error))
