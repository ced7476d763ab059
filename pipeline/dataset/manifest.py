"""What a manifest says over its shards: sums of their counts, and the digest of its tars."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from pipeline.dataset.plan import SPLITS
from schemas.manifest import Shard
from schemas.record import canonical_json


def totals(shards: Sequence[Shard]) -> dict[str, Any]:
    """The fields of a manifest that its shards add up to."""
    rows = sum(shard.samples for shard in shards)
    synthetic = sum(shard.synthetic for shard in shards)
    return {
        "rows": rows,
        "requests": sum(shard.requests for shard in shards),
        "splits": {split: sum(shard.samples for shard in shards if shard.split == split) for split in SPLITS},
        "edit_types": _sum(shard.edit_types for shard in shards),
        "raters": _sum(shard.raters for shard in shards),
        "unscored": sum(shard.unscored for shard in shards),
        "synthetic": "none" if not synthetic else ("all" if synthetic == rows else "some"),
    }


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items()))


def shards_digest(shards: Iterable[Shard]) -> str:
    """sha256 over names, splits and hashes of tars: the same rows have it, however often they are exported."""
    return sha256(canonical_json([[shard.name, shard.split, shard.sha256] for shard in shards])).hexdigest()
