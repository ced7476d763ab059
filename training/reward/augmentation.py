"""Variations of a training item: its mirror image, another wording of its instruction, another instruction.

Mirrored items say "left" where they said "right"; those with lettering are not mirrored.
"""

import re
from dataclasses import replace

import numpy as np

from schemas.score import IMAGE_SCORES, REGION_SCORES
from training.reward.data import TrainingItem
from training.reward.instruction_variants import SWAP_SHARE, Swap

_MIRRORED = {"left": "right", "right": "left"}
_MIRRORED_WORDS = re.compile(r"\b(left|right)\b")


def mirrored(item: TrainingItem) -> TrainingItem:
    """`item` seen in a mirror, its instruction too; an item with lettering is returned as it is."""
    features = item.features
    if '"' in features.instruction:
        return item
    geometry = features.geometry.copy()
    geometry[:, 0] *= -1
    seen = replace(
        features,
        instruction=_MIRRORED_WORDS.sub(lambda word: _MIRRORED[word.group()], features.instruction),
        source=features.source[:, ::-1],
        edited=features.edited[:, ::-1],
        maps=features.maps[:, ::-1],
        places=features.places[..., ::-1],
        geometry=geometry,
    )
    return replace(item, features=seen)


def varied(item: TrainingItem, rng: np.random.Generator) -> TrainingItem:
    """`item`, or its mirror image, in one of its wordings or under another instruction."""
    flip, wording = rng.random() < 0.5, int(rng.integers(len(item.wordings) + 1))
    swap = item.swaps[int(rng.integers(len(item.swaps)))] if item.swaps and rng.random() < SWAP_SHARE else None
    if swap is not None:
        item = swapped(item, swap)
    elif wording < len(item.wordings):
        item = replace(item, features=replace(item.features, instruction=item.wordings[wording]))
    return mirrored(item) if flip else item


def swapped(item: TrainingItem, swap: Swap) -> TrainingItem:
    """`item` judged under another instruction: a request of its own, and the whole image's success is not known."""
    region_scores, image_scores, asked = item.region_scores.copy(), item.image_scores.copy(), item.asked.copy()
    region_scores[swap.region, REGION_SCORES.index("success")] *= swap.success_left
    image_scores[IMAGE_SCORES.index("success")] = np.nan
    asked[swap.region] = swap.asked
    return replace(
        item,
        request=f"{item.request} {swap.instruction}",
        features=replace(item.features, instruction=swap.instruction),
        region_scores=region_scores,
        image_scores=image_scores,
        asked=asked,
    )
