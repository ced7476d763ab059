"""The stage contract, and what runs one stage over one part.

A stage is a generator: rows in, rows out, each kept (`Sample`) or dropped with its reason (`Rejection`). It neither
opens nor names files; images go through `PartImages`. One stage on one part is the unit of work everywhere: of a
worker, a Prefect task, a Dask task and a resume. Its files appear whole, its done-file last; a part without one does
not exist.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline.run.folder import (
    Row,
    digest_of,
    done_path,
    is_whole,
    part_name,
    read_done,
    read_kept,
    rows_path,
    write_rows,
)
from pipeline.run.image_store import ImageTar, StoredImage, read_image
from runtime.files import sha256_of_file, whole_file, write_whole
from runtime.images import ImageU8
from schemas.errors import BadInput
from schemas.manifest import PartDone
from schemas.record import canonical_json
from schemas.sample import ImageFormat, ImageRef, Rejection


@dataclass(frozen=True)
class PartImages:
    """The images a stage may read, and where it may write new ones."""

    run: Path
    tar: ImageTar | None

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
    run: Path, stage: Stage, part: int, *, plan_rows: Callable[[Path], Iterable[Any]]
) -> tuple[PartDone, bool]:
    """Runs `stage` over one part unless its result is there, whole and made from the same input.

    Returns: the part's done-record, and whether work was done for it.
    """
    digest = input_digest(run, stage, part)
    done = read_done(run, stage.name, part)
    if done and done.input_digest == digest and is_whole(run, done.files):
        return done, False
    attempts = _begin(run, stage.name, part)
    started = time.monotonic()
    rows_in = plan_rows(_plan_path(run, part)) if stage.after is None else read_kept(run, stage.after, part)
    counted = _Counted(rows_in)
    rows, paths = _write_result(run, stage, part, counted)
    reasons = Counter(row.reason for row in rows if isinstance(row, Rejection))
    done = PartDone(
        stage=stage.name,
        part=part,
        input_digest=digest,
        files=tuple(digest_of(run, path) for path in paths),
        rows_in=counted.count,
        kept=len(rows) - reasons.total(),
        rejected=dict(sorted(reasons.items())),
        seconds=round(time.monotonic() - started, 3),
        attempts=attempts,
    )
    write_whole(done_path(run, stage.name, part), done.model_dump_json(indent=1))
    return done, True


class _Counted:
    """Counts the rows that a stage takes in."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self._rows, self.count = rows, 0

    def __iter__(self) -> Iterator[Any]:
        for row in self._rows:
            self.count += 1
            yield row


def _write_result(run: Path, stage: Stage, part: int, rows_in: Iterable[Any]) -> tuple[list[Row], list[Path]]:
    """Writes a stage's images, then its rows, and returns the rows and the paths of both files."""
    table = rows_path(run, stage.name, part)
    paths = [table]
    with ExitStack() as stack:
        tar = None
        if stage.images:
            name = f"images/{stage.images}/{part_name(part)}.tar"
            paths.append(run / name)
            tar = ImageTar(stack.enter_context(whole_file(run / name)), name, stage.image_format)
        rows = list(stage.run(rows_in, PartImages(run, tar)))
        if tar:
            tar.close()
    write_rows(table, rows)
    return rows, paths


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
