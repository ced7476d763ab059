"""The stage contract, and what runs one stage over one part.

A stage is a generator: rows in, rows out, each kept (`Sample`) or dropped with its reason (`Rejection`). It neither
opens nor names files; images go through `PartImages`. One stage on one part is the unit of work everywhere: of a
worker, a Prefect task, a Dask task and a resume. Its files appear whole, its done-file last; a part without one does
not exist.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from pipeline.run.faults import of_part
from pipeline.run.folder import (
    Row,
    digest_of,
    is_whole,
    part_name,
    read_done,
    read_kept,
    rows_path,
    write_done,
    write_rows,
)
from pipeline.run.image_store import ImageTar, StoredImage, read_image
from pipeline.run.in_flight import InFlight, given_up, row_key
from runtime.files import sha256_of_file, whole_file, write_whole
from runtime.images import ImageU8
from schemas.errors import BadInput
from schemas.manifest import PartDone
from schemas.record import canonical_json
from schemas.sample import ImageFormat, ImageRef, Rejection

Model = TypeVar("Model")
#: Counts the rows that are kept beside the reasons of the others, none of which is empty.
KEPT = ""


@dataclass(frozen=True)
class PartImages:
    """The images a stage may read, and where it may write new ones; and where it says which rows it works on."""

    run: Path
    tar: ImageTar | None
    in_flight: InFlight | None = None

    def begin(self, keys: Collection[str]) -> None:
        """Says which rows are worked on from now on, before anything of them is touched: see `pipeline.run.in_flight`.

        keys: of samples, or places of planned lines; rows that are worked on together are said together.
        """
        if self.in_flight is not None:
            self.in_flight.begin(keys)

    def between_rows(self, load: Callable[[], Model]) -> Model:
        """What `load` gives, a model, loaded at none of the rows: where it does not fit, that is no fault of theirs."""
        if self.in_flight is None:
            return load()
        keys = self.in_flight.working or ()
        self.begin(())
        model = load()
        self.begin(keys)
        return model

    @property
    def suspects(self) -> Collection[str]:
        """Keys of rows that were worked on when a process died: to be worked on alone, so that none dies of another."""
        return self.in_flight.deaths if self.in_flight is not None else ()

    def read(self, ref: ImageRef) -> ImageU8:
        """An image of the run as HWC uint8 RGB."""
        return read_image(self.run, ref)

    def add(self, image_hwc_u8: ImageU8) -> StoredImage:
        """Adds an image (RGB) to this part's tar; its pixels as stored may differ."""
        if self.tar is None:
            raise RuntimeError("this stage declared no image folder")
        return self.tar.add(image_hwc_u8)


@dataclass(frozen=True)
class Stage:
    """One data stage.

    after: the stage whose kept rows it reads; None for the first, which reads `plan/`. images: the folder of `images/`
    that it writes to, if any. settings: everything besides the rows that its result depends on.
    """

    name: str
    version: int
    after: str | None
    run: Callable[[Iterable[Any], PartImages], Iterator[Row]]
    images: str | None = None
    image_format: ImageFormat = "png"
    settings: dict[str, Any] = field(default_factory=dict)


def run_part(
    run: Path,
    stage: Stage,
    part: int,
    *,
    plan_rows: Callable[[Path], Iterable[Any]],
    in_flight: InFlight | None = None,
) -> tuple[PartDone, bool]:
    """Runs `stage` over one part unless its result is there, whole and made from the same input.

    in_flight: where it says what it works on, and which rows it gives up; None for nowhere.
    Returns: the part's done-record, and whether work was done for it. Raises: StageFailed, naming part and request, for
    an error that the stage does not expect.
    """
    digest = input_digest(run, stage, part)
    done = read_done(run, stage.name, part)
    if done and done.input_digest == digest and is_whole(run, done.files):
        return done, False
    attempts = _begin(run, stage.name, part)
    started = time.monotonic()
    rows_in = plan_rows(_plan_path(run, part)) if stage.after is None else read_kept(run, stage.after, part)
    counted = _Counted(rows_in, stage, in_flight)
    with of_part(run, stage.name, part):
        found, paths = _write_result(run, stage, part, counted, in_flight)
    kept = found.pop(KEPT, 0)
    done = PartDone(
        stage=stage.name,
        part=part,
        input_digest=digest,
        files=tuple(digest_of(run, path) for path in paths),
        rows_in=counted.count,
        kept=kept,
        rejected=dict(sorted(found.items())),
        seconds=round(time.monotonic() - started, 3),
        attempts=attempts,
    )
    return write_done(run, done), True


class _Counted:
    """Counts the rows that a stage takes in, and keeps back those that are given up."""

    def __init__(self, rows: Iterable[Any], stage: Stage, in_flight: InFlight | None) -> None:
        self._rows, self._stage, self._in_flight = rows, stage, in_flight
        self.count = 0
        self._places: dict[str, int] = {}
        self._rejects: deque[tuple[int, Row]] = deque()

    def __iter__(self) -> Iterator[Any]:
        for row in self._rows:
            self.count += 1
            if self._in_flight is not None and self._in_flight.gives_up(row):
                self._rejects.append((self.count, given_up(row, self._stage.name)))
            else:
                self._places[row_key(row)] = self.count
                yield row

    def with_rejects(self, made: Iterable[Row]) -> Iterator[Row]:
        """The rows that the stage makes as they come, with the rejects of those that were kept back in their places."""
        for number, row in enumerate(made):
            while self._rejects and self._rejects[0][0] < self._place(number, row):
                yield self._rejects.popleft()[1]
            yield row
        yield from (row for _, row in self._rejects)

    def _place(self, number: int, row: Row) -> int:
        """The place of the row that the `number`th row out was made from."""
        if self._stage.after is None:  # a row out for each in; later rows carry the key of what they were made from
            return list(self._places.values())[number]
        return self._places.get(row.key) or self._places[row.key.partition("-")[0]]


def _write_result(
    run: Path, stage: Stage, part: int, rows_in: _Counted, in_flight: InFlight | None
) -> tuple[Counter[str], list[Path]]:
    """Writes a stage's images and rows as they come; returns the rows counted by reason, and both files' paths."""
    table, counts = rows_path(run, stage.name, part), Counter[str]()
    name = f"images/{stage.images}/{part_name(part)}.tar" if stage.images else None
    with closing(_made(run, stage, name, rows_in, in_flight)) as rows:
        write_rows(table, _counted(rows, counts))
    return counts, [table, run / name] if name else [table]


def _counted(rows: Iterable[Row], counts: Counter[str]) -> Iterator[Row]:
    for row in rows:
        counts[row.reason if isinstance(row, Rejection) else KEPT] += 1
        yield row


def _made(
    run: Path, stage: Stage, tar_name: str | None, rows_in: _Counted, in_flight: InFlight | None
) -> Generator[Row]:
    """The rows that a stage makes; its images are whole once the last row is out."""
    with ExitStack() as stack:
        tar = None
        if tar_name:
            file = stack.enter_context(whole_file(run / tar_name))
            tar = ImageTar(file, tar_name, stage.image_format)
        yield from rows_in.with_rejects(stage.run(rows_in, PartImages(run, tar, in_flight)))
        if in_flight is not None:
            in_flight.begin()
        if tar:
            tar.close()


def input_digest(run: Path, stage: Stage, part: int) -> str:
    """sha256 over the stage, its version and settings, and what it reads. Raises: BadInput where that is not there."""
    if stage.after is None:
        origin = [sha256_of_file(_plan_path(run, part))]
    else:
        before = read_done(run, stage.after, part)
        if before is None:
            raise BadInput(f"{stage.after}/{part_name(part)}", f"does not exist, {stage.name} needs it", "run it first")
        origin = [before.input_digest, *(file.sha256 for file in before.files)]
    return sha256(canonical_json([stage.name, stage.version, stage.settings, stage.image_format, origin])).hexdigest()


def _plan_path(run: Path, part: int) -> Path:
    return run / "plan" / f"{part_name(part)}.jsonl"


def _begin(run: Path, stage: str, part: int) -> int:
    """Records that a part was begun, and returns how often; the count tells what a crash cost."""
    path = run / stage / f"{part_name(part)}.attempts"
    before = path.read_text(errors="replace").strip()[:9] if path.is_file() else "0"
    attempts = int(before) + 1 if before.isascii() and before.isdecimal() else 1
    write_whole(path, str(attempts))
    return attempts
