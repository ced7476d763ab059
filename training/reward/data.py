"""Training data of a reward: the samples in a dataset's tars as features and scores in memory.

A missing score is NaN here: it is counted, left out of every loss, and never imputed.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset.shards import read_dataset
from runtime.images import decode_image
from runtime.masks import rle_to_mask
from schemas.dataset_row import DatasetRow
from schemas.errors import BadInput, TooManyRejected
from schemas.region import region_id
from schemas.request import Split
from schemas.score import IMAGE_SCORES, REGION_SCORES
from training.reward.features import Features, features_of
from training.reward.instruction_variants import CARRIED_OUT, CLASSES, Swap, classes_of, swaps, wordings
from training.reward.network_io import ASKED, SHOWN
from training.reward.text_encoding import words_of
from training.reward_protocol import RewardQuery

UNKNOWN = -100
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class TrainingItem:
    """One candidate. region_scores: (R, 2) and image_scores: (5,) in 0..25, NaN where missing.

    asked, done: (R, 4) classes of `ASKED`, what was asked and, where that is known, what was done; shown: (R, 2)
    classes of `SHOWN`; labels: what the request calls each region, '' for an unplanned one; wordings: other ways to
    give the same instruction, where the product worded it; swaps: other instructions, likewise.
    """

    key: str
    request: str
    features: Features
    region_scores: Floats
    image_scores: Floats
    asked: NDArray[np.int64]
    done: NDArray[np.int64]
    shown: NDArray[np.int64]
    labels: tuple[str, ...]
    wordings: tuple[str, ...] = ()
    swaps: tuple[Swap, ...] = ()


@dataclass
class Counts:
    """What was read: rows, rows without any score, scores of planned regions and images, and how many are missing."""

    rows: int = 0
    unscored_rows: int = 0
    scores: int = 0
    missing: int = 0

    @property
    def missing_share(self) -> float:
        """The share of the scores that is missing."""
        return self.missing / max(1, self.scores)


def query_of(row: DatasetRow, members: dict[str, bytes]) -> RewardQuery:
    """The query that a sample of a dataset poses; its regions by key."""
    source = next(data for name, data in members.items() if name.startswith("source."))
    edited = next(data for name, data in members.items() if name.startswith("edited."))
    masks = {region.region: rle_to_mask(region.mask) for region in row.regions}
    return RewardQuery(decode_image(source), decode_image(edited), row.instruction, masks)


def item_of(row: DatasetRow, members: dict[str, bytes], side_px: int, *, use_source: bool = True) -> TrainingItem:
    """A sample of a dataset as a training item."""
    planned = {region_id(row.request, index): index for index in range(len(row.targets))}
    regions = [[_number(getattr(region, name)) for name in REGION_SCORES] for region in row.regions]
    asked = _classes([_asked(row, planned.get(region.region)) for region in row.regions], len(ASKED))
    carried_out = np.array([(region.success or 0) >= CARRIED_OUT for region in row.regions], dtype=np.bool_)
    return TrainingItem(
        key=row.key,
        request=row.request,
        features=features_of(query_of(row, members), side_px, use_source=use_source),
        region_scores=np.array(regions, dtype=np.float32).reshape(-1, len(REGION_SCORES)),
        image_scores=np.array([_number(getattr(row, name)) for name in IMAGE_SCORES], dtype=np.float32),
        asked=asked,
        done=np.where(carried_out[:, None] & (asked > 0), asked, UNKNOWN),
        shown=_classes([_shown(row, planned.get(region.region)) for region in row.regions], len(SHOWN)),
        labels=tuple(region.label if region.region in planned else "" for region in row.regions),
        wordings=wordings(row),
        swaps=swaps(row),
    )


def _classes(rows: list[list[int]], columns: int) -> NDArray[np.int64]:
    return np.array(rows, dtype=np.int64).reshape(-1, columns)


def _number(score: float | None) -> float:
    return float("nan") if score is None else float(score)


def _asked(row: DatasetRow, target: int | None) -> list[int]:
    """The classes of `ASKED` of one region, `UNKNOWN` for one that nobody planned."""
    if target is None:
        return [UNKNOWN] * len(ASKED)
    return classes_of(row.targets[target])


def _shown(row: DatasetRow, target: int | None) -> list[int]:
    """The classes of `SHOWN` of a region that the source holds, from the words of its label; else `UNKNOWN`."""
    classes = [UNKNOWN] * len(SHOWN)
    if target is None or row.targets[target].role == "add":
        return classes
    words = words_of(row.targets[target].label)
    for place, name in enumerate(SHOWN):
        found = [CLASSES[name].index(word) + 1 for word in words if word in CLASSES[name]]
        classes[place] = found[0] if found else UNKNOWN
    return classes


def load_items(
    dataset: Path, split: Split, side_px: int, *, use_source: bool = True, max_missing_share: float = 0.2
) -> tuple[list[TrainingItem], Counts]:
    """All candidates of a split, in the order of the tars, and what was missing.

    Raises: BadInput for a dataset without scores or a split without rows; TooManyRejected where more than
    `max_missing_share` of the scores are missing.
    """
    counts, items = Counts(), list[TrainingItem]()
    for _, row, members in read_dataset(dataset, split):
        item = item_of(row, members, side_px, use_source=use_source)
        count_scores(counts, row, item)
        items.append(item)
    check_counts(counts, f"{dataset}, split {split}", max_missing_share)
    return items, counts


def count_scores(counts: Counts, row: DatasetRow, item: TrainingItem) -> None:
    """Adds one row to `counts`; a region that nobody planned has no scores to miss."""
    planned = item.region_scores[[region.status != "unplanned" for region in row.regions]]
    found = np.concatenate([planned.ravel(), item.image_scores])
    counts.rows += 1
    counts.unscored_rows += bool(np.isnan(found).all())
    counts.scores += found.size
    counts.missing += int(np.isnan(found).sum())


def check_counts(counts: Counts, thing: str, max_missing_share: float) -> None:
    """Raises: as `load_items`."""
    if not counts.rows:
        raise BadInput(thing, "has no rows", "build more sources, or give this split a larger share")
    if counts.unscored_rows == counts.rows:
        raise BadInput(thing, "has no scores", "have it rated, or build it with an editor that knows its flaws")
    if counts.missing_share > max_missing_share:
        raise TooManyRejected(
            thing,
            f"{counts.missing} of {counts.scores} scores are missing, more than the allowed share {max_missing_share}",
            "have it rated, or raise max_missing_share",
        )
