"""Training data of a reward: the product's tars to views and scores in memory, and batches of whole requests.

A missing score is NaN here: it is counted, left out of every loss, and never imputed. Mirrored samples say "left" where
they said "right"; those with lettering are not mirrored.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.dataset.shards import read_dataset
from runtime.images import decode_image, rle_to_mask
from schemas.dataset_row import DatasetRow
from schemas.errors import BadInput, TooManyRejected
from schemas.region import region_id
from schemas.request import Split
from schemas.score import IMAGE_SCORES, REGION_SCORES
from training.reward.instructions import CARRIED_OUT, CLASSES, SWAP_SHARE, Swap, classes_of, swaps, wordings
from training.reward.model import ASKED, SHOWN, Inputs
from training.reward.text import encode, place_of, words_of
from training.reward.views import View, view_of
from training.reward_protocol import RewardQuery

NOT_TOLD = -100
_MIRRORED = {"left": "right", "right": "left"}
_MIRRORED_WORDS = re.compile(r"\b(left|right)\b")
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Item:
    """One candidate. region_scores: (R, 2) and image_scores: (5,) in 0..25, NaN where missing.

    asked, done: (R, 4) and shown: (R, 2) classes of `ASKED`, what was asked and what was done where that is known, and
    of `SHOWN`; labels: what the request calls each region, '' for
    one that nobody planned; wordings: other ways to give the same instruction, where it is of the product's own making;
    swaps: other instructions, likewise.
    """

    key: str
    request: str
    view: View
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


def item_of(row: DatasetRow, members: dict[str, bytes], side_px: int, *, use_source: bool = True) -> Item:
    """A sample of a dataset as a training item."""
    planned = {region_id(row.request, index): index for index in range(len(row.targets))}
    regions = [[_number(getattr(region, name)) for name in REGION_SCORES] for region in row.regions]
    asked = _classes([_asked(row, planned.get(region.region)) for region in row.regions], len(ASKED))
    carried_out = np.array([(region.success or 0) >= CARRIED_OUT for region in row.regions], dtype=np.bool_)
    return Item(
        key=row.key,
        request=row.request,
        view=view_of(query_of(row, members), side_px, use_source=use_source),
        region_scores=np.array(regions, dtype=np.float32).reshape(-1, len(REGION_SCORES)),
        image_scores=np.array([_number(getattr(row, name)) for name in IMAGE_SCORES], dtype=np.float32),
        asked=asked,
        done=np.where(carried_out[:, None] & (asked > 0), asked, NOT_TOLD),
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
    """The classes of `ASKED` of one region, `NOT_TOLD` for one that nobody planned."""
    if target is None:
        return [NOT_TOLD] * len(ASKED)
    return classes_of(row.targets[target])


def _shown(row: DatasetRow, target: int | None) -> list[int]:
    """The classes of `SHOWN` of a region that the source holds, from the words of its label; else `NOT_TOLD`."""
    told = [NOT_TOLD] * len(SHOWN)
    if target is None or row.targets[target].role == "add":
        return told
    words = words_of(row.targets[target].label)
    for place, name in enumerate(SHOWN):
        found = [CLASSES[name].index(word) + 1 for word in words if word in CLASSES[name]]
        told[place] = found[0] if found else NOT_TOLD
    return told


def load_items(
    dataset: Path, split: Split, side_px: int, *, use_source: bool = True, max_missing_share: float = 0.2
) -> tuple[list[Item], Counts]:
    """All candidates of a split, in the order of the tars, and what was missing.

    Raises: BadInput for a dataset without scores or a split without rows; TooManyRejected where more than
    `max_missing_share` of the scores are missing.
    """
    counts, items = Counts(), list[Item]()
    for _, row, members in read_dataset(dataset, split):
        item = item_of(row, members, side_px, use_source=use_source)
        count_scores(counts, row, item)
        items.append(item)
    check_counts(counts, f"{dataset}, split {split}", max_missing_share)
    return items, counts


def count_scores(counts: Counts, row: DatasetRow, item: Item) -> None:
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


def mirrored(item: Item) -> Item:
    """`item` seen in a mirror, its instruction too; an item with lettering is returned as it is."""
    view = item.view
    if '"' in view.instruction:
        return item
    geometry = view.geometry.copy()
    geometry[:, 0] *= -1
    seen = replace(
        view,
        instruction=_MIRRORED_WORDS.sub(lambda word: _MIRRORED[word.group()], view.instruction),
        source=view.source[:, ::-1],
        edited=view.edited[:, ::-1],
        maps=view.maps[:, ::-1],
        places=view.places[..., ::-1],
        geometry=geometry,
    )
    return replace(item, view=seen)


class Batch(NamedTuple):
    """Views as tensors, with what the losses need. R: most regions of an item in the batch."""

    inputs: Inputs
    region_scores: Tensor
    """(B, R, 2) as shares of 25, NaN where missing or absent"""
    image_scores: Tensor
    """(B, 5) as shares, NaN where missing"""
    asked: Tensor
    """(B, R, 4) classes, -100 where not told"""
    done: Tensor
    """(B, R, 4) classes, -100 where not known"""
    shown: Tensor
    """(B, R, 2) classes, -100 where not told"""
    named: Tensor
    """(B, R, T) bool: the words of the instruction that name the region"""
    region_group: Tensor
    """(B, R): the same number for the same planned region of the same request, -1 where absent"""
    image_group: Tensor
    """(B,): the same number for the same request"""


def views_to_inputs(views: Sequence[View]) -> Inputs:
    """A batch of views; absent regions are rows without mass, the background is the last row of each."""
    most = max(len(view.keys) for view in views)

    def rows(name: str) -> Tensor:
        first = getattr(views[0], name)
        out = np.zeros((len(views), most + 1, *first.shape[1:]), dtype=np.float32)
        for i, view in enumerate(views):
            array = getattr(view, name)
            out[i, : len(view.keys)] = array[:-1]
            out[i, most] = array[-1]
        return torch.from_numpy(out)

    def images(name: str) -> Tensor:
        stacked = np.stack([getattr(view, name) for view in views]).transpose(0, 3, 1, 2)
        return torch.from_numpy(np.ascontiguousarray(stacked))

    return Inputs(
        source=images("source").float() / 255 - 0.5,
        edited=images("edited").float() / 255 - 0.5,
        maps=images("maps").float(),
        places=rows("places"),
        means=rows("means"),
        spreads=rows("spreads"),
        geometry=rows("geometry"),
        words=encode([view.instruction for view in views]),
    )


def collate(items: Sequence[Item]) -> Batch:
    """A batch of items."""
    inputs = views_to_inputs([item.view for item in items])
    shape = (len(items), inputs.places.shape[1] - 1)
    scores = np.full((*shape, len(REGION_SCORES)), np.nan, dtype=np.float32)
    asked = np.full((*shape, len(ASKED)), NOT_TOLD, dtype=np.int64)
    done = np.full_like(asked, NOT_TOLD)
    shown = np.full((*shape, len(SHOWN)), NOT_TOLD, dtype=np.int64)
    named = np.zeros((*shape, inputs.words.shape[1]), dtype=np.bool_)
    groups = np.full(shape, -1, dtype=np.int64)
    numbers: dict[tuple[str, str], int] = {}
    for i, item in enumerate(items):
        count = len(item.view.keys)
        scores[i, :count], asked[i, :count] = item.region_scores, item.asked
        done[i, :count], shown[i, :count] = item.done, item.shown
        words = words_of(item.view.instruction)
        for r, label in enumerate(item.labels):
            named[i, r, list(place_of(words, words_of(label)))] = True
        for r, key in enumerate(item.view.keys):
            groups[i, r] = numbers.setdefault((item.request, key), len(numbers))
    requests = {item.request: n for n, item in enumerate(items)}
    return Batch(
        inputs=inputs,
        region_scores=torch.from_numpy(scores) / 25,
        image_scores=torch.from_numpy(np.stack([item.image_scores for item in items])) / 25,
        asked=torch.from_numpy(asked),
        done=torch.from_numpy(done),
        shown=torch.from_numpy(shown),
        named=torch.from_numpy(named),
        region_group=torch.from_numpy(groups),
        image_group=torch.tensor([requests[item.request] for item in items]),
    )


def by_request(items: Sequence[Item]) -> list[list[Item]]:
    """The candidates of each request together, in order of first appearance."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.request, []).append(item)
    return list(groups.values())


def training_batches(
    groups: Sequence[Sequence[Item]], requests: int, seed: int, start: int, stop: int
) -> Iterator[list[Item]]:
    """Batches number `start` .. `stop` of an endless stream of shuffled epochs; number n does not depend on `start`."""
    per_epoch = max(1, len(groups) // requests)
    for number in range(start, stop):
        epoch, place = divmod(number, per_epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(groups))
        chosen = order[place * requests : (place + 1) * requests]
        rng = np.random.default_rng([seed, epoch, place])
        yield [varied(item, rng) for index in chosen for item in groups[int(index)]]


def varied(item: Item, rng: np.random.Generator) -> Item:
    """`item`, or its mirror image, in one of its wordings or under another instruction."""
    flip, wording = rng.random() < 0.5, int(rng.integers(len(item.wordings) + 1))
    swap = item.swaps[int(rng.integers(len(item.swaps)))] if item.swaps and rng.random() < SWAP_SHARE else None
    if swap is not None:
        item = swapped(item, swap)
    elif wording < len(item.wordings):
        item = replace(item, view=replace(item.view, instruction=item.wordings[wording]))
    return mirrored(item) if flip else item


def swapped(item: Item, swap: Swap) -> Item:
    """`item` judged under another instruction: a request of its own, and the whole image's success is not known."""
    region_scores, image_scores, asked = item.region_scores.copy(), item.image_scores.copy(), item.asked.copy()
    region_scores[swap.region, REGION_SCORES.index("success")] *= swap.success_left
    image_scores[IMAGE_SCORES.index("success")] = np.nan
    asked[swap.region] = swap.asked
    return replace(
        item,
        request=f"{item.request} {swap.instruction}",
        view=replace(item.view, instruction=swap.instruction),
        region_scores=region_scores,
        image_scores=image_scores,
        asked=asked,
    )
