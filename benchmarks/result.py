"""Writes what a benchmark measured: a table on the terminal and `benchmarks/results/NAME.json`."""

import json
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from runtime.checkout import CHECKOUT, checkout_commit
from runtime.files import write_whole

COLUMNS = ("what", "unit", "ours", "peer", "peer_name", "ratio", "limit")


def row(
    what: str,
    unit: str,
    ours: float | None,
    peer: float | None = None,
    peer_name: str | None = None,
    *,
    higher_is_better: bool = True,
    limit: float | None = None,
    why: str | None = None,
) -> dict[str, Any]:
    """One measured row. ratio above 1: ahead of the peer. limit: what the figure could be at best, same unit."""
    ratio = None
    if ours is not None and peer is not None and ours > 0 and peer > 0:
        ratio = ours / peer if higher_is_better else peer / ours
    figures = {"what": what, "unit": unit, "ours": ours, "peer": peer, "peer_name": peer_name}
    return figures | {"ratio": ratio, "limit": limit} | ({"why": why} if why else {})


def write_result(name: str, rows: Sequence[dict[str, Any]], **extra: Any) -> Path:
    """Prints `rows` and writes them with commit and machine; `extra` keys stand beside them."""
    table = Table(*COLUMNS, title=name)
    for figures in rows:
        table.add_row(*(_cell(figures[column]) for column in COLUMNS))
    Console(width=160).print(table)
    path = CHECKOUT / "benchmarks" / "results" / f"{name}.json"
    result = {"name": name, "commit": checkout_commit(), "machine": _machine(), "rows": list(rows), **extra}
    write_whole(path, json.dumps(result, indent=1) + "\n")
    return path


def once(path: Path, made_of: dict[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make` gives, kept in `path`, so that a measurement that is started again need not make it again.

    made_of: JSON of all it depends on but the code; where the file says otherwise it is made anew.
    """
    if path.is_file():
        kept = json.loads(path.read_bytes())
        if kept["made_of"] == made_of:
            return dict(kept["made"])
    made = make()
    write_whole(path, json.dumps({"made_of": made_of, "made": made}, indent=1) + "\n")
    return made


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _machine() -> dict[str, Any]:
    return {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count(), "gpu": None}
