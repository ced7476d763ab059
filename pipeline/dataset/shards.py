"""The dataset: deterministic WebDataset tars, their manifest, the check of both, and a reader that can resume.

A sample is one candidate. Its members: `<key>.source.png` (`source1`, ... for further sources), `<key>.edited.png`,
`<key>.masks.png` with the masks of the row's regions stacked top to bottom, and `<key>.json`, a `DatasetRow`. Samples
have the same members however many regions they have, as the loaders of dataset hubs want it. The same rows give the
same bytes: members carry no times, owners or hosts. Only size, sha256 and counts of the manifest tell that a tar is
whole; several ways to cut one are read back in silence.
"""

import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.dataset.consensus_files import read_consensus
from pipeline.dataset.plan import ShardPlan
from pipeline.dataset.rows import dataset_row
from pipeline.dataset.scores import ROWS, RowScores, row_scores, snapshot_of
from pipeline.run.folder import read_kept
from pipeline.run.image_store import EXTENSIONS, read_image_bytes
from runtime.files import NotPlainTar, add_to_tar, sha256_of_file, tar_members, whole_file
from runtime.images import BadImage, MaskBool, decode_image, encode_mask_png, pixels_sha256, rle_to_mask
from schemas.dataset_row import DatasetRow
from schemas.errors import BadInput, DamagedFile
from schemas.manifest import Manifest, Shard
from schemas.record import canonical_json
from schemas.request import Split
from schemas.sample import ImageRef, Sample


def write_shard(run: Path, dataset: Path, plan: ShardPlan, scores: str = ROWS) -> Shard:
    """Writes one tar of the dataset, whole or not at all, and returns its manifest entry.

    scores: where the rows' scores come from, see `pipeline.dataset.scores`.
    """
    path = dataset / plan.name
    requests, edit_types, raters = set[str](), list[str](), list[str | None]()
    synthetic = 0
    with whole_file(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample, chosen in _planned_samples(run, plan, scores):
            row = dataset_row(sample, plan.split, chosen)
            for extension, data in sample_members(run, sample, row).items():
                add_to_tar(tar, f"{row.key}.{extension}", data)
            requests.add(row.request)
            edit_types.append(row.edit_type)
            raters.append(row.rater)
            synthetic += row.synthetic
    return Shard(
        name=plan.name,
        split=plan.split,
        samples=len(raters),
        requests=len(requests),
        synthetic=synthetic,
        edit_types=_counts(edit_types),
        raters=_counts(rater for rater in raters if rater is not None),
        unscored=sum(rater is None for rater in raters),
        size_bytes=path.stat().st_size,
        sha256=sha256_of_file(path),
    )


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def row_schema() -> str:
    """The schema of the JSON members, as manifests name it."""
    return f"{DatasetRow.schema_name}/{DatasetRow.schema_version}"


def _planned_samples(run: Path, plan: ShardPlan, scores: str) -> Iterator[tuple[Sample, RowScores]]:
    snapshot = snapshot_of(scores)
    for part, keys in plan.keys:
        wanted = set(keys)
        found = [row for row in read_kept(run, "gates", part) if row.key in wanted]
        if len(found) != len(keys):
            raise DamagedFile(
                f"gates/part-{part:05d}", f"holds {len(found)} of {len(keys)} rows", "run the build again"
            )
        consensus = read_consensus(run, snapshot, part) if snapshot else {}
        yield from ((row, row_scores(row, scores, consensus)) for row in found)


def sample_members(run: Path, sample: Sample, row: DatasetRow) -> dict[str, bytes]:
    """The members of one sample: bytes by extension, in the order of the tar."""
    members: dict[str, bytes] = {}
    for index, ref in enumerate(sample.sources):
        members[f"source{index or ''}.{_extension(ref)}"] = read_image_bytes(run, ref)
    if sample.edited is None:
        raise ValueError(f"{sample.key} has no edited image")
    members[f"edited.{_extension(sample.edited)}"] = read_image_bytes(run, sample.edited)
    members["masks.png"] = encode_mask_png(stacked_masks(row))
    members["json"] = canonical_json(row.model_dump(mode="json"))
    return members


def stacked_masks(row: DatasetRow) -> MaskBool:
    """The masks of a row's regions, top to bottom: (regions * H, W) bool; one empty mask where it has no region."""
    if not row.regions:
        return np.zeros((row.height_px, row.width_px), dtype=np.bool_)
    return np.concatenate([rle_to_mask(region.mask) for region in row.regions])


def _extension(ref: ImageRef) -> str:
    return EXTENSIONS[ref.format]


@dataclass(frozen=True)
class Fault:
    """Something in a dataset that is not as its manifest says."""

    shard: str
    fault: str


def read_manifest(dataset: Path) -> Manifest:
    """The dataset's manifest. Raises: BadInput where there is none (a dataset without one is not whole)."""
    path = dataset / "manifest.json"
    if not path.is_file():
        raise BadInput(str(dataset), "has no manifest.json, so it is no whole dataset", "run `regionwise export`")
    return Manifest.from_json(path.read_bytes(), thing=str(path))


def verify(dataset: Path, *, quick: bool = False) -> tuple[Manifest, list[Fault]]:
    """The manifest, and every way in which the tars differ from it; `quick` leaves the samples unread.

    Raises: BadInput where there is no readable manifest.
    """
    manifest = read_manifest(dataset)
    faults: list[Fault] = []
    keys: dict[str, str] = {}
    for shard in manifest.shards:
        found = _bytes_fault(dataset, shard)
        if not found and not quick:
            found = _content_fault(dataset / shard.name, shard, keys)
        faults += [Fault(shard.name, found)] if found else []
    known = {shard.name for shard in manifest.shards}
    faults += [Fault(path.name, "is not in the manifest") for path in _tars(dataset) if path.name not in known]
    if sum(shard.samples for shard in manifest.shards) != manifest.rows:
        faults.append(Fault("manifest.json", f"says {manifest.rows} rows, its shards say otherwise"))
    return manifest, faults


def _tars(dataset: Path) -> list[Path]:
    return sorted(dataset.glob("*.tar"))


def _bytes_fault(dataset: Path, shard: Shard) -> str | None:
    path = dataset / shard.name
    if not path.is_file():
        return "is missing"
    if path.stat().st_size != shard.size_bytes:
        return f"has {path.stat().st_size} bytes, the manifest says {shard.size_bytes}"
    if sha256_of_file(path) != shard.sha256:
        return "has other bytes than were written (sha256 differs)"
    return None


def _content_fault(path: Path, shard: Shard, keys: dict[str, str]) -> str | None:
    """The first sample of a tar that does not fit, and its count. `keys` collects every key over all shards."""
    count = 0
    try:
        for key, members in read_samples(path):
            count += 1
            if key in keys:
                return f"holds {key}, which is in {keys[key]} too"
            keys[key] = shard.name
            if fault := sample_fault(key, members, shard.split):
                return f"{key}: {fault}"
    except NotPlainTar as error:
        return str(error)
    return None if count == shard.samples else f"has {count} samples, the manifest says {shard.samples}"


def sample_fault(key: str, members: dict[str, bytes], split: Split) -> str | None:
    """What is wrong with one sample, or None."""
    try:
        row = DatasetRow.from_json(members.get("json", b""), thing=key)
        image = decode_image(next((data for name, data in members.items() if name.startswith("edited.")), b""))
        if pixels_sha256(image) != row.edited_pixels_sha256:
            return "the edited image has other pixels than its row says"
        if row.key != key or row.split != split:
            return "the row has another key or split"
        if members.get("masks.png") != encode_mask_png(stacked_masks(row)):
            return "masks.png does not hold the masks of its row"
        for index, digest in enumerate(row.source_pixels_sha256):
            source = next((data for name, data in members.items() if name.startswith(f"source{index or ''}.")), b"")
            if pixels_sha256(decode_image(source)) != digest:
                return f"source image {index} has other pixels than its row says"
    except (BadInput, BadImage, ValueError) as error:
        return str(error)
    return None


def read_samples(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The samples of one tar: key and members by extension, in their order; nothing is decoded.

    Raises: NotPlainTar.
    """
    key, members = None, dict[str, bytes]()
    with path.open("rb") as file:
        for member in tar_members(path):
            stem, _, extension = member.name.partition(".")
            if stem != key and key is not None:
                yield key, members
                members = {}
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

    Raises: DamagedFile where a tar has not the size its manifest says; BadInput without a manifest.
    """
    shards = [shard for shard in read_manifest(dataset).shards if shard.split == split][rank::world_size]
    for number, shard in enumerate(shards[start.shard :], start.shard):
        path = dataset / shard.name
        if not path.is_file() or path.stat().st_size != shard.size_bytes:
            raise DamagedFile(str(path), "is not as the manifest says", "run `regionwise repair`")
        skip = start.sample if number == start.shard else 0
        for index, (key, members) in enumerate(read_samples(path)):
            if index < skip:
                continue
            last = index + 1 == shard.samples
            position = ReadPosition(number + 1, 0) if last else ReadPosition(number, index + 1)
            yield position, DatasetRow.from_json(members["json"], thing=key), members
