"""Training items and features of queries as batches of tensors; batches hold whole requests."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from schemas.score import REGION_SCORES, SCORE_MAX
from training.reward.augmentation import varied
from training.reward.data import UNKNOWN, TrainingItem
from training.reward.features import Features
from training.reward.network_io import ASKED, SHOWN, NetworkInputs
from training.reward.text_encoding import encode, place_of, words_of


class RewardBatch(NamedTuple):
    """Features as tensors, with what the losses need. R: most regions of an item in the batch."""

    inputs: NetworkInputs
    region_scores: Tensor
    """(B, R, 2) as shares of 25, NaN where missing or absent"""
    image_scores: Tensor
    """(B, 5) as shares, NaN where missing"""
    asked: Tensor
    """(B, R, 4) classes, -100 where unknown"""
    done: Tensor
    """(B, R, 4) classes, -100 where unknown"""
    shown: Tensor
    """(B, R, 2) classes, -100 where unknown"""
    named: Tensor
    """(B, R, T) bool: the words of the instruction that name the region"""
    region_group: Tensor
    """(B, R): the same number for the same planned region of the same request, -1 where absent"""
    image_group: Tensor
    """(B,): the same number for the same request"""


def features_to_inputs(batch: Sequence[Features]) -> NetworkInputs:
    """Features of several queries as one batch of tensors.

    Absent regions are rows without mass; the background is the last row of each query.
    """
    most = max(len(features.keys) for features in batch)

    def rows(name: str) -> Tensor:
        first = getattr(batch[0], name)
        out = np.zeros((len(batch), most + 1, *first.shape[1:]), dtype=np.float32)
        for i, features in enumerate(batch):
            array = getattr(features, name)
            out[i, : len(features.keys)] = array[:-1]
            out[i, most] = array[-1]
        return torch.from_numpy(out)

    def images(name: str) -> Tensor:
        stacked = np.stack([getattr(features, name) for features in batch]).transpose(0, 3, 1, 2)
        return torch.from_numpy(np.ascontiguousarray(stacked))

    return NetworkInputs(
        source=images("source").float() / 255 - 0.5,
        edited=images("edited").float() / 255 - 0.5,
        maps=images("maps").float(),
        places=rows("places"),
        means=rows("means"),
        spreads=rows("spreads"),
        geometry=rows("geometry"),
        words=encode([features.instruction for features in batch]),
    )


def collate(items: Sequence[TrainingItem]) -> RewardBatch:
    """One batch of several items."""
    inputs = features_to_inputs([item.features for item in items])
    shape = (len(items), inputs.places.shape[1] - 1)
    scores = np.full((*shape, len(REGION_SCORES)), np.nan, dtype=np.float32)
    asked = np.full((*shape, len(ASKED)), UNKNOWN, dtype=np.int64)
    done = np.full_like(asked, UNKNOWN)
    shown = np.full((*shape, len(SHOWN)), UNKNOWN, dtype=np.int64)
    named = np.zeros((*shape, inputs.words.shape[1]), dtype=np.bool_)
    groups = np.full(shape, -1, dtype=np.int64)
    numbers: dict[tuple[str, str], int] = {}
    for i, item in enumerate(items):
        count = len(item.features.keys)
        scores[i, :count], asked[i, :count] = item.region_scores, item.asked
        done[i, :count], shown[i, :count] = item.done, item.shown
        words = words_of(item.features.instruction)
        for r, label in enumerate(item.labels):
            named[i, r, list(place_of(words, words_of(label)))] = True
        for r, key in enumerate(item.features.keys):
            groups[i, r] = numbers.setdefault((item.request, key), len(numbers))
    requests = {item.request: n for n, item in enumerate(items)}
    return RewardBatch(
        inputs=inputs,
        region_scores=torch.from_numpy(scores) / SCORE_MAX,
        image_scores=torch.from_numpy(np.stack([item.image_scores for item in items])) / SCORE_MAX,
        asked=torch.from_numpy(asked),
        done=torch.from_numpy(done),
        shown=torch.from_numpy(shown),
        named=torch.from_numpy(named),
        region_group=torch.from_numpy(groups),
        image_group=torch.tensor([requests[item.request] for item in items]),
    )


def by_request(items: Sequence[TrainingItem]) -> list[list[TrainingItem]]:
    """The candidates of each request together, in order of first appearance."""
    groups: dict[str, list[TrainingItem]] = {}
    for item in items:
        groups.setdefault(item.request, []).append(item)
    return list(groups.values())


def training_batches(
    groups: Sequence[Sequence[TrainingItem]], requests: int, seed: int, start: int, stop: int
) -> Iterator[list[TrainingItem]]:
    """Batches number `start` .. `stop` of an endless stream of shuffled epochs; number n does not depend on `start`."""
    per_epoch = max(1, len(groups) // requests)
    for number in range(start, stop):
        epoch, place = divmod(number, per_epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(groups))
        chosen = order[place * requests : (place + 1) * requests]
        rng = np.random.default_rng([seed, epoch, place])
        yield [varied(item, rng) for index in chosen for item in groups[int(index)]]
