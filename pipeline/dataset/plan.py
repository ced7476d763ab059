"""What goes into the dataset and where: duplicates dropped, splits by source image, shards cut. Only keys pass here.

A split is drawn for a whole cluster of near-duplicate sources, so no source and no near-duplicate of one is in two
splits. Shards follow the parts' order, with the candidates of a request side by side.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Literal

import pandas as pd

from pipeline.config import SplitShares
from pipeline.dataset.asked import asks_the_same, read_requests
from pipeline.gates.duplicates import HASH_BYTES, cluster
from pipeline.run.folder import read_columns
from schemas.errors import DamagedFile
from schemas.record import short_hash
from schemas.request import EditRequest, Split

COLUMNS = [
    "key",
    "request",
    "name",
    "kept",
    "split",
    "source_group",
    "instruction",
    "sources",
    "source_fingerprint",
    "edited_fingerprint",
]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class ShardPlan:
    """One tar to write: its name, its split, and the keys of its samples by part, in their order."""

    name: str
    split: Split
    keys: tuple[tuple[int, tuple[str, ...]], ...]

    @property
    def samples(self) -> int:
        """How many samples the shard holds."""
        return sum(len(keys) for _, keys in self.keys)


@dataclass(frozen=True)
class DroppedKey:
    """A sample left out of the dataset, and the key of the one that it repeats."""

    key: str
    name: str
    reason: Literal["duplicate_request", "duplicate_across_sources"]
    same_as: str


@dataclass(frozen=True)
class DatasetPlan:
    """All shards of a dataset, and what was left out of it."""

    shards: tuple[ShardPlan, ...]
    dropped: tuple[DroppedKey, ...]


def plan_dataset(run: Path, n_parts: int, shares: SplitShares, seed: int, shard_samples: int) -> DatasetPlan:
    """The dataset's shards, from the kept rows of the gates stage."""
    rows = read_keys(run, n_parts)
    if rows.empty:
        return DatasetPlan((), ())
    rows = rows.join(source_clusters(rows), on="request")
    kept, repeated = drop_repeated_requests(rows, partial(read_requests, run))
    kept, collapsed = drop_same_edits(kept)
    splits = assign_splits(kept, shares, seed)
    return DatasetPlan(tuple(cut_shards(kept, splits, shard_samples)), (*repeated, *collapsed))


def read_keys(run: Path, n_parts: int) -> pd.DataFrame:
    """The key columns of all kept rows, in the parts' order, with the column `part`."""
    frames = []
    for part in range(n_parts):
        frame = read_columns(run, "gates", part, COLUMNS).to_pandas()
        frames.append(frame.loc[frame["kept"]].assign(part=part))
    empty = pd.DataFrame(columns=[*COLUMNS, "part"])
    return pd.concat(frames, ignore_index=True) if frames else empty


def source_clusters(rows: pd.DataFrame) -> pd.DataFrame:
    """By request: `canvas`, the cluster of its near-duplicate canvases, and `source_cluster`, which has one split.

    Requests that share a canvas cluster, any source image or a group share a `source_cluster`.
    """
    requests = rows.drop_duplicates("request")
    clusters = cluster(_hashes(requests["request"], requests["source_fingerprint"]))
    parent = {name: name for name in clusters.values()}
    owner: dict[str, str] = {}
    for request, sources, group in zip(requests["request"], requests["sources"], requests["source_group"], strict=True):
        for shared in (*sources, *([f"group {group}"] if isinstance(group, str) else [])):
            first = owner.setdefault(shared, clusters[request])
            _join(parent, first, clusters[request])
    names = _cluster_names(requests, {request: _root(parent, name) for request, name in clusters.items()})
    return pd.DataFrame({"canvas": clusters, "source_cluster": names}, dtype="str")


def _cluster_names(requests: pd.DataFrame, roots: dict[str, str]) -> dict[str, str]:
    """request -> its cluster's name: the least hash among its sources, the same whichever requests ask of them."""
    least: dict[str, str] = {}
    for request, sources in zip(requests["request"], requests["sources"], strict=True):
        root = roots[request]
        least[root] = min([*sources, *([least[root]] if root in least else [])])
    return {request: least[root] for request, root in roots.items()}


def _hashes(keys: "pd.Series[str]", fingerprints: "pd.Series[str]") -> dict[str, bytes]:
    try:
        hashes = {key: bytes.fromhex(value) for key, value in zip(keys, fingerprints, strict=True)}
    except (TypeError, ValueError):
        hashes = {"": b""}
    if any(len(value) != HASH_BYTES for value in hashes.values()):
        raise DamagedFile("gates/*.parquet", "has a row without its fingerprint", "run `regionwise repair`")
    return hashes


def _root(parent: dict[str, str], name: str) -> str:
    while parent[name] != name:
        parent[name] = parent[parent[name]]
        name = parent[name]
    return name


def _join(parent: dict[str, str], first: str, second: str) -> None:
    """Joins two clusters under the smaller name, so that the order of joining does not matter."""
    low, high = sorted((_root(parent, first), _root(parent, second)))
    parent[high] = low


def drop_repeated_requests(
    rows: pd.DataFrame, read: Callable[[int, set[str]], dict[str, EditRequest]]
) -> tuple[pd.DataFrame, tuple[DroppedKey, ...]]:
    """Without requests that ask what an earlier one asks, instruction and targets, of a near-duplicate of its source.

    read: gives requests of a part by their ids; asked for those alone that share canvas and instruction with another.
    """
    alike = ["canvas", "instruction"]
    requests = rows.drop_duplicates(["part", "request"])
    suspects = requests[requests.duplicated(alike, keep=False)]
    asked = {part: read(part, set(suspects["request"][suspects["part"] == part])) for part in set(suspects["part"])}
    repeats: dict[tuple[int, str], str] = {}
    for _, group in suspects.groupby(alike, sort=False):
        places = list(zip(group["part"].tolist(), group["request"].tolist(), strict=True))
        repeats |= _repeats([(place, asked[place[0]][place[1]]) for place in places])
    firsts = [repeats.get(place) for place in zip(rows["part"].tolist(), rows["request"].tolist(), strict=True)]
    marked = rows.assign(request_first=pd.Series(firsts, index=rows.index, dtype="object"))
    keep = marked["request_first"].isna()
    return rows[keep], _dropped(marked[~keep], "duplicate_request", "request_first")


def _repeats(requests: list[tuple[tuple[int, str], EditRequest]]) -> dict[tuple[int, str], str]:
    """(part, id) -> id of the first request that asks the same, for those that are not the first."""
    kept: list[EditRequest] = []
    repeats: dict[tuple[int, str], str] = {}
    for place, request in requests:
        first = next((one for one in kept if asks_the_same(one, request)), None)
        if first is None:
            kept.append(request)
        else:
            repeats[place] = first.id
    return repeats


def drop_same_edits(rows: pd.DataFrame) -> tuple[pd.DataFrame, tuple[DroppedKey, ...]]:
    """Without candidates whose pixels nearly repeat those of a candidate made from another source."""
    clusters = cluster(_hashes(rows["key"], rows["edited_fingerprint"]))
    marked = rows.assign(edit_cluster=rows["key"].map(clusters))
    first = marked.groupby("edit_cluster", sort=False)[["key", "source_cluster"]].first()
    marked = marked.merge(first, "left", left_on="edit_cluster", right_index=True, suffixes=("", "_first"))
    keep = marked["source_cluster"] == marked["source_cluster_first"]
    return rows[keep.to_numpy()], _dropped(marked[~keep], "duplicate_across_sources", "key_first")


def _dropped(
    rows: pd.DataFrame, reason: Literal["duplicate_request", "duplicate_across_sources"], same_as: str
) -> tuple[DroppedKey, ...]:
    return tuple(
        DroppedKey(key, name, reason, first)
        for key, name, first in zip(rows["key"], rows["name"], rows[same_as], strict=True)
    )


def assign_splits(rows: pd.DataFrame, shares: SplitShares, seed: int) -> dict[str, Split]:
    """The split of every source cluster: drawn by a hash of its name, so that it never depends on the other clusters.

    Where requests of a cluster name splits themselves, the most protected one wins: test, then validation, then train.
    """
    wishes = rows.dropna(subset=["split"]).groupby("source_cluster")["split"].agg(set).to_dict()
    splits: dict[str, Split] = {}
    for name in rows["source_cluster"].unique():
        wished = [split for split in reversed(SPLITS) if split in wishes.get(name, ())]
        splits[name] = wished[0] if wished else _drawn_split(name, shares, seed)
    return splits


def _drawn_split(cluster_name: str, shares: SplitShares, seed: int) -> Split:
    draw = int(short_hash("split", seed, cluster_name), 16) / 16**16
    if draw < shares.train:
        return "train"
    return "validation" if draw < shares.train + shares.validation else "test"


def cut_shards(rows: pd.DataFrame, splits: dict[str, Split], shard_samples: int) -> Iterator[ShardPlan]:
    """The shards of each split: whole requests in the parts' order, at most `shard_samples` samples where they fit."""
    named = rows["source_cluster"].map(splits)
    for split in SPLITS:
        open_shard: list[tuple[int, str]] = []
        number = 0
        chosen = rows[named == split]
        places = zip(chosen["part"].tolist(), chosen["request"].tolist(), chosen["key"].tolist(), strict=True)
        for _, request in groupby(places, key=lambda place: place[:2]):
            keys = [(part, key) for part, _, key in request]
            if open_shard and len(open_shard) + len(keys) > shard_samples:
                yield _shard(split, number, open_shard)
                open_shard, number = [], number + 1
            open_shard += keys
        if open_shard:
            yield _shard(split, number, open_shard)


def _shard(split: Split, number: int, keys: list[tuple[int, str]]) -> ShardPlan:
    by_part: dict[int, list[str]] = {}
    for part, key in keys:
        by_part.setdefault(part, []).append(key)
    return ShardPlan(f"{split}-{number:05d}.tar", split, tuple((part, tuple(found)) for part, found in by_part.items()))
