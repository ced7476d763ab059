"""Rows that a training goes without: those of named sources, and those with a kind of defect. What it is tested on."""

from pathlib import Path

from pipeline.dataset.plan import SPLITS
from pipeline.dataset.shards import read_dataset
from schemas.dataset_row import DatasetRow
from schemas.errors import BadInput


def is_left_out(row: DatasetRow, sources: frozenset[str], defects: frozenset[str]) -> bool:
    """Whether a row shows one of `sources`, the edited one or another, or has one of `defects` put in."""
    return not sources.isdisjoint(row.source_names) or any(defect.kind in defects for defect in row.defects)


def left_out_keys(dataset: Path, sources: tuple[str, ...], defects: tuple[str, ...]) -> frozenset[str]:
    """The keys, over all splits, of the rows that a training without these goes without; none reads nothing.

    Raises: BadInput for a source or a defect that no row has: a wrong name would leave in what shall be out.
    """
    if not sources and not defects:
        return frozenset()
    keys, seen = set[str](), set[str]()
    for split in SPLITS:
        for _, row, _ in read_dataset(dataset, split):
            seen.update(row.source_names, (defect.kind for defect in row.defects))
            if is_left_out(row, frozenset(sources), frozenset(defects)):
                keys.add(row.key)
    unknown = [name for name in (*sources, *defects) if name not in seen]
    if unknown:
        raise BadInput(str(dataset), f"has no row of {unknown[0]!r}, which shall be left out", "mend the name")
    return frozenset(keys)
