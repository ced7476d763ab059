"""What the integration tests do to runs: build them with the real command, and read what lies on the disk."""

import hashlib
import subprocess
import sys
from pathlib import Path

#: Scenes that take a fraction of a second each; tars of 16 samples, so that there are several.
SMALL = ("--scene-size-px", "64", "--size-px", "64", "--shard-samples", "16")


def command(run: Path, *more: str) -> list[str]:
    """`regionwise build` on small scenes, as a process is started with."""
    return [sys.executable, "-m", "flows.cli", "build", "--run", str(run), *SMALL, "--json", *more]


def build(run: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    """Runs the command to its end."""
    return subprocess.run(command(run, *more), capture_output=True, text=True, timeout=300, check=False)


def tars(run: Path) -> dict[str, str]:
    """sha256 of every tar of the dataset, by name."""
    paths = sorted((run / "dataset").glob("*.tar"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def attempts(run: Path) -> dict[str, int]:
    """How often each stage was begun on each part."""
    return {path.relative_to(run).as_posix(): int(path.read_text()) for path in sorted(run.glob("*/part-*.attempts"))}


def written(run: Path) -> dict[str, int]:
    """When each tar of the dataset was written, in ns."""
    return {path.name: path.stat().st_mtime_ns for path in sorted((run / "dataset").glob("*.tar"))}
