"""From a finished run to a dataset: the plan of keys, the shards on workers, the card, and the manifest last."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pipeline.build import stage_counts
from pipeline.dataset.card import write_card
from pipeline.dataset.consensus_files import consensus_digests
from pipeline.dataset.manifest import totals
from pipeline.dataset.plan import DatasetPlan, DroppedKey, ShardPlan, plan_dataset
from pipeline.dataset.room import least_bytes
from pipeline.dataset.scores import ROWS, snapshot_of
from pipeline.dataset.shards import row_schema, write_shard
from pipeline.prepare import config_of
from pipeline.run.folder import STAGES, build_digest, is_whole, read_build_info, read_done, without_folders
from runtime.disk import require_room
from runtime.files import TEMPORARY_PREFIX, link_or_copy, remove_folder, sha256_of_file, write_whole
from schemas.dataset_row import DatasetRow
from schemas.errors import BadInput, DamagedFile
from schemas.json_schema import json_schema
from schemas.manifest import BuildInfo, FileDigest, Manifest, Shard, StageCount
from schemas.record import Record, first_fault, is_as_written, sealed, short_hash

#: Where a dataset is written, and where the one before waits to be removed.
NEW, OLD = ".dataset-new", ".dataset-old"
#: What an export writes.
_OURS = re.compile(r"(manifest\.json|README\.md|(train|validation|test)-\d{5}\.tar)\Z")
SHARD_PLAN = TypeAdapter(ShardPlan)
DROPPED_KEY = TypeAdapter(DroppedKey)


def export_dataset(run: Path, executor: Executor, scores: str | None = None) -> Manifest:
    """Writes `dataset/` of a run whose data stages are done; shards that are there and whole are kept.

    The new one is written beside the old one and takes its place once it is whole: an export that fails leaves the old.
    The free disk is looked at first.
    scores: where the rows' scores come from, see `pipeline.dataset.scores`; None for those of the last export, or
    `rows`. The caller holds the run's lock. Raises: BadInput where a part is not done yet or the scores are not there;
    NoRoom.
    """
    info = read_build_info(run)
    _check_done(run, info)
    scores = scores or _last_scores(run)
    scores_digest = _scores_digest(run, info, scores)
    config = config_of(info, run)
    plan = plan_dataset(run, info.n_parts, config.splits, config.seed, config.shard_samples)
    if not plan.shards:
        raise BadInput(str(run), "has no sample that passed the gates", "read the rejects: `regionwise report`")
    _settle(run)
    units = list(_units(run, plan, scores, scores_digest))
    missing = [
        shard for shard, (*_, digest) in zip(plan.shards, units, strict=True) if not _is_there(run, shard, digest)
    ]
    new = run / NEW
    require_room(run / "dataset", least_bytes(run, missing))
    new.mkdir(exist_ok=True)
    _remove_others(new, plan)
    shards = tuple(executor.map(export_shard, *zip(*units, strict=True)))
    stages = stage_counts(run, info.n_parts)
    manifest = _manifest(info, plan, tuple(Shard.model_validate_json(text) for text in shards), stages, scores)
    write_card(new, manifest)
    manifest = _dated(run, manifest.model_copy(update={"card_sha256": sha256_of_file(new / "README.md")}))
    write_whole(new / "manifest.json", manifest.model_dump_json(indent=1))
    write_whole(run / "export" / "scores", scores)
    _write_dropped(run, plan)
    write_whole(run / "export" / "created_at", manifest.created_at)
    write_whole(run / "export" / "digest", f"{manifest.digest}\n")
    _settle(run)
    return manifest


def _dated(run: Path, manifest: Manifest) -> Manifest:
    """The manifest with its digest; one that says what the last one said keeps its time, and so its digest."""
    kept = [run / "export" / name for name in ("created_at", "digest")]
    if all(path.is_file() for path in kept):
        created_at, digest = (path.read_text().strip() for path in kept)
        before = sealed(manifest.model_copy(update={"created_at": created_at}))
        if before.digest == digest:
            return before
    return sealed(manifest)


def _settle(run: Path) -> None:
    """Puts a new dataset that is whole in the place of the old one, also one whose export was killed before it did.

    What others put into the old one stays: it moves along.
    """
    dataset, new, old = run / "dataset", run / NEW, run / OLD
    if (new / "manifest.json").is_file():
        if os.path.lexists(dataset):
            _clear(old, dataset)
            dataset.rename(old)
        new.rename(dataset)
    if dataset.is_dir():
        _clear(old, dataset)


def others_in(dataset: Path) -> list[Path]:
    """What lies in a dataset's folder and no export writes, such as notes or a `.git`; temporary files are none."""
    if not dataset.is_dir():
        return []
    paths = sorted(dataset.iterdir())
    return [path for path in paths if not _OURS.match(path.name) and not path.name.startswith(TEMPORARY_PREFIX)]


def _clear(old: Path, dataset: Path) -> None:
    """Removes the old dataset; what others put into it moves into `dataset`."""
    if old.is_symlink() or old.is_file():
        old.unlink()
        return
    for path in others_in(old):
        path.rename(dataset / path.name)
    remove_folder(old)


def _last_scores(run: Path) -> str:
    path = run / "export" / "scores"
    return path.read_text() if path.is_file() else ROWS


def _scores_digest(run: Path, info: BuildInfo, scores: str) -> str:
    """Over the source of the scores and, for a consensus, its bytes; another one makes every shard anew."""
    snapshot = snapshot_of(scores)
    return short_hash(scores, consensus_digests(run, snapshot, info.n_parts) if snapshot else [])


def _write_dropped(run: Path, plan: DatasetPlan) -> None:
    lines = (json.dumps(asdict(drop), sort_keys=True) + "\n" for drop in plan.dropped)
    write_whole(run / "export" / "dropped.jsonl", "".join(lines))


def read_dropped(run: Path) -> Iterator[DroppedKey]:
    """What the last export of a run left out; nothing before the first. Raises: DamagedFile."""
    path = run / "export" / "dropped.jsonl"
    if not path.is_file():
        return
    with path.open("rb") as lines:
        for line in lines:
            try:
                yield DROPPED_KEY.validate_json(line)
            except ValidationError as error:
                raise DamagedFile(str(path), first_fault(error), "run `regionwise export`") from None


def _check_done(run: Path, info: BuildInfo) -> None:
    missing = [part for part in range(info.n_parts) if any(read_done(run, stage, part) is None for stage in STAGES)]
    if missing:
        fault = f"has {len(missing)} of {info.n_parts} parts that are not through the gates"
        raise BadInput(str(run), fault, "finish it with `regionwise resume`")


def _remove_others(new: Path, plan: DatasetPlan) -> None:
    """Removes what an export that did not end had written and this one does not have."""
    names = {shard.name for shard in plan.shards}
    for path in new.iterdir():
        if path.name not in names:
            path.unlink()


def _units(run: Path, plan: DatasetPlan, scores: str, scores_digest: str) -> Iterable[tuple[str, str, str, str]]:
    """(run, shard plan, scores, input digest) of every shard: plain text, as workers get it."""
    fields = json_schema(DatasetRow)
    for shard in plan.shards:
        parts = [read_done(run, "gates", part) for part, _ in shard.keys]
        origin = [part.input_digest for part in parts if part]
        text = SHARD_PLAN.dump_json(shard).decode()
        yield str(run.resolve()), text, scores, short_hash(fields, text, origin, scores_digest)


class ShardNote(Record):
    """What a shard was made from, beside its manifest entry. digest: of both; earlier versions wrote none."""

    input_digest: str
    shard: Shard
    digest: str | None = None


def _read_note(path: Path) -> ShardNote | None:
    text = path.read_bytes()
    try:
        note = ShardNote.model_validate_json(text)
    except ValidationError:
        return None
    return note if is_as_written(text) else None


def _current_note(run: Path, name: str, input_digest: str) -> ShardNote | None:
    """The note of a shard where it was made from the same input."""
    path = run / "export" / f"{name}.done.json"
    note = _read_note(path) if path.is_file() else None
    return note if note and note.input_digest == input_digest else None


def _is_there(run: Path, plan: ShardPlan, input_digest: str) -> bool:
    """Whether a shard is current and lies there in its size; whether it is whole is seen when it is taken over."""
    note = _current_note(run, plan.name, input_digest)
    places = [run / folder / plan.name for folder in (NEW, "dataset")]
    return note is not None and any(
        place.is_file() and place.stat().st_size == note.shard.size_bytes for place in places
    )


def _stands(run: Path, folder: str, shard: Shard) -> bool:
    path = f"{folder}/{shard.name}"
    file = FileDigest(path=path, size_bytes=shard.size_bytes, sha256=shard.sha256)
    return not (run / path).is_symlink() and is_whole(run, [file])


def _taken_over(run: Path, shard: Shard) -> bool:
    """Whether the shard stands in the new dataset, or stood in the old one and is there now, too, as the same file."""
    if _stands(run, NEW, shard):
        return True
    if not _stands(run, "dataset", shard):
        return False
    (run / NEW / shard.name).unlink(missing_ok=True)
    link_or_copy(run / "dataset" / shard.name, run / NEW / shard.name)
    return True


def export_shard(run: str, plan: str, scores: str, input_digest: str) -> str:
    """One shard, as a unit of work: its manifest entry as JSON. A shard that is there, whole and current is kept."""
    folder, shard_plan = Path(run), SHARD_PLAN.validate_json(plan)
    note = _current_note(folder, shard_plan.name, input_digest)
    if note and _taken_over(folder, note.shard):
        return note.shard.model_dump_json()
    shard = write_shard(folder, folder / NEW, shard_plan, scores)
    done = folder / "export" / f"{shard_plan.name}.done.json"
    write_whole(done, sealed(ShardNote(input_digest=input_digest, shard=shard)).model_dump_json())
    return shard.model_dump_json()


def _manifest(
    info: BuildInfo, plan: DatasetPlan, shards: tuple[Shard, ...], stages: tuple[StageCount, ...], scores: str
) -> Manifest:
    sums = totals(shards)
    dropped = dict(sorted(Counter(drop.reason for drop in plan.dropped).items()))
    rows = sums["rows"]
    build = without_folders(info)
    return Manifest(
        dataset=info.name,
        row_schema=row_schema(),
        shards=shards,
        **sums,
        scores=scores,
        stages=(*stages, StageCount(stage="export", rows_in=rows + len(plan.dropped), kept=rows, rejected=dropped)),
        build=build.model_copy(update={"config_digest": build_digest(build)}),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
