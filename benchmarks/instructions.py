"""`python -m benchmarks.instructions`: how often the parser reads an instruction exactly as a person wrote it down.

`tests/golden/instructions.jsonl` has 200 instructions with what they ask for, committed before the parser;
`instructions.md` beside it says what is exact. `tune` was looked at while the parser was written, `held_out` not.
`instructions_after.jsonl` has 162 written when the parser stood: `looked_at`, whose errors were then read (at first
sight 49 of 62 were exact, .79), and `once`, written after that and not looked into. All are by the parser's author;
they say how it fares on what its author imagines, not on what users write. Intervals: Wilson, 95 %.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.result import row, write_result
from pipeline.requests.instructions import CannotParse, parse_instruction
from pipeline.requests.instructions import lexicon as words
from runtime.checkout import CHECKOUT

GOLDEN = tuple(CHECKOUT / "tests" / "golden" / name for name in ("instructions.jsonl", "instructions_after.jsonl"))
PARTS = ("held_out", "tune", "once", "looked_at")
#: 97.5 % of the normal distribution lie below.
Z = 1.959964
PEER = "first noun phrase behind the verb"
REMOVING = ("remove", "erase", "delete", "eliminate", "take", "get", "cut", "wipe")
ADDING = ("add", "insert", "put", "place", "draw", "hang", "include", "give")


def golden_lines(paths: Sequence[Path] = GOLDEN) -> list[dict[str, Any]]:
    """The lines of the files of instructions with what they ask for."""
    return [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]


def read(instruction: str) -> dict[str, Any]:
    """What the parser makes of an instruction, in the form of the file."""
    try:
        plain = parse_instruction(instruction).as_json()
    except CannotParse as error:
        return {"reject": error.reason}
    plain.pop("unread", None)
    return plain


def read_naively(instruction: str) -> dict[str, Any]:
    """The same by the peer: the verb says the role, a colour behind the noun is the new one, all else is left open."""
    found = re.match(
        r"(?:please )?(\w+)(?: away| rid of)? (?:the |a |an |her |his |its |all )*([\w' -]+)", instruction.lower()
    )
    if found is None:
        return {"reject": "no_target"}
    thing = re.split(r" (?:and|with|to|for|on|in|into|from|except)\b", found[2])[0].strip()
    colour = re.search(rf"^(.+?) ({words.COLOR})$", found[2])
    target: dict[str, Any] = {"label": thing, "role": "change", "operation": "other", "phrase": {"head": thing}}
    if found[1] in REMOVING:
        target |= {"role": "remove", "operation": "remove"}
    elif found[1] in ADDING:
        target |= {"role": "add", "operation": "insert", "parameters": {"shape": thing}}
    elif colour is not None:
        target |= {"label": colour[1], "operation": "recolour", "phrase": {"head": colour[1]}}
        target |= {"parameters": {"color": colour[2]}}
    return {"targets": [target]}


def things_of(plain: dict[str, Any]) -> Any:
    """Only which things, and whether each changes, appears or goes; or the reject."""
    if "reject" in plain:
        return plain["reject"]
    return [(target["role"], target.get("phrase", {}).get("head")) for target in plain["targets"]]


def wilson(hits: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share, after Wilson (1927). Raises: ValueError for no trials."""
    if total < 1:
        raise ValueError("a share needs at least one trial")
    share = hits / total
    middle = (share + Z**2 / (2 * total)) / (1 + Z**2 / total)
    half = Z / (1 + Z**2 / total) * math.sqrt(share * (1 - share) / total + Z**2 / (4 * total**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def measured(lines: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The rows of one part of the file."""
    asked = [(line["expected"], read(line["instruction"]), read_naively(line["instruction"])) for line in lines]
    total = len(asked)
    views: dict[str, Callable[[dict[str, Any]], Any]] = {"exact": dict, "things and roles": things_of}
    rows = []
    for what, view in views.items():
        hits, peer_hits = (sum(view(each[0]) == view(each[k]) for each in asked) for k in (1, 2))
        low, high = wilson(hits, total)
        figures = row(f"{name}: {what}", "share", hits / total, peer_hits / total, PEER, limit=1.0)
        rows.append(figures | {"low": low, "high": high, "n": total})
    return rows


def main() -> None:
    """Measures every part and writes `benchmarks/results/instructions.json`."""
    lines = golden_lines()
    halves = {half: [line for line in lines if line["half"] == half] for half in PARTS}
    rows = [figures for half, part in halves.items() for figures in measured(part, half)]
    kinds: dict[str, list[int]] = {}
    for line in halves["held_out"]:
        counts = kinds.setdefault(line["kind"], [0, 0])
        counts[0] += read(line["instruction"]) == line["expected"]
        counts[1] += 1
    for figures in rows:
        print(
            f"{figures['what']}: {figures['ours']:.3f} [{figures['low']:.3f}, {figures['high']:.3f}], n {figures['n']}"
        )
    write_result("instructions", rows, held_out_exact_by_kind=kinds, interval="Wilson, 95 %", note=__doc__)


if __name__ == "__main__":
    main()
