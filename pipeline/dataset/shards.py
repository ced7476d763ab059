"""The dataset: deterministic WebDataset tars, their manifest, and a reader that can go on from a position.

A sample is one candidate; its members are those of `FORMAT`. The same rows give the same bytes: members carry no times,
owners or hosts. Only size, sha256 and counts of the manifest tell that a tar is whole (`pipeline.dataset.verify`);
several ways to cut one are read back in silence.
"""

import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.dataset.consensus_files import read_consensus
from pipeline.dataset.formats import FORMATS, EncodedImage, SampleImages
from pipeline.dataset.plan import ShardPlan
from pipeline.dataset.rows import dataset_row
from pipeline.dataset.scores import ROWS, RowScores, row_scores, snapshot_of
from pipeline.run.folder import read_kept
from pipeline.run.image_store import read_image_bytes
from runtime.files import NotPlainTar, add_to_tar, forget_members, sha256_of_file, tar_members, whole_file
from schemas.dataset_row import DatasetRow
from schemas.errors import BadInput, DamagedFile
from schemas.manifest import Manifest, Shard
from schemas.request import Split
from schemas.sample import ImageRef, Sample

#: How samples lie in the tars of a dataset.
FORMAT = FORMATS["webdataset"]


def write_shard(run: Path, dataset: Path, plan: ShardPlan, scores: str = ROWS) -> Shard:
    """Writes one tar of the dataset, whole or not at all, and returns its manifest entry.

    scores: where the rows' scores come from, see `pipeline.dataset.scores`.
    """
    path = dataset / plan.name
    counts = ShardCounts()
    with whole_file(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample, chosen in _planned_samples(run, plan, scores):
            row = dataset_row(sample, plan.split, chosen)
            members = FORMAT.members(row, _images(run, sample))
            for name, data in members.items():
                add_to_tar(tar, f"{row.key}.{name}", data)
            forget_members(tar)
            counts.add(row, members)
    return Shard(
        name=plan.name,
        split=plan.split,
        size_bytes=path.stat().st_size,
        sha256=sha256_of_file(path),
        **counts.fields(),
    )


@dataclass
class ShardCounts:
    """What a manifest says of the samples of one tar, counted as they pass."""

    samples: int = 0
    synthetic: int = 0
    unscored: int = 0
    requests: set[str] = field(default_factory=set)
    members: set[str] = field(default_factory=set)
    edit_types: Counter[str] = field(default_factory=Counter)
    raters: Counter[str] = field(default_factory=Counter)

    def add(self, row: DatasetRow, members: Iterable[str]) -> None:
        """Counts one sample."""
        self.samples += 1
        self.synthetic += row.synthetic
        self.unscored += row.rater is None
        self.requests.add(row.request)
        self.members.update(members)
        self.edit_types[row.edit_type] += 1
        self.raters.update([row.rater] if row.rater is not None else [])

    def fields(self) -> dict[str, Any]:
        """The fields of `Shard` that they make."""
        return {
            "samples": self.samples,
            "requests": len(self.requests),
            "synthetic": self.synthetic,
            "edit_types": dict(sorted(self.edit_types.items())),
            "raters": dict(sorted(self.raters.items())),
            "unscored": self.unscored,
            "members": tuple(sorted(self.members)),
        }


def row_schema() -> str:
    """The schema of the JSON members, as manifests name it."""
    return f"{DatasetRow.schema_name}/{DatasetRow.schema_version}"


def _planned_samples(run: Path, plan: ShardPlan, scores: str) -> Iterator[tuple[Sample, RowScores]]:
    snapshot = snapshot_of(scores)
    for part, keys in plan.keys:
        wanted = set(keys)
        consensus = read_consensus(run, snapshot, part) if snapshot else {}
        found = 0
        for row in read_kept(run, "gates", part):
            if row.key in wanted:
                found += 1
                yield row, row_scores(row, scores, consensus)
        if found != len(keys):
            raise DamagedFile(f"gates/part-{part:05d}", f"holds {found} of {len(keys)} rows", "run the build again")


def _images(run: Path, sample: Sample) -> SampleImages:
    if sample.edited is None:
        raise ValueError(f"{sample.key} has no edited image")
    return SampleImages(tuple(_encoded(run, ref) for ref in sample.sources), _encoded(run, sample.edited))


def _encoded(run: Path, ref: ImageRef) -> EncodedImage:
    return EncodedImage(read_image_bytes(run, ref), ref.format)


def read_manifest(dataset: Path) -> Manifest:
    """The dataset's manifest. Raises: BadInput where there is none (a dataset without one is not whole)."""
    path = dataset / "manifest.json"
    if not path.is_file():
        raise BadInput(str(dataset), "has no manifest.json, so it is no whole dataset", "run `regionwise export`")
    return Manifest.from_json(path.read_bytes(), thing=str(path))


def stands(path: Path, shard: Shard) -> bool:
    """Whether a tar has the bytes that its manifest says."""
    return path.is_file() and path.stat().st_size == shard.size_bytes and sha256_of_file(path) == shard.sha256


def read_samples(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The samples of one tar: key and members by extension, in their order; nothing is decoded.

    Raises: NotPlainTar, also where a member is there twice: readers differ in which of the two they take.
    """
    key, members = None, dict[str, bytes]()
    with path.open("rb") as file:
        for member in tar_members(path):
            stem, _, extension = member.name.partition(".")
            if stem != key and key is not None:
                yield key, members
                members = {}
            if extension in members:
                raise NotPlainTar(f"holds {member.name} twice")
            key = stem
            file.seek(member.offset)
            members[extension] = file.read(member.size)
    if key is not None:
        yield key, members


@dataclass(frozen=True)
class ReadPosition:
    """How far a reader came: everything before (shard, sample) was handed out."""

    shard: int = 0
    sample: int = 0


def read_dataset(
    dataset: Path,
    split: Split,
    start: ReadPosition = ReadPosition(),
    *,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[tuple[ReadPosition, DatasetRow, dict[str, bytes]]]:
    """The samples of a split, each with the position to go on from after it. Shards go round over `world_size` ranks.

    Raises: DamagedFile where a tar has not the bytes that its manifest says; BadInput without a manifest.
    """
    shards = [shard for shard in read_manifest(dataset).shards if shard.split == split][rank::world_size]
    for number, shard in enumerate(shards[start.shard :], start.shard):
        path = dataset / shard.name
        if not stands(path, shard):
            raise DamagedFile(str(path), "is not as the manifest says", "run `regionwise repair`")
        skip = start.sample if number == start.shard else 0
        for index, (key, members) in enumerate(read_samples(path)):
            if index < skip:
                continue
            last = index + 1 == shard.samples
            position = ReadPosition(number + 1, 0) if last else ReadPosition(number, index + 1)
            yield position, FORMAT.row(key, members), members
