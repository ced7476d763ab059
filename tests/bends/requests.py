"""Strikes on what a build reads: request files of each form, and the pictures that they name."""

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from tests.bends.grounds import Grounds, build_words, rejects_of, require_sound, require_whole, samples_of
from tests.bends.outcome import AS_WRITTEN, ONE_LINE, OUTCOMES, REJECT, RIGHT, Struck
from tests.bends.typed import Ended, typed
from tests.cases.bending_files import CSV_KINDS, FILE_KINDS, PARQUET_KINDS, PICTURE_KINDS, in_bytes, table_of
from tests.cases.bendings import BYTE_KINDS, FIELD_KINDS, TEXT_KINDS, Fields, Kind, N, written
from tests.chaos.processes import Broken

FIELDS, PICTURES = FIELD_KINDS, (*map(in_bytes, PICTURE_KINDS), *FILE_KINDS)
BYTES = {
    "jsonl": (*TEXT_KINDS, *BYTE_KINDS),
    "csv": (*TEXT_KINDS, *CSV_KINDS, *BYTE_KINDS),
    "parquet": (*PARQUET_KINDS, *BYTE_KINDS),
}
#: Reasons of a request that says what another, bent one says now.
_COLLIDED = ("duplicate_id", "duplicate_request", "duplicate_across_sources")


def strike_fields(grounds: Grounds, form: str, kind: Kind, chance: Random) -> Struck:
    """Bends the record of one request."""
    lines, at = grounds.lines(), chance.randrange(N)
    name = lines[at]["id"]
    kind.apply(lines[at], chance)
    return _built(grounds, form, written(lines, form), {name}, kind, f"{name} of requests.{form}", lines[at])


def strike_bytes(grounds: Grounds, form: str, kind: Kind, chance: Random) -> Struck:
    """Bends the bytes of a request file."""
    lines, at = grounds.lines(), chance.randrange(N)
    data = written(lines, form)
    bent = _bent(lines, data, form, at, kind, chance)
    touched = _other_rows(data, bent) if form == "parquet" else _other_lines(data, bent, form)
    bent_names = {lines[index]["id"] for index in touched}
    return _built(grounds, form, bent, bent_names, kind, f"requests.{form} at {lines[at]['id']}")


def _bent(lines: list[Fields], data: bytes, form: str, at: int, kind: Kind, chance: Random) -> bytes:
    if kind in CSV_KINDS:
        return bytes(kind.apply(lines, at, chance))
    if kind in PARQUET_KINDS:
        return bytes(kind.apply(table_of(lines), at, chance))
    return bytes(kind.apply(data, at, chance))


def _other_lines(data: bytes, bent: bytes, form: str) -> Sequence[int]:
    """The requests whose lines are not in a bent file any more; all where the header is another."""
    before, after = data.replace(b"\r", b"").split(b"\n"), bent.replace(b"\r", b"").split(b"\n")
    if form == "csv" and before.pop(0) != after[0]:
        return range(N)
    return [index for index in range(N) if before[index] not in after]


def _other_rows(data: bytes, bent: bytes) -> Sequence[int]:
    """The requests that read otherwise in a bent table."""
    try:
        rows = pq.read_table(BytesIO(bent)).to_pylist()
    except (pa.ArrowException, OSError, ValueError, OverflowError, LookupError):
        return range(N)
    return [index for index, row in enumerate(pq.read_table(BytesIO(data)).to_pylist()) if row not in rows]


def strike_picture(grounds: Grounds, kind: Kind, chance: Random) -> Struck:
    """Bends a source or a candidate."""
    at = chance.randrange(N)
    name, place = f"{chance.choice(['source', 'edited'])}-{at}.png", grounds.place()
    file, picture = grounds.write(place, "jsonl"), place / "photos" / name
    data, grounds.what = picture.read_bytes(), name
    kind.apply(picture, chance)
    ended = typed(*build_words(place / "run", file))
    struck = _judged(grounds, place / "run", ended, {f"r{at}"}, kind, name)
    if struck.said.startswith("missing_file"):
        _put_back(picture, data)
        typed("resume", "--run", str(place / "run")).require_done()
        grounds.require_unbent(place / "run")
    return struck


def _put_back(path: Path, data: bytes) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        path.rmdir()
    path.write_bytes(data)


def _built(
    grounds: Grounds, form: str, data: bytes, touched: set[str], kind: Kind, what: str, line: Fields | None = None
) -> Struck:
    """What becomes of a bent request file; one that is refused is written right again, and the command repeated."""
    place, grounds.what = grounds.place(), what
    run, file = place / "run", grounds.write(place, form, data)
    ended = typed(*build_words(run, file))
    struck = _judged(grounds, run, ended, touched, kind, what, line)
    if struck.outcome == ONE_LINE:
        grounds.write(place, form)
        again = typed(*build_words(run, file))
        if again.code and "its bytes changed" not in again.line():
            raise Broken(f"with the file right again: {again.line()}")
        if not again.code:
            grounds.require_unbent(run, form)
        elif not (run / "run.json").is_file():
            raise Broken(f"refused twice, and no run: {again.line()}")
    return struck


def _judged(
    grounds: Grounds, run: Path, ended: Ended, touched: set[str], kind: Kind, what: str, line: Fields | None = None
) -> Struck:
    if ended.code:
        require_whole(run)
        if (run / "dataset").exists():
            raise Broken(f"it left a dataset behind: {ended.line()}")
        return Struck(what, ONE_LINE, ended.line())
    ended.require_done()
    require_sound(run)
    found, rejects = samples_of(run), rejects_of(run)
    collided = {one.name for one in rejects if one.reason in _COLLIDED}
    for name in grounds.names() - touched:
        if found.get(name) != grounds.samples[name] and name not in collided:
            raise Broken(f"{name}, which was not bent, is {'changed' if name in found else 'lost'}: {rejects}")
    outcomes = []
    others = {name for name in found if name not in grounds.names()}
    for name in sorted(touched):
        if found.get(name) == grounds.samples[name]:
            outcomes.append(RIGHT)
        elif name in found or others:
            if kind.same:
                raise Broken(f"{name} means what it meant and is another row")
            _require_as_written(found.get(name, []), line)
            outcomes.append(AS_WRITTEN)
        elif not rejects:
            raise Broken(f"{name} is lost without a word")
        else:
            outcomes.append(REJECT)
    worst = max(outcomes, key=OUTCOMES.index, default=RIGHT)
    said = "; ".join(f"{one.reason}: {one.detail}" for one in rejects)
    return Struck(what, worst, said)


def _require_as_written(samples: list[tuple[str, dict[str, bytes]]], line: Fields | None) -> None:
    """Raises: Broken where a row says another instruction than its line."""
    for _, members in samples if line is not None and isinstance(line.get("instruction"), str) else ():
        row = json.loads(members["json"])
        if line is not None and row["instruction"] != line["instruction"]:
            raise Broken(f"its line says {line['instruction']!r}, its row {row['instruction']!r}")
