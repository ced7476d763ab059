"""How a build lies on disk: its folders, its `run.json` and the rows of its parts.

<run>/run.json                            resolved config and digest, commit, seeds; written once the plan is whole
<run>/plan/part-00017.jsonl               the request lines of a part as they came
<run>/images/{sources,candidates}/…tar    written once, never changed
<run>/<stage>/part-00017.parquet          one row per key, kept or rejected
<run>/<stage>/part-00017.done.json        written last: a part without it does not exist
<run>/<stage>/part-00017.working.json     there while the part is worked on: which rows are in flight
"""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.run.places import named_places
from runtime.files import sha256_of_file, whole_file, write_whole
from runtime.memory import is_out_of_memory
from schemas.errors import BadInput, DamagedFile, NewerSchema
from schemas.manifest import BuildInfo, FileDigest, PartDone
from schemas.record import canonical_json, is_as_written, sealed, short_hash
from schemas.request import EditRequest
from schemas.sample import Rejection, Sample

#: Settings of a build that change where and how fast models run, not what they answer.
NOT_IN_DIGEST = ("device", "batch_size", "model_timeout_s")
STAGES = ("requests", "candidates", "regions", "gates")
ROW_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("request", pa.string()),
        ("name", pa.string()),
        ("kept", pa.bool_()),
        ("reason", pa.string()),
        ("measure", pa.float64()),
        ("split", pa.string()),
        ("source_group", pa.string()),
        ("instruction", pa.string()),
        ("sources", pa.list_(pa.string())),
        ("source_fingerprint", pa.string()),
        ("edited_fingerprint", pa.string()),
        ("record", pa.string()),
    ],
    metadata={"schema": "stage-rows/1"},
)
Row = Sample | Rejection
#: Text of the rows that is gathered before it is written as a row group of Parquet, which takes some eight times the
#: memory. A part of sixty requests at 256 px, 4 candidates each, is one group.
GROUP_CHARS = 1024**2
#: Rows that are read at a time.
READ_ROWS = 32


def part_name(part: int) -> str:
    """`part-00017`."""
    return f"part-{part:05d}"


def rows_path(run: Path, stage: str, part: int) -> Path:
    """Where a stage's rows of one part lie."""
    return run / stage / f"{part_name(part)}.parquet"


def done_path(run: Path, stage: str, part: int) -> Path:
    """Where the done-file of a stage's part lies."""
    return run / stage / f"{part_name(part)}.done.json"


def read_build_info(run: Path) -> BuildInfo:
    """The run's `run.json`. Raises: BadInput where the folder holds no run; DamagedFile."""
    path = run / "run.json"
    if not path.is_file():
        raise BadInput(str(run), "is not a run folder (no run.json)", "make one with `regionwise build --run FOLDER`")
    text = path.read_bytes()
    info = BuildInfo.from_json(text, thing=str(path))
    if not is_as_written(text):
        fault = "is not as it was written (its digest differs)"
        raise DamagedFile(str(path), fault, "bring it back from a copy, or make the run anew in another folder")
    planned = sum(1 for _ in (run / "plan").glob("part-*.jsonl"))
    if info.n_parts != planned:
        fault = f"says {info.n_parts} parts, its plan has {planned}"
        raise DamagedFile(str(path), fault, "make the run anew in another folder")
    return info


def write_build_info(run: Path, info: BuildInfo) -> BuildInfo:
    """Writes the run's `run.json` with its digest, and returns what it says."""
    info = sealed(info)
    write_whole(run / "run.json", info.model_dump_json(indent=1))
    return info


def without_folders(info: BuildInfo) -> BuildInfo:
    """A build's facts without the folders of the machine that it ran on: file names stay, with their hashes."""
    inputs: dict[str, str] = {}
    for path, digest in info.inputs.items():
        name = Path(path).name
        number = sum(Path(other).name == name for other in list(info.inputs)[: len(inputs)])
        inputs[f"{name} ({number + 1})" if number else name] = digest
    return info.model_copy(update={"config": named_places(info.config), "inputs": inputs, "digest": None})


def build_digest(info: BuildInfo) -> str:
    """sha256 over the settings and the inputs of a build, by the names of files and models, not by where they lay.

    A request file is the same one where its folder was given.
    """
    facts = without_folders(info)
    left_out = {*NOT_IN_DIGEST, "requests"}  # the inputs have the files themselves
    settings = {name: value for name, value in facts.config.items() if name not in left_out}
    return sha256(canonical_json([settings, facts.inputs])).hexdigest()


def read_done(run: Path, stage: str, part: int) -> PartDone | None:
    """The done-file of a part, or None where the part does not exist yet; a damaged one does not say that it does.

    Raises: NewerSchema.
    """
    path = done_path(run, stage, part)
    if not path.is_file():
        return None
    try:
        text = path.read_bytes()
        done = PartDone.from_json(text, thing=str(path))
        return done if is_as_written(text) else None
    except NewerSchema:
        raise
    except BadInput:
        return None


def write_done(run: Path, done: PartDone) -> PartDone:
    """Writes the done-file of a part, and returns it with its digest."""
    done = sealed(done)
    write_whole(done_path(run, done.stage, done.part), done.model_dump_json(indent=1))
    return done


def digest_of(run: Path, path: Path) -> FileDigest:
    """Size and sha256 of a file of the run."""
    return FileDigest(
        path=path.relative_to(run).as_posix(), size_bytes=path.stat().st_size, sha256=sha256_of_file(path)
    )


def is_whole(run: Path, files: Iterable[FileDigest]) -> bool:
    """Whether every file is there with the size and sha256 it was written with."""
    for file in files:
        path = run / file.path
        if not path.is_file() or path.stat().st_size != file.size_bytes or sha256_of_file(path) != file.sha256:
            return False
    return True


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Writes the rows of a part as Parquet, whole or not at all, as they come: a row group is all that is held."""
    with whole_file(path) as file, pq.ParquetWriter(file, ROW_SCHEMA, compression="zstd") as writer:
        for group in _groups(rows):
            writer.write_table(pa.Table.from_pylist(group, schema=ROW_SCHEMA))
            del group  # or it would live on beside the next one


def _groups(rows: Iterable[Row]) -> Iterator[list[dict[str, object]]]:
    """The columns of the rows, `GROUP_CHARS` of records or a little more at a time; of no rows one empty group."""
    group, chars, empty = list[dict[str, object]](), 0, True
    for row in rows:
        columns = _columns(row)
        group.append(columns)
        chars += len(str(columns["record"]))
        if chars >= GROUP_CHARS:
            yield group
            group, chars, empty = [], 0, False
    if group or empty:
        yield group


def _columns(row: Row) -> dict[str, object]:
    if isinstance(row, Rejection):
        sample = row.sample
        columns: dict[str, object] = {"key": row.key, "name": row.name, "kept": False, "reason": row.reason}
        columns |= {"measure": row.measure, "request": sample.request.id if sample else None}
    else:
        sample = row
        columns = {"key": row.key, "name": row.request.name, "kept": True, "request": row.request.id}
        columns |= {"split": row.request.split, "source_group": row.request.source_group}
        columns |= {"sources": [source.origin_sha256 for source in row.request.sources]}
        columns |= {"instruction": _instruction_digest(row.request)}
        columns |= {"source_fingerprint": row.source_fingerprint, "edited_fingerprint": row.edited_fingerprint}
    return columns | {"record": row.model_dump_json()}


def _instruction_digest(request: EditRequest) -> str:
    """The same for instructions that differ only in case and white space."""
    return short_hash(*(" ".join(text.casefold().split()) for text in (request.instruction, *request.turns)))


def read_rows(run: Path, stage: str, part: int) -> Iterator[Row]:
    """All rows of a part, kept (Sample) and rejected (Rejection), in their order."""
    thing = f"{stage}/{part_name(part)}.parquet"
    for kept, record in _kept_and_record(rows_path(run, stage, part), thing):
        yield (Sample if kept else Rejection).from_json(record, thing=thing)


def _kept_and_record(path: Path, thing: str) -> Iterator[tuple[bool, str]]:
    """Whether a row is kept, and its record, a few rows in memory at a time. Raises: DamagedFile."""
    _require_file(path)
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(READ_ROWS, columns=["kept", "record"]):
                yield from zip(batch["kept"].to_pylist(), batch["record"].to_pylist(), strict=True)
    except UnicodeDecodeError:
        raise DamagedFile(thing, "has text that is not UTF-8", "run `regionwise repair`") from None
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from None


def read_kept(run: Path, stage: str, part: int) -> Iterator[Sample]:
    """The kept rows of a part."""
    return (row for row in read_rows(run, stage, part) if isinstance(row, Sample))


def read_columns(run: Path, stage: str, part: int, columns: list[str]) -> pa.Table:
    """Some columns of a part's rows. Raises: DamagedFile."""
    path = rows_path(run, stage, part)
    _require_file(path)
    try:
        return pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from None


def _require_file(path: Path) -> None:
    """Raises: DamagedFile for what is no file: of a pipe nothing would come."""
    if path.is_dir():
        raise DamagedFile(str(path), "is a folder, where a file was", "move it away, then run `regionwise repair`")
    if not path.is_file():
        raise DamagedFile(str(path), "is missing, or is no file", "run `regionwise repair`")


def _unreadable(path: Path, error: Exception) -> Exception:
    """What to raise for a file that cannot be read: where memory ran out, that is no fault of the file."""
    if is_out_of_memory(error):
        return error
    return DamagedFile(str(path), f"cannot be read: {type(error).__name__}", "run `regionwise repair`")
