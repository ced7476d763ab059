"""What the report reads of a dataset: every row of some of its tars for the figures, and the rows that it shows.

A large dataset is not read whole: shards are taken so that every split and edit type is among them. Images stay closed
here; an entry says where they lie.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.dataset.shards import stands
from runtime.files import tar_members
from schemas.dataset_row import DatasetRow
from schemas.errors import DamagedFile
from schemas.manifest import Manifest, Shard

#: Rows that are read for the figures; a dataset with more is read in part.
ROWS_READ = 20_000
REGION_SCORES = ("success", "preserve", "phi", "reward")
IMAGE_SCORES = ("background", "background_reward", "success", "overedit", "naturalness", "artifacts")


@dataclass(frozen=True)
class ByteRange:
    """`length` bytes at `offset` of a file."""

    path: Path
    offset: int
    length: int

    def read(self) -> bytes:
        """The bytes."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


@dataclass(frozen=True)
class Entry:
    """One row of the dataset in short: what the choice of samples needs, and where its members lie."""

    key: str
    request: str
    split: str
    edit_type: str
    kind: str
    photo: bool
    source: str
    members: dict[str, ByteRange]

    def row(self) -> DatasetRow:
        """The whole row."""
        return DatasetRow.from_json(self.members["json"].read(), thing=self.key)


@dataclass
class DatasetTally:
    """Values of every score, and how often what was seen, over the rows read. values: `region.phi`, `image.overedit`,
    ... ; missing: how many of each were missing; areas: share of the image of each region's mask, 0..1."""

    rows: int = 0
    values: dict[str, list[float]] = field(default_factory=dict)
    missing: Counter[str] = field(default_factory=Counter)
    areas: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    defects: Counter[str] = field(default_factory=Counter)
    synthetic: Counter[str] = field(default_factory=Counter)

    def add(self, row: DatasetRow) -> None:
        """Counts one row."""
        self.rows += 1
        self.synthetic.update(row.synthetic_parts)
        self.defects.update({defect.kind for defect in row.defects})
        for name in IMAGE_SCORES:
            self._score(f"image.{name}", getattr(row, name))
        for region in row.regions:
            self.statuses[region.status] += 1
            self.areas.append(region.area_px / (row.width_px * row.height_px))
            if region.status != "unplanned":
                for name in REGION_SCORES:
                    self._score(f"region.{name}", getattr(region, name))

    def _score(self, name: str, value: float | None) -> None:
        if value is None:
            self.missing[name] += 1
        else:
            self.values.setdefault(name, []).append(value)


def choose_shards(shards: Iterable[Shard], rows: int = ROWS_READ) -> list[Shard]:
    """Shards of about `rows` samples together: all splits and edit types among them, the rest evenly spaced."""
    every = list(shards)
    wanted = {("split", shard.split) for shard in every} | {
        ("type", name) for shard in every for name in shard.edit_types
    }
    chosen: dict[str, Shard] = {}
    for shard in every:
        holds = {("split", shard.split), *(("type", name) for name in shard.edit_types)}
        if holds & wanted:
            chosen[shard.name] = shard
            wanted -= holds
    total = sum(shard.samples for shard in every)
    step = max(1, round(total / rows))
    for shard in every[::step]:
        chosen.setdefault(shard.name, shard)
    return [shard for shard in every if shard.name in chosen]


def read_entries(dataset: Path, manifest: Manifest) -> tuple[list[Entry], DatasetTally]:
    """The entries of the chosen shards in their order, and the tally of their rows. Raises: DamagedFile."""
    entries, tally = [], DatasetTally()
    for shard in choose_shards(manifest.shards):
        for members in _samples(dataset / shard.name, shard):
            row = DatasetRow.from_json(members["json"].read(), thing=shard.name)
            tally.add(row)
            entries.append(_entry(row, members))
    return entries, tally


def _entry(row: DatasetRow, members: dict[str, ByteRange]) -> Entry:
    return Entry(
        key=row.key,
        request=row.request,
        split=row.split,
        edit_type=row.edit_type,
        kind=row.kind,
        photo="source" not in row.synthetic_parts,
        source=row.source_pixels_sha256[0],
        members=members,
    )


def _samples(path: Path, shard: Shard) -> Iterator[dict[str, ByteRange]]:
    """The places of each sample's members, `source`, `edited`, `json`, ...; masks stand in the row, too."""
    if not stands(path, shard):
        raise DamagedFile(str(path), "is not as the manifest says", "run `regionwise repair`")
    key, members = None, dict[str, ByteRange]()
    try:
        for member in tar_members(path):
            stem, name, *_ = member.name.split(".")
            if stem != key and members:
                yield members
                members = {}
            key = stem
            if not name.startswith("masks"):
                members[name] = ByteRange(path, member.offset, member.size)
    except ValueError as error:
        raise DamagedFile(str(path), f"is not a dataset tar: {error}", "run `regionwise repair`") from None
    if members:
        yield members


def choose_requests(entries: Iterable[Entry], most: int) -> list[list[Entry]]:
    """The entries of at most `most` requests: every edit type, split and kind first, photographs before scenes.

    Scenes keep a fifth of the places where there are any. Neighbours differ in edit type and source as far as they can.
    """
    requests: dict[str, list[Entry]] = {}
    for entry in entries:
        requests.setdefault(entry.request, []).append(entry)
    photos = [found[0] for found in requests.values() if found[0].photo]
    scenes = [found[0] for found in requests.values() if not found[0].photo]
    chosen = {entry.request: entry for entry in _covering([*photos, *scenes])[:most]}
    photo_places = max(most - len(scenes), most - most // 5)
    for entry in [*_mixed(photos, photo_places), *_mixed(scenes, most), *_mixed(photos, most)]:
        if len(chosen) < most:
            chosen.setdefault(entry.request, entry)
    shown = [_mixed([e for e in chosen.values() if e.photo is photo], most) for photo in (True, False)]
    return [requests[entry.request] for entry in (*shown[0], *shown[1])]


def _mixed(entries: Iterable[Entry], most: int) -> list[Entry]:
    """At most `most` entries: edit types and splits in turn, of each the first of the source least taken so far."""
    buckets: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        buckets.setdefault((entry.edit_type, entry.split), []).append(entry)
    taken: Counter[str] = Counter()
    mixed: list[Entry] = []
    while len(mixed) < most and any(buckets.values()):
        for bucket in buckets.values():
            if bucket and len(mixed) < most:
                entry = min(bucket, key=lambda found: taken[found.source])
                bucket.remove(entry)
                taken[entry.source] += 1
                mixed.append(entry)
    return mixed


def _covering(entries: list[Entry]) -> list[Entry]:
    """Few entries that together show every edit type, split and kind: each time the one that adds most."""
    unseen = {facet for entry in entries for facet in _facets(entry)}
    chosen = []
    while unseen:
        best = max(entries, key=lambda entry: len(_facets(entry) & unseen))
        unseen -= _facets(best)
        chosen.append(best)
    return chosen


def _facets(entry: Entry) -> set[tuple[str, str]]:
    return {("type", entry.edit_type), ("split", entry.split), ("kind", entry.kind)}
